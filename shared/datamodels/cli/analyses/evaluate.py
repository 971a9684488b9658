"""Run `datamodels evaluate`: ask the query service how good the predictions of a run's newest fit are."""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from datamodels import words
from datamodels.analyze.quality.agreement import Agreement
from datamodels.analyze.quality.evaluate import NOT_RANDOM, ceiling, size
from datamodels.analyze.quality.interval import LEVEL
from datamodels.analyze.quality.verdict import of_evaluation
from datamodels.analyze.what_if.calibration import Calibration, calibrate
from datamodels.analyze.what_if.retrain import Retrainer
from datamodels.cli.common.output import basis_line, output_title, print_json, quality, span
from datamodels.cli.common.service import basis, progress, query_client
from datamodels.cli.common.training import training
from datamodels.errors import InputError
from datamodels.fit.data import problem
from datamodels.rpc.clients.analyses import Answer
from datamodels.rpc.clients.query import QueryClient
from datamodels.rpc.codec import from_output
from datamodels.run import runs, specs
from datamodels.settings import TrainerSettings
from datamodels.train.device import limit_threads

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
WORST = 5
"""Targets of the lowest LDS that are listed."""


def evaluate(options: argparse.Namespace) -> None:
    """Print the LDS of the newest fit, its spread over targets, and R². With --alpha, trains models to calibrate."""
    with query_client(options) as client, progress("evaluate") as tell:
        answer = client.evaluate(options.run, tell=tell)
        found = document(answer)
        if options.alpha:
            found["calibration"] = [dataclasses.asdict(row) for row in _calibrated(client, options, found["output"])]
    print_json(found) if options.json else print("\n".join(lines(found)))


def _calibrated(client: QueryClient, options: argparse.Namespace, predicted: str) -> list[Calibration]:
    described = client.run(options.run)
    parsed = specs.parse(json.loads(described.spec_json))
    dataset = runs.load_dataset(parsed)
    run = runs.resolve(parsed, dataset, declared=from_output(described.output))
    if run.output.name != predicted:
        raise InputError(f"--alpha: the newest fit predicts the {predicted}, and models have the {run.output.name}")
    modelled = np.array([target.status not in problem.UNFITTED for target in client.targets(run.name)])
    limit_threads(TrainerSettings.load().threads)
    given = {"modelled": modelled, "models": options.models}
    with training() as counter:
        retrainer = Retrainer(run, dataset, options.models, counter)
        return [
            calibrate(run, retrainer, lambda masks: client.predict(run.name, masks).predictions, **given, alpha=alpha)
            for alpha in options.alpha
        ]


def document(answer: Answer[Any]) -> dict[str, Any]:
    """Convert the answer to JSON values."""
    found = answer.found
    scored = np.flatnonzero(~np.isnan(found.evaluation.per_target))
    lds = found.evaluation.per_target[scored]
    order = np.argsort(lds, kind="stable")[:WORST]
    judged = quality(found.evaluation, of_evaluation(found.evaluation, answer.provenance.models))
    return (
        basis(answer)
        | judged
        | {
            "quantiles": dict(zip(map(str, QUANTILES), np.quantile(lds, QUANTILES).tolist(), strict=True)),
            "worst": [
                {"target": t, "lds": v} for t, v in zip(scored[order].tolist(), lds[order].tolist(), strict=True)
            ],
            "r2_of_single_models": _r2(found.single),
            "r2_of_means": _r2(found.mean),
            "per_target": found.evaluation.per_target.tolist(),
        }
    )


def _r2(found: Agreement) -> dict[str, Any]:
    return {name: getattr(found, name) for name in ("models", "r2", "interval", "ceiling")}


def lines(found: dict[str, Any]) -> Iterator[str]:
    """Format a `document` for people."""
    lds, single, mean = (found[name] for name in ("lds", "r2_of_single_models", "r2_of_means"))
    name, _, rest = basis_line(found).partition(" ")
    yield f"{name:<9}{rest}"
    yield (
        f"LDS      {lds['lds']:.3f}  ({LEVEL:.0%} interval {span(lds['interval'])}; "
        f"{size(lds['subsets'], lds['models'], lds['mean_of'])}, {lds['targets']} targets); noise ceiling "
        f"{ceiling(lds['ceiling'], lds['ceiling_interval'])}, between halves of the models; at best {lds['best']:.3f}"
    )
    yield f"verdict  {found['verdict']['word']}: {found['verdict']['text']}"
    quantiles = "  ".join(f"{float(q):.0%} {value:.3f}" for q, value in found["quantiles"].items())
    yield f"targets  LDS quantiles {quantiles}"
    yield "worst    " + "  ".join(f"{row['target']} ({row['lds']:.3f})" for row in found["worst"])
    for row, what in ((mean, f"means of {mean['models']} models"), (single, "single models")):
        if math.isnan(row["r2"]):
            yield f"R²       is not defined for {what}, since their outputs are the same"
            continue
        random = "training is random" if row["ceiling"] < NOT_RANDOM else "the seed changes nothing"
        best = f"at best {max(0.0, row['ceiling']):.3f}: {random}"  # the estimate from few models may be below 0
        yield f"R²       {row['r2']:.3f}  ({span(row['interval'])}) of {what}; {best}"
    for row in found.get("calibration", ()):
        yield (
            f"alpha {row['alpha']:<4g} mean {output_title(found)} {words.number(row['predicted'])} predicted, "
            f"{words.number(row['true'])} true: bias {words.number(row['bias'], signed=True)} "
            f"({words.interval(row['bias_interval'])}), slope {row['slope']:.3f} "
            f"({span(row['slope_interval'])}); {row['models']} models, {row['targets']} targets"
        )
