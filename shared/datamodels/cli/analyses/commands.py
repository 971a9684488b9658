"""Declare the commands about results, but for those of `datamodels query`."""

from __future__ import annotations

import argparse
from pathlib import Path

from datamodels.analyze.patterns.names import BY_INPUTS, BY_WEIGHTS, GROUPS
from datamodels.baselines.methods import LIME_MODELS, LIME_SAMPLES, METHODS, TRAININGS
from datamodels.cli.analyses.questions import COLUMNS, SUBSET
from datamodels.cli.common.options import (
    Subparsers,
    add_command,
    add_count,
    add_json,
    add_price,
    add_quiet,
    add_run,
    add_service,
    add_targets,
    add_threshold,
    add_trust,
    between,
    number,
    numbers,
    positive,
    positives,
    set_parameters,
    share,
    suggest,
    whole,
    words,
)

REMOVED = (10, 20, 40, 80)
"""Numbers of examples that `compare` removes by default."""


def register(subparsers: Subparsers) -> None:
    """Add the commands to those of `datamodels`."""
    _add_report(subparsers)
    _add_evaluate(subparsers)
    _add_curve(subparsers)
    _add_compare(subparsers)
    _add_lime(subparsers)
    _add_review(subparsers)
    _add_groups(subparsers)
    _add_supports(subparsers)


def _add_report(subparsers: Subparsers) -> None:
    what = "write the results of a run as one HTML page"
    parser = add_command(subparsers, "report", what, "datamodels.cli.analyses.report:report")
    add_run(parser)
    parser.add_argument("--output", metavar="FILE", help="HTML file to write (default: HOME/reports/RUN.html)")
    parser.add_argument(
        "--compared", metavar="FILE", type=Path, help="file with the output of `datamodels compare RUN --json`, to show"
    )
    parser.add_argument(
        "--lime",
        metavar="N",
        type=positive,
        default=0,
        help=f"explain N targets by their pixels, features or tokens, too; trains {LIME_MODELS} models (default: none)",
    )
    add_trust(parser)
    add_threshold(parser)
    add_service(parser)
    add_json(parser)


def _add_evaluate(subparsers: Subparsers) -> None:
    what = "measure how well the newest fit predicts the outputs of models trained on unseen subsets"
    parser = add_command(subparsers, "evaluate", what, "datamodels.cli.analyses.evaluate:evaluate")
    add_run(parser)
    parser.add_argument(
        "--alpha",
        metavar="A,A",
        type=numbers,
        default=(),
        help="fractions of the pool, e.g. 0.75,1; trains models on each, here, and compares predictions with them",
    )
    parser.add_argument(
        "--models", metavar="R", type=whole, default=20, help="models to train for each fraction (default: %(default)s)"
    )
    add_trust(parser)
    add_service(parser)
    add_json(parser)


def _add_curve(subparsers: Subparsers) -> None:
    what = "show the LDS of fits of fewer models, and forecast that of more"
    parser = add_command(subparsers, "curve", what, "datamodels.cli.analyses.curve:curve")
    add_run(parser)
    parser.add_argument(
        "--lds",
        metavar="LDS",
        type=between,
        help="forecast how many models reach this LDS, between 0 and 1, too, and what they cost",
    )
    add_price(parser)
    add_trust(parser)
    add_service(parser)
    add_json(parser, lines=True)


def _add_compare(subparsers: Subparsers) -> None:
    what = "compare datamodels with other attribution methods: on unseen subsets, and by retraining"
    methods = "\n".join(f"  {name:<17}{method.what}" for name, method in METHODS.items())
    notes = f"methods to compare with:\n{methods}"
    parser = add_command(subparsers, "compare", what, "datamodels.cli.analyses.compare:compare", notes=notes)
    add_run(parser)
    parser.add_argument(
        "--targets",
        metavar="N",
        type=whole,
        default=100,
        help="targets to test by retraining, spread evenly; those that models get wrong anyway are left out; 0 to "
        "measure LDS alone (default: %(default)s)",
    )
    add_count(parser, "--models", 20, "models to train on the whole pool, for methods that need gradients")
    add_count(parser, "--trainings", TRAININGS, "trainings to differentiate through, for magic")
    what = "models to train without the removed examples, to see whether the target goes wrong"
    set_parameters(add_count(parser, "--retrain", 10, what), "models")
    parser.add_argument(
        "--remove",
        metavar="K,K",
        type=positives,
        default=REMOVED,
        help=f"how many of the most helpful examples of a target to remove (default: {','.join(map(str, REMOVED))})",
    )
    parser.add_argument(
        "--baselines",
        metavar="NAME,NAME",
        type=words,
        help="methods to compare with, from the list below (default: all that the trainer of the run allows)",
    )
    parser.add_argument(
        "--layers",
        metavar="NAME,NAME",
        type=words,
        default=(),
        help="layers whose weights gradients are by, for large networks: names, or patterns such as 'head.*' "
        "(default: all; representations and last_layer always use the last layer)",
    )
    parser.add_argument("--rivals", dest="baselines", type=words, help=argparse.SUPPRESS)
    add_trust(parser)
    add_threshold(parser)
    add_service(parser)
    add_quiet(parser)
    add_json(parser, lines=True)


