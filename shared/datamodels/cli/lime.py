"""`datamodels lime`: which parts of a target made models say this, where datamodels say which examples. No service."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from typing import Any

from datamodels import run as runs
from datamodels.analyze.interval import LEVEL
from datamodels.rivals import lime
from datamodels.rivals.lime import Explanation
from datamodels.settings import TrainerSettings
from datamodels.train.data import Dataset
from datamodels.train.device import limit_threads

SHOWN = 10


def add_arguments(parser: argparse.ArgumentParser, positive: Callable[[str], int]) -> None:
    parser.add_argument("run", metavar="RUN", help="the run's name")
    parser.add_argument("target", metavar="TARGET", type=int, help="the target's number")
    for name, default, what in (
        ("models", lime.MODELS, "trained on the whole pool, whose mean output is explained"),
        ("samples", lime.SAMPLES, "inputs with parts blanked at random, at least two for each part"),
    ):
        text = f"{what} (default: {default})"
        parser.add_argument(f"--{name}", metavar="N", type=positive, default=default, help=text)
    parser.add_argument("--json", action="store_true", help="one JSON object, with all parts")


def command(options: argparse.Namespace) -> None:
    """Prints the parts that matter most."""
    run = runs.read(options.store_of(options), options.run)
    dataset = runs.load_dataset(run.spec)
    limit_threads(TrainerSettings.load().threads)
    (found,) = lime.explain(run, dataset, [options.target], models=options.models, samples=options.samples)
    said = document(options.target, found, dataset)
    print(json.dumps(said) if options.json else "\n".join(lines(said)))


def document(target: int, found: Explanation, dataset: Dataset) -> dict[str, Any]:
    """What is found, as JSON values; the strongest parts first."""
    names = lime.names_of(dataset)
    parts = (
        {"part": names[part], "weight": float(found.weights[part]), "interval": found.interval[part].tolist()}
        for part in found.strongest
    )
    figures = {"output": found.output, "r2": found.r2, "models": found.models, "samples": found.samples}
    return {"target": target} | figures | {"parts": list(parts)}


def lines(said: dict[str, Any]) -> Iterator[str]:
    """The first of the parts of a `document`, as a table."""
    parts = said["parts"]
    yield f"target     {said['target']}"
    yield f"output     {said['output']:.3f}  (mean of {said['models']} models of the whole pool)"
    yield f"r2         {said['r2']:.3f}  (of {len(parts)} parts added up, over {said['samples']:,} samples)"
    yield ""
    width = max(len("part"), *(len(part["part"]) for part in parts[:SHOWN]))
    yield f"{'part':<{width}}{'weight':>9}  {LEVEL:.0%} interval"
    for part in parts[:SHOWN]:
        low, high = part["interval"]
        yield f"{part['part']:<{width}}{part['weight']:>+9.3f}  {low:+.3f} to {high:+.3f}"
    if len(parts) > SHOWN:
        yield f"and {len(parts) - SHOWN} more"
