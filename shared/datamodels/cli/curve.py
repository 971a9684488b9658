"""`datamodels curve`: LDS by number of models, and what more would bring. Needs no service."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator, Sequence
from typing import Any

from datamodels import run as runs
from datamodels.analyze import curve
from datamodels.analyze.curve import Estimate, Point
from datamodels.analyze.interval import LEVEL


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="the run's name")
    parser.add_argument("--lds", metavar="LDS", type=_lds, help="also say how many models this LDS takes")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")


def _lds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: must be a number between 0 and 1")
    return value


def command(options: argparse.Namespace) -> None:
    """Prints one line for each number of models."""
    store = options.store_of(options)
    points = curve.of_newest_fit(store, runs.read(store, options.run))
    shown = map(json.dumps, documents(points, options.lds)) if options.json else lines(points, options.lds)
    print("\n".join(shown))


def documents(points: Sequence[Point], lds: float | None = None) -> Iterator[dict[str, Any]]:
    """The points; each with what the points before it foretold; then what is to come. JSON has no infinity: null."""
    for i, point in enumerate(points):
        before = curve.trend(points[:i])
        yield {
            "models": point.models,
            "lds": point.lds,
            "interval": list(point.interval),
            "foretold": _fields(before and before.at(point.models)),
        }
    trend = curve.trend(points)
    if trend is None:
        return
    for times in (2, 4):
        models = times * points[-1].models
        yield {"models": models, "lds": None, "interval": None, "foretold": _fields(trend.at(models))}
    if lds is not None:
        yield {"wanted_lds": lds, "models": _fields(trend.models_for(lds))}


def _fields(estimate: Estimate | None) -> dict[str, float | None] | None:
    if estimate is None:
        return None
    found = {name: getattr(estimate, name) for name in ("value", "low", "high")}
    return {name: value if math.isfinite(value) else None for name, value in found.items()}


def lines(points: Sequence[Point], lds: float | None = None) -> Iterator[str]:
    """The same as a table."""
    yield f"{'models':>10}  LDS    {f'{LEVEL:.0%} interval':16}  foretold by the points before"
    for row in documents(points):
        measured = f"{row['lds']:.3f}  {_span(*row['interval']):16}" if row["lds"] is not None else " " * 23
        foretold = row["foretold"]
        told = f"{foretold['value']:.3f}  {_span(foretold['low'], foretold['high'])}" if foretold else ""
        yield f"{row['models']:>10,}  {measured}  {told}".rstrip()
    trend = curve.trend(points)
    if trend is None:
        yield "too few points to say what more models would bring"
    elif lds is not None:
        needed = trend.models_for(lds)
        yield f"LDS {lds:g} takes {_count(needed.value)} models ({_count(needed.low)} to {_count(needed.high)})"


def _span(low: float, high: float) -> str:
    return f"{low:.3f} to {high:.3f}"


def _count(models: float) -> str:
    return f"{models:,.0f}" if math.isfinite(models) else "more than any number of"
