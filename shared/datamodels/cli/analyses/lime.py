"""Run `datamodels lime`: explain a target by its pixels, features or tokens, not by examples. It needs no service."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from datamodels import words
from datamodels.analyze.quality.interval import LEVEL
from datamodels.baselines import lime
from datamodels.baselines.lime import Explanation
from datamodels.cli.common.output import field_of, output_title, print_json
from datamodels.cli.common.source import source_of
from datamodels.cli.common.training import training
from datamodels.run import runs
from datamodels.settings import TrainerSettings
from datamodels.spans import Span
from datamodels.train.device import limit_threads

SHOWN = 10
"""Parts in the table."""


def explain(options: argparse.Namespace) -> None:
    """Print the parts that matter most."""
    with source_of(options) as store:
        run = runs.read(store, options.run)
    dataset = runs.load_dataset(run.spec)
    limit_threads(TrainerSettings.load().threads)
    with training() as counter:
        (found,) = lime.explain(
            run, dataset, [options.target], models=options.models, samples=options.samples, counter=counter
        )
    said = document(options.target, found, run.output.name)
    said |= {"unit": run.output.unit} if run.output.unit else {}
    said |= field_of(run.spans[options.target] if run.spans else None)
    print_json(said) if options.json else print("\n".join(lines(said)))


def document(target: int, found: Explanation, output: str) -> dict[str, Any]:
    """Convert an explanation to JSON values, the parts with the largest weights first."""
    parts = (
        {"part": found.names[part], "weight": float(found.weights[part]), "interval": found.interval[part].tolist()}
        for part in found.strongest
    )
    figures: dict[str, Any] = {"output": found.output, "output_name": output}
    figures |= {"r2": found.r2, "models": found.models, "samples": found.samples}
    return {"target": target} | figures | {"parts": list(parts)}


def lines(said: dict[str, Any]) -> Iterator[str]:
    """Format a `document` as a table of its first parts."""
    parts = said["parts"]
    yield f"target     {said['target']}" + (f"  {Span(**said['span'])}" if "span" in said else "")
    output = output_title(said | {"output": said["output_name"]})
    of = f"{output}, mean of {words.count(said['models'], 'model')} of the whole pool"
    yield f"output     {words.number(said['output'])}  ({of})"
    yield f"r2         {said['r2']:.3f}  (of the sum of {len(parts)} parts, over {said['samples']:,} samples)"
    yield ""
    width = max(len("part"), *(len(part["part"]) for part in parts[:SHOWN]))
    yield f"{'part':<{width}}{'weight':>10}  {LEVEL:.0%} interval"
    for part in parts[:SHOWN]:
        weight, between = words.number(part["weight"], signed=True), words.interval(part["interval"], signed=True)
        yield f"{part['part']:<{width}}{weight:>10}  {between}"
    if len(parts) > SHOWN:
        yield f"and {len(parts) - SHOWN} more"