def _add_lime(subparsers: Subparsers) -> None:
    what = "show which pixels, features or tokens of a target, not which examples, explain the output of models"
    parser = add_command(subparsers, "lime", what, "datamodels.cli.analyses.lime:explain")
    add_run(parser)
    parser.add_argument("target", metavar="TARGET", type=whole, help="number of the target")
    add_count(parser, "--models", LIME_MODELS, "models to train on the whole pool; their mean output is explained")
    add_count(parser, "--samples", LIME_SAMPLES, "inputs with parts blanked at random, at least two for each part")
    add_trust(parser)
    add_service(parser)
    add_json(parser)


def _add_review(subparsers: Subparsers) -> None:
    what = "review the training data: what helps and harms, fragile targets, suspected wrong labels and leaks"
    review = add_command(subparsers, "review", what, "datamodels.cli.analyses.review:review_run")
    review.add_argument(
        "--fragile",
        metavar="X",
        type=share,
        default=0.05,
        help="a target is fragile if it goes wrong without this fraction of the pool, or less (default: %(default)g)",
    )
    add_threshold(review)
    review.add_argument("--brittle", dest="fragile", type=share, default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    what = "list test examples that are in the training pool, or nearly"
    leakage = add_command(subparsers, "leakage", what, "datamodels.cli.analyses.review:leaks")
    leakage.add_argument(
        "--by",
        choices=(BY_INPUTS, BY_WEIGHTS),
        help="what to compare (default: inputs if the data set can be loaded here, else weights)",
    )
    add_trust(leakage)
    for parser in (review, leakage):
        add_run(parser)
        parser.add_argument(
            "-k", metavar="K", type=whole, default=10, help="rows to show of a table (default: %(default)s)"
        )
        add_service(parser)
        add_json(parser, lines=parser is leakage)


def _add_groups(subparsers: Subparsers) -> None:
    what = "group targets that depend on the same training examples"
    clusters = add_command(subparsers, "clusters", what, "datamodels.cli.analyses.groups:clusters")
    what = "show the principal components of the weights"
    components = add_command(subparsers, "components", what, "datamodels.cli.analyses.groups:components")
    what = "find groups of training examples that harm groups of targets"
    conflicts = add_command(subparsers, "conflicts", what, "datamodels.cli.analyses.groups:conflicts")
    for parser in (clusters, conflicts):
        parser.add_argument(
            "-k", metavar="K", type=whole, default=0, help="number of clusters (default: 0, chosen by the eigengap)"
        )
    components.add_argument(
        "-k", metavar="K", type=whole, default=5, help="number of components (default: %(default)s)"
    )
    components.add_argument(
        "--extremes", metavar="E", type=whole, default=10, help="members to show at each end (default: %(default)s)"
    )
    for parser, what in ((clusters, "group"), (components, "show components of")):
        parser.add_argument("--columns", action="store_true", help=f"{what} the training examples, not the targets")
    groups = conflicts.add_argument(
        "--groups", metavar="NAME", default=GROUPS[0], help=f"{' or '.join(GROUPS)} (default: %(default)s)"
    )
    suggest(groups, GROUPS)
    for parser in (clusters, components, conflicts):
        add_run(parser)
        add_service(parser)
        add_json(parser)


def _add_supports(subparsers: Subparsers) -> None:
    what = "find the smallest set of training examples without which models get a target wrong"
    support = add_command(subparsers, "support", what, "datamodels.cli.analyses.support:supports")
    what = "predict the outputs of models trained without some examples, or with others"
    changed = add_command(
        subparsers, "counterfactual", what, "datamodels.cli.analyses.support:counterfactual", notes=COLUMNS
    )
    for parser in (support, changed):
        add_run(parser)
        add_targets(parser)
        verify = parser.add_argument(
            "--verify",
            metavar="R",
            type=whole,
            help="check the answer: train R models on each set, and with nothing changed, on this machine",
        )
        set_parameters(verify, "models")
        add_threshold(parser)
    support.add_argument(
        "--limit", metavar="K", type=whole, default=0, help="size of the largest set (default: 0, a fifth of the pool)"
    )
    support.add_argument(
        "--safety",
        metavar="X",
        type=number,
        default=0.0,
        help="how far past the threshold the predicted output must be (default: %(default)g)",
    )
    support.add_argument("--mislabel", action="store_true", help="find labels to change instead of examples to remove")
    for name, what in (
        ("--remove", "columns to remove"),
        ("--add", "columns to add"),
        ("--base", "columns to start from (default: the whole pool)"),
        ("--relabel", "columns that get another label, with twice the effect of removal"),
    ):
        changed.add_argument(name, metavar="SUBSET", help=f"{what}: {SUBSET}")
    changed.add_argument("--label", metavar="CLASS", type=whole, help="number of the class they get, for --verify")
    for parser in (support, changed):
        add_trust(parser)
        add_service(parser)
        add_json(parser, lines=True)
