"""Pairs that may have leaked and labels that may be wrong, with what the examples look like, for the page's script."""

from __future__ import annotations

from typing import Any

import numpy as np

from datamodels.analyze import leakage, mislabel
from datamodels.errors import InputError, NotReadyError, SpecError
from datamodels.fit.problem import Solution
from datamodels.report.example import rounded
from datamodels.report.findings import Findings

SHOWN = 12
"""Pairs, and suspects."""
COMPARISONS = 2e10
"""Numbers of targets times numbers of examples that inputs are compared for: some ten seconds of a core."""


def leaks(found: Findings) -> dict[str, Any] | None:
    """{by, pairs: target, example, score, weight}; None where no target could have leaked, or nothing tells."""
    if found.fitted is None or found.examples.grouped:
        return None
    try:
        pairs = _pairs(found, found.fitted.solution)
    except (InputError, NotReadyError, SpecError):
        return None
    rows = zip(*(getattr(pairs, name).tolist() for name in ("target", "example", "score", "weight")), strict=True)
    return {
        "by": pairs.by,
        "pairs": [
            {
                "id": target,
                "target": found.examples.target(target),
                "example": found.examples.column(example),
                "score": rounded([score])[0],
                "weight": rounded([weight])[0],
            }
            for target, example, score, weight in rows
        ],
    }


def _pairs(found: Findings, solution: Solution) -> leakage.Pairs:
    run, data = found.run, found.examples.dataset
    if data is None or float(run.n) * len(data.y) * np.prod(data.x.shape[1:]) > COMPARISONS:
        return leakage.by_weights(run, solution, SHOWN)
    return leakage.by_inputs(run, data, solution, SHOWN)


def suspects(found: Findings) -> dict[str, Any] | None:
    """{by, suspects: example, score}; None where examples have no labels, or nothing tells."""
    if found.fitted is None or not found.margins:
        return None
    try:
        worst = mislabel.suspects(found.run, found.fitted.solution, SHOWN)
    except (InputError, NotReadyError):
        return None
    rows = zip(worst.example.tolist(), rounded(worst.score), strict=True)
    return {
        "by": worst.by,
        "suspects": [{"example": found.examples.column(example), "score": score} for example, score in rows],
    }
