"""Declare the commands of `datamodels query`."""

from __future__ import annotations

import argparse

from datamodels.analyze.patterns.names import METRICS
from datamodels.cli.common.options import (
    Subparsers,
    add_command,
    add_group,
    add_json,
    add_run,
    add_service,
    add_targets,
    set_parameters,
    suggest,
    whole,
)

SUBSET = "1,2,5-9, or @FILE with such numbers, separated by commas or white space"
"""How a set of columns is written; `cli.analyses.ask.columns` parses it."""
COLUMNS = "A column is a training example or, in a grouped design, a group of examples."
"""Text for the help of commands that take columns."""


def register(subparsers: Subparsers) -> None:
    """Add `query` to the commands of `datamodels`."""
    below = add_group(subparsers, "query", "ask for the weights and predictions of a run", "QUESTION")
    _add(below, "runs", "list the runs")
    add_run(_add(below, "run", "describe a run"))
    add_run(_add(below, "targets", "list the targets of a run, with lambda, duality gap and quality of the fit"))
    top = _add(below, "top", "list the training examples that help and harm a target most")
    _add_target(top)
    top.add_argument("-k", metavar="K", type=whole, default=10, help="examples of each kind (default: %(default)s)")
    what = "list the targets whose weights are most similar to those of a target"
    similar = _add(below, "similar", what, notes=COLUMNS)
    _add_target(similar)
    similar.add_argument("-k", metavar="K", type=whole, default=10, help="targets to list (default: %(default)s)")
    metric = similar.add_argument(
        "--metric",
        metavar="NAME",
        default=METRICS[0],
        help=f"similarity of weights: {' or '.join(METRICS)} (default: %(default)s)",
    )
    suggest(metric, METRICS)
    similar.add_argument("--column", action="store_true", help="TARGET is a training column; list similar columns")
    weights = _add(below, "weights", "print the weights of targets")
    add_run(weights)
    add_targets(weights)
    largest = weights.add_argument(
        "-k", metavar="K", type=whole, default=0, help="print only the K largest of each target (default: 0, all)"
    )
    set_parameters(largest, "top_k")
    predict = _add(below, "predict", "predict the outputs of a model that is trained on a subset", notes=COLUMNS)
    add_run(predict)
    predict.add_argument("subset", metavar="SUBSET", help=f"columns to train on: {SUBSET}")
    add_targets(predict)
    for name, parser in below.choices.items():
        add_service(parser)
        add_json(parser, lines=name != "run")


def _add(below: Subparsers, name: str, what: str, *, notes: str | None = None) -> argparse.ArgumentParser:
    return add_command(below, name, what, f"datamodels.cli.analyses.ask:{name}", notes=notes)


def _add_target(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    parser.add_argument("target", metavar="TARGET", type=whole, help="number of the target")
