"""Make the JSON values that the report's explorer draws for each target."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from datamodels.analyze.findings import Findings
from datamodels.analyze.quality.interval import Estimate
from datamodels.analyze.target import Removal, Target, UnseenOutputs
from datamodels.analyze.what_if.support import FOUND, WRONG
from datamodels.baselines import lime
from datamodels.baselines.lime import Explanation
from datamodels.display.looks import Features
from datamodels.outputs import Output
from datamodels.report.example import Examples, rounded
from datamodels.run.dataset import Dataset

BUDGET = 3_500_000
"""Bytes of all targets with the pictures that they need; those that do not fit are left out."""
MOST = 1000
"""Most targets, however small."""
PARTS = 10
"""Parts of a target that is no picture, listed by LIME."""
STEPS = 50
"""Points of the curve that shows helpful examples removed."""

Explained = Mapping[int, Explanation]
"""Explanations by LIME, by target."""


def data(found: Findings, explained: Explained, budget: int = BUDGET) -> dict[str, Any]:
    """Return the explorer's targets: those that LIME explains, and of the others as many as fit, at random.

    targets  by number, as `_target` returns them
    columns  displays of the training columns that these targets name, by column
    others   displays of similar targets that are not in the sample, by target

    Without a fit, the result is empty.
    """
    if found.fitted is None:
        return {}
    examples = Examples(found.run, found.looks)
    columns: dict[str, Any] = {}
    others: dict[str, Any] = {}
    chosen: list[dict[str, Any]] = []
    used = 0
    drawn = np.random.default_rng(0).permutation(found.run.n)[:MOST].tolist()
    for target in dict.fromkeys([*explained, *drawn]):
        one = examples.target(target) | _target(found.fitted.targets[target])
        if found.dataset is not None and target in explained:
            one["lime"] = _lime(explained[target], found.dataset)
        named = [column for column, _ in (*one["helpful"], *one["harmful"])]
        new_columns = {str(c): examples.column(c) for c in named if str(c) not in columns}
        new_others = {str(t): examples.target(t) for t, _ in one["similar"] if str(t) not in others}
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
        "features": None if found.features is None else _features(found.features),
        "pool": found.run.design.columns,
        "unit": found.run.design.unit,
        "output": _output(found.run.output),
        "predicted": _output(found.predicted),
    }


def _output(output: Output) -> dict[str, Any]:
    names = ("name", "title", "threshold", "sign", "lowest", "highest")
    fields = {name: getattr(output, name) for name in names}
    return fields | {"directed": output.directed}


def _features(found: Features) -> dict[str, list]:
    return {
        "names": found.names,
        "units": found.units,
        "mean": rounded(found.mean),
        "deviation": rounded(found.deviation),
    }


def _target(found: Target) -> dict[str, Any]:
    one: dict[str, Any] = {"id": found.number, "own": found.own, "status": found.status}
    if found.unseen is not None:
        one |= _unseen(found.unseen)
    one |= {"helpful": _pairs(found.helpful), "harmful": _pairs(found.harmful), "similar": []}
    if found.similar is not None:
        one["similar"] = _pairs(zip(found.similar.index.tolist(), found.similar.score.tolist(), strict=True))
    one |= {"r2": rounded([found.r2])[0], "nonzeros": found.nonzeros}
    return one if found.removal is None else one | _removal(found.removal)


def _pairs(pairs: Iterable[tuple[int, float]]) -> list[list[float | None]]:
    return [[index, rounded([value])[0]] for index, value in pairs]


def _removal(found: Removal) -> dict[str, Any]:
    """Return {k, mean, error, one, start} for removals of the k most helpful columns, and the support."""
    steps = np.unique(np.round(np.linspace(0, 1, STEPS) ** 2 * (len(found.mean) - 1)).astype(int))
    removal: dict[str, Any] = {
        "k": steps.tolist(),
        "mean": rounded(found.mean[steps]),
        "error": rounded(found.error[steps]),
    }
    removal |= {"one": rounded([found.single])[0], "start": rounded(list(found.start))}
    if found.support is None:
        return {"removal": removal}
    status = found.support.status
    size = {WRONG: 0, FOUND: len(found.support.columns)}.get(status)
    return {"removal": removal, "support": {"status": status, "size": size, "limit": found.limit}}


def _unseen(found: UnseenOutputs) -> dict[str, Any]:
    values = {
        "predicted": rounded(found.predicted),
        "means": rounded(found.means),
        "ones": rounded(found.singles),
        "models": found.models,
    }
    spans = {"mean": found.mean, "wrong": found.wrong, "score": found.score}
    return values | {name: _span(span) for name, span in spans.items() if span is not None}


def _span(found: Estimate) -> list[float | None]:
    return rounded([found.value, found.low, found.high])


def _lime(explanation: Explanation, dataset: Dataset) -> dict[str, Any]:
    """Return the effects of the strongest parts of the target: [name, weight, low, high].

    For a picture, returns all parts, with their squares.
    """
    spans = np.column_stack([explanation.weights, explanation.interval])
    shape = dataset.image_shape
    shown = explanation.strongest if shape else explanation.strongest[:PARTS]
    found: dict[str, Any] = {"parts": [[explanation.names[part], *rounded(spans[part])] for part in shown]}
    found |= {"r2": rounded([explanation.r2])[0], "output": rounded([explanation.output])[0]}
    found |= {"models": explanation.models, "samples": explanation.samples}
    found["tokens"] = bool(len(dataset.token_names))
    if shape:
        found["squares"] = [lime.square_of(shape, part) for part in shown]
        found["aspect"] = shape[0] / shape[1]
    return found
