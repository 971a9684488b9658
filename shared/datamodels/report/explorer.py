"""What the report's explorer shows of each target, as JSON values: the page's script draws it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from datamodels.analyze import interval, similar, support
from datamodels.analyze.counterfactual import removal_errors
from datamodels.analyze.interval import Z
from datamodels.fit import problem
from datamodels.report.example import rounded
from datamodels.report.findings import Findings
from datamodels.rivals import lime
from datamodels.rivals.lime import Explanation
from datamodels.train.data import Dataset

BUDGET = 3_500_000
"""Bytes of all targets with the pictures that they need; those that do not fit are left out."""
MOST = 1000
"""Targets, however small."""
HELPFUL, HARMFUL, ALIKE = 20, 10, 6
"""Columns and targets listed for each target."""
PARTS = 10
"""Parts of a target that is no picture, listed by LIME."""
STEPS = 50
"""Points of the curve of what is expected as helpful examples are taken out."""


def data(found: Findings, budget: int = BUDGET) -> dict[str, Any]:
    """The explorer's targets, by number: those that LIME explains, and of the others a random sample where not all fit.

    targets  what `_target` gives
    columns  what the training columns that these name look like, by column
    others   the same of the targets that are alike and not in the sample, by target
    """
    columns: dict[str, Any] = {}
    others: dict[str, Any] = {}
    chosen: list[dict[str, Any]] = []
    used = 0
    drawn = np.random.default_rng(0).permutation(found.run.n)[:MOST].tolist()
    for target in dict.fromkeys([*found.explained, *drawn]):
        one = _target(found, target)
        new_columns = {str(c): found.examples.column(c) for c in _named(one) if str(c) not in columns}
        new_others = {str(t): found.examples.target(t) for t, _ in one["similar"] if str(t) not in others}
        used += sum(len(json.dumps(part)) for part in (one, new_columns, new_others))
        if used > budget and chosen:
            break
        chosen.append(one)
        columns |= new_columns
        others |= new_others
    shown = {str(one["id"]) for one in chosen}
    return {
        "targets": sorted(chosen, key=lambda one: one["id"]),
        "of": found.run.n,
        "columns": columns,
        "others": {target: looks for target, looks in others.items() if target not in shown},
        "features": found.examples.features(),
        "pool": found.run.design.columns,
        "output": found.output,
        "margins": found.margins,
    }


def _target(found: Findings, target: int) -> dict[str, Any]:
    """Looks, weights, what is expected as helpful columns are taken out, what models said, targets alike."""
    solution = found.fitted.solution
    one = {"id": target, "own": int(found.run.own[target]), "status": solution.status[target]}
    one |= found.examples.target(target) | _said(found, target)
    helpful, harmful = found.fitted.top(target, HELPFUL)
    one |= {"helpful": _pairs(helpful), "harmful": _pairs(harmful[:HARMFUL]), "similar": _alike(found, target)}
    one["r2"] = rounded([solution.heldout_r2[target]])[0]
    one["nonzeros"] = len(solution.row(target)[0])
    if solution.status[target] not in problem.UNFITTED:
        one |= _removal(found, target)
    if target in found.explained:
        one["lime"] = _lime(found.explained[target], found.examples.dataset)
    return one


def _lime(explanation: Explanation, dataset: Dataset) -> dict[str, Any]:
    """What parts of the target add, the strongest first: [name, weight, low, high]; of a picture all, with squares."""
    names, spans = lime.names_of(dataset), np.column_stack([explanation.weights, explanation.interval])
    shape = dataset.image_shape
    shown = explanation.strongest if shape else explanation.strongest[:PARTS]
    found = {"parts": [[names[part], *rounded(spans[part])] for part in shown]}
    found |= {"r2": rounded([explanation.r2])[0], "output": rounded([explanation.output])[0]}
    found |= {"models": explanation.models, "samples": explanation.samples}
    if shape:
        found["squares"] = [lime.square_of(dataset, part) for part in shown]
        found["aspect"] = shape[0] / shape[1]
    return found


def _named(one: dict[str, Any]) -> list[int]:
    return [column for column, _ in (*one["helpful"], *one["harmful"])]


def _pairs(pairs: list[tuple[int, float]]) -> list[list[float]]:
    return [[column, rounded([weight])[0]] for column, weight in pairs]


def _alike(found: Findings, target: int) -> list[list[float]]:
    if not len(found.fitted.solution.row(target)[0]):
        return []
    alike = similar.targets(found.fitted.theta, target, k=ALIKE)
    return [[int(other), rounded([score])[0]] for other, score in zip(alike.index, alike.score, strict=True)]


def _removal(found: Findings, target: int) -> dict[str, Any]:
    """The counterfactual: {k, mean, error} as the k most helpful go, half an interval each; and the support."""
    run, fitted = found.run, found.fitted
    limit = support.default_limit(run)
    columns, curve = support.removal(run, fitted.solution, target, limit)
    errors = removal_errors(run, fitted.noise, fitted.record.rows, target, columns, curve)
    steps = np.unique(np.round(np.linspace(0, 1, STEPS) ** 2 * len(columns)).astype(int))
    removal = {"k": steps.tolist(), "mean": rounded(curve[steps]), "error": rounded(Z * errors[steps])}
    # Beside the mean of many models: how far a single one lies from it.
    removal["one"] = rounded([Z * fitted.noise.deviation[target]])[0]
    if not found.margins:
        return {"removal": removal}
    size = int(np.argmax(curve < 0)) if (curve < 0).any() else None
    status = support.NONE if size is None else support.FOUND if size else support.WRONG
    return {"removal": removal, "support": {"status": status, "size": size, "limit": limit}}


def _said(found: Findings, target: int) -> dict[str, Any]:
    """What models on unseen subsets said, beside what was predicted."""
    if found.unseen is None:
        return {}
    outputs = found.unseen.outputs[:, :, target].astype(np.float64)
    trained = ~np.isnan(outputs)
    counts = found.unseen.counts
    usable = trained.any(axis=1) & (True if counts is None else counts[:, target])
    if not usable.any():
        return {}
    outputs, trained = outputs[usable], trained[usable]
    means = np.nanmean(outputs, axis=1)
    said = {
        "predicted": rounded(found.unseen.predicted[usable, target]),
        "means": rounded(means),
        "ones": rounded(outputs[np.arange(len(outputs)), trained.argmax(axis=1)]),
        "models": int(trained.sum()),
        "mean": rounded([means.mean(), *interval.mean(means)]),
    }
    if found.margins:
        # Models of one subset are alike, so the interval is that of one model each.
        wrong, subsets = float((outputs[trained] < 0).mean()), len(outputs)
        said["wrong"] = rounded([wrong, *interval.share(wrong * subsets, subsets)])
    if found.evaluation is not None and np.isfinite(found.evaluation.per_target[target]):
        score = float(found.evaluation.per_target[target])
        said["score"] = rounded([score, *interval.correlation(score, int(usable.sum()))])
    return said
