"""`datamodels evaluate`: how good the predictions of a run's newest fit are. Asks the query service."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import math
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from datamodels import run as runs
from datamodels import spec
from datamodels.analyze.agreement import Agreement
from datamodels.analyze.calibration import Calibration, calibrate
from datamodels.analyze.interval import LEVEL
from datamodels.analyze.retrain import Retrainer
from datamodels.cli.ask import Connect, int32
from datamodels.fit import problem
from datamodels.rpc.clients.analyses import Answer, Tell
from datamodels.rpc.clients.query import QueryClient
from datamodels.settings import TrainerSettings
from datamodels.train.device import limit_threads
from datamodels.view import TerminalView, View

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
WORST = 5
"""Targets of lowest LDS that are named."""


def add_arguments(parser: argparse.ArgumentParser, connect: Connect) -> None:
    """`connect` says where the query service is."""
    parser.add_argument("run", metavar="RUN", help="the run's name")
    parser.add_argument("--address", metavar="HOST:PORT", help="of a query service; by default one is started")
    parser.add_argument("--alpha", metavar="A,A", type=_alphas, default=(), help=_ALPHA)
    parser.add_argument("--models", metavar="R", type=int32, default=20, help="how many for each (default: 20)")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.set_defaults(connect=connect)


_ALPHA = "train models on these shares of the pool too, here, and set predictions beside them, e.g. 0.75,1"


def _alphas(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(piece) for piece in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: must be numbers like 0.75,1") from None


def command(options: argparse.Namespace) -> None:
    with (
        options.connect(options) as settings,
        QueryClient(settings.query, settings) as client,
        bar("evaluate") as tell,
    ):
        answer = client.evaluate(options.run, tell=tell)
        found = document(answer)
        if options.alpha:
            found["calibration"] = [dataclasses.asdict(row) for row in _calibrated(client, options)]
    print(json.dumps(finite(found)) if options.json else "\n".join(lines(found)))


def _calibrated(client: QueryClient, options: argparse.Namespace) -> list[Calibration]:
    parsed = spec.parse(json.loads(client.run(options.run).spec_json))
    dataset = runs.load_dataset(parsed)
    run = runs.resolve(parsed, dataset)
    modelled = np.array([target.status not in problem.UNFITTED for target in client.targets(run.name)])
    retrainer = Retrainer(run, dataset, options.models)
    limit_threads(TrainerSettings.load().threads)
    given = {"modelled": modelled, "models": options.models}
    return [
        calibrate(run, retrainer, lambda masks: client.predict(run.name, masks).predictions, **given, alpha=alpha)
        for alpha in options.alpha
    ]


@contextlib.contextmanager
def bar(name: str) -> Iterator[Tell]:
    """What shows how far an analysis is, where standard error is a terminal."""
    view = TerminalView() if sys.stderr.isatty() else View()
    with view.stage(name, "of it") as shown:
        yield lambda stage, fraction: shown.reach(round(fraction, 2), stage)


def basis(answer: Answer[Any]) -> dict[str, Any]:
    """Which fit an answer comes from, and that it is partial, where it is."""
    found = answer.provenance
    fields = {"run": found.run, "fit": found.fit, "models": found.models}
    return fields | ({"partial": True} if found.partial else {})


def document(answer: Answer[Any]) -> dict[str, Any]:
    quality = answer.found
    scored = np.flatnonzero(~np.isnan(quality.evaluation.per_target))
    lds = quality.evaluation.per_target[scored]
    order = np.argsort(lds, kind="stable")[:WORST]
    names = ("lds", "interval", "ceiling", "subsets", "models")
    return basis(answer) | {
        "lds": {name: getattr(quality.evaluation, name) for name in names} | {"targets": len(scored)},
        "quantiles": dict(zip(map(str, QUANTILES), np.quantile(lds, QUANTILES).tolist(), strict=True)),
        "worst": [{"target": t, "lds": v} for t, v in zip(scored[order].tolist(), lds[order].tolist(), strict=True)],
        "r2_of_single_models": _r2(quality.single),
        "r2_of_means": _r2(quality.mean),
        "per_target": quality.evaluation.per_target.tolist(),
    }


def _r2(found: Agreement) -> dict[str, Any]:
    return {name: getattr(found, name) for name in ("models", "r2", "interval", "ceiling")}


def lines(found: dict[str, Any]) -> Iterator[str]:
    """The document for people."""
    lds, single, mean = (found[name] for name in ("lds", "r2_of_single_models", "r2_of_means"))
    yield f"run      {found['run']}, fit {found['fit']} of {found['models']:,} models" + (
        ", which are not all" if "partial" in found else ""
    )
    yield (
        f"LDS      {lds['lds']:.3f}  ({LEVEL:.0%} interval {span(lds['interval'])}; {lds['subsets']} unseen subsets x "
        f"{lds['models']} models, {lds['targets']} targets); noise between halves of the models leaves "
        f"{lds['ceiling']:.3f}"
    )
    quantiles = "  ".join(f"{float(q):.0%} {value:.3f}" for q, value in found["quantiles"].items())
    yield f"targets  LDS quantiles {quantiles}"
    yield "worst    " + "  ".join(f"{row['target']} ({row['lds']:.3f})" for row in found["worst"])
    for row, what in ((mean, f"means of {mean['models']} models"), (single, "single models")):
        yield f"R²       {row['r2']:.3f}  ({span(row['interval'])}) of {what}; chance leaves {row['ceiling']:.3f}"
    for row in found.get("calibration", ()):
        yield (
            f"alpha {row['alpha']:<4g} mean output {row['predicted']:.3f} predicted, {row['true']:.3f} true: bias "
            f"{row['bias']:+.3f} ({span(row['bias_interval'])}), slope {row['slope']:.3f} "
            f"({span(row['slope_interval'])}); {row['models']} models, {row['targets']} targets"
        )


def span(interval: tuple[float, float]) -> str:
    return f"{interval[0]:.3f} to {interval[1]:.3f}"


def finite(value: Any) -> Any:
    """JSON has no NaN and no infinity: null."""
    match value:
        case float():
            return value if math.isfinite(value) else None
        case list() | tuple():
            return [finite(v) for v in value]
        case dict():
            return {name: finite(v) for name, v in value.items()}
    return value
