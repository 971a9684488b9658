"""Compare two fits, of one run or of two runs with the same targets and columns."""

from __future__ import annotations

import dataclasses

import numpy as np

from datamodels.analyze.patterns.similar import squared_norms
from datamodels.query.weights import Fitted


@dataclasses.dataclass(frozen=True, eq=False)
class Comparison:
    """How alike the weights of two fits are.

    cosine    float64[n]; of the weights of each target in the two fits; NaN if one of them has none
    shared    float64[n]; share of the TOP strongest columns of the first that are among those of the second; NaN if
              one of them has none
    differ    why the weights cannot be compared; empty if they can. Then the arrays are empty
    """

    cosine: np.ndarray
    shared: np.ndarray
    differ: str = ""


TOP = 5


def compare(one: Fitted, other: Fitted) -> Comparison:
    """Compare the weights of two fits, target by target."""
    shapes = [(f.run.n, f.run.design.columns) for f in (one, other)]
    if shapes[0] != shapes[1]:
        sizes = " and ".join(f"{n:,} targets over {d:,} columns" for n, d in shapes)
        return Comparison(np.zeros(0), np.zeros(0), f"the fits have {sizes}")
    dots = np.asarray(one.theta.multiply(other.theta).sum(axis=1), dtype=np.float64).ravel()
    with np.errstate(invalid="ignore", divide="ignore"):
        cosine = dots / np.sqrt(squared_norms(one.theta).astype(np.float64) * squared_norms(other.theta))
    shared = np.array([_shared(one, other, target) for target in range(one.n)])
    return Comparison(np.where(np.isfinite(cosine), cosine, np.nan), shared)


def _shared(one: Fitted, other: Fitted, target: int) -> float:
    tops = [_strongest(fitted, target) for fitted in (one, other)]
    return float(np.isin(tops[0], tops[1]).mean()) if all(map(len, tops)) else np.nan


def _strongest(fitted: Fitted, target: int) -> np.ndarray:
    columns, weights = fitted.solution.row(target)
    if len(columns) <= TOP:
        return columns
    return columns[np.argpartition(-np.abs(weights), TOP - 1)[:TOP]]
