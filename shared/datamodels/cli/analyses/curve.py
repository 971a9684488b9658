"""Run `datamodels curve`: show LDS by number of models, and forecast it for more. It needs no service."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from typing import Any

from datamodels.aggregate import manifest
from datamodels.analyze.quality import trend as forms
from datamodels.analyze.quality.curve import of_newest_fit
from datamodels.analyze.quality.interval import LEVEL, Estimate
from datamodels.analyze.quality.trend import Point
from datamodels.cli.common.output import print_json, span
from datamodels.cli.common.source import source_of
from datamodels.cli.common.spending import duration, money
from datamodels.fit.data import examples
from datamodels.fit.job.finished import require_fit
from datamodels.plan.cost import Estimate as Spending
from datamodels.run import runs


def curve(options: argparse.Namespace) -> None:
    """Print one line for each number of models."""
    with source_of(options) as store:
        run = runs.read(store, options.run)
        examples.write_from_spec(store, require_fit(store, run.name).of(run))  # fits by earlier versions stored none
        points = of_newest_fit(store, run)
        pace = manifest.read_newest(store, run.name).pace
    if options.json:
        print_json(*documents(points, options.lds, pace))
        return
    print("\n".join(lines(points, options.lds)))
    costs = "" if options.lds is None else spent(points, options.lds, pace, options)
    if costs:
        print(costs)


def documents(points: Sequence[Point], lds: float | None = None, pace: float | None = None) -> Iterator[dict[str, Any]]:
    """Yield each point with its forecast by the points before it, then forecasts for 2 and 4 times as many models.

    With `lds`, the last document forecasts the number of models for it, and the hours that trainers take for them if
    `pace`, the seconds of a model, is known. JSON has no infinity: such numbers are None.
    """
    for i, point in enumerate(points):
        before = forms.trend(points[:i])
        yield {
            "models": point.models,
            "lds": point.lds,
            "interval": list(point.interval),
            "forecast": _fields(None if before is None else before.at(point.models)),
        }
    trend = forms.trend(points)
    if trend is None:
        return
    for times in (2, 4):
        models = times * points[-1].models
        yield {"models": models, "lds": None, "interval": None, "forecast": _fields(trend.at(models))}
    if lds is not None:
        needed = trend.models_for(lds)
        hours = {} if pace is None else {"device_hours": _fields(_times(needed, pace / 3600))}
        yield {"wanted_lds": lds, "models": _fields(needed)} | hours


def _fields(estimate: Estimate | None) -> dict[str, float | None] | None:
    if estimate is None:
        return None
    found = {name: getattr(estimate, name) for name in ("value", "low", "high")}
    return {name: value if math.isfinite(value) else None for name, value in found.items()}


def lines(points: Sequence[Point], lds: float | None = None) -> Iterator[str]:
    """Format the `documents` as a table."""
    yield f"{'models':>10}  LDS    {f'{LEVEL:.0%} interval':16}  forecast by the points before"
    for row in documents(points):
        measured = f"{row['lds']:.3f}  {span(row['interval']):16}" if row["lds"] is not None else " " * 23
        forecast = row["forecast"]
        told = f"{forecast['value']:.3f}  {span((forecast['low'], forecast['high']))}" if forecast else ""
        yield f"{row['models']:>10,}  {measured}  {told}".rstrip()
    trend = forms.trend(points)
    if trend is None:
        yield "too few points to forecast the LDS of more models"
    elif lds is not None:
        needed = trend.models_for(lds)
        yield f"LDS {lds:g} {_needed(needed)}"


def spent(points: Sequence[Point], lds: float, pace: float | None, options: argparse.Namespace) -> str:
    """Say what the models for an LDS cost, by the seconds that trainers took for each; empty if that is not known.

    options  those of `money`
    """
    trend = forms.trend(points)
    if trend is None or pace is None:
        return ""
    hours = _times(trend.models_for(lds), pace / 3600)
    if not math.isfinite(hours.value):
        return ""
    spending = Spending(0, hours.value * 3600, 0.0, 0)
    high = f"{hours.high:,.4g}" if math.isfinite(hours.high) else "any number"
    return (
        f"at the {duration(pace)} that trainers took for each, these are {money(spending, options)} ({hours.low:,.4g} "
        f"to {high} device-hours), without those for evaluation"
    )


def _times(estimate: Estimate, factor: float) -> Estimate:
    return Estimate(*(factor * end for end in (estimate.value, estimate.low, estimate.high)))


def _needed(models: Estimate) -> str:
    if math.isinf(models.low):
        return "is out of reach by this forecast, however many models there are"
    low, high = f"{models.low:,.0f}", f"{models.high:,.0f}" if math.isfinite(models.high) else "any number of models"
    if math.isinf(models.value):
        return f"is out of reach by this forecast; at the upper end of its interval it takes {low} models"
    return f"takes {models.value:,.0f} models ({low} to {high})"
