"""Data support: the smallest set of training examples without which models get a target wrong.

Ilyas et al. 2022, section 4.1 (the review's 3.3.1): of all sets of k columns, taking out the k of largest positive
weight lowers a linear prediction most, so that the smallest set that brings it below the threshold is found by taking
them out one by one. That is exact for the datamodel. Whether it is for the models is checked by `what_if.retrain`.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from datamodels.analyze.what_if import pool
from datamodels.errors import InputError
from datamodels.fit.data import problem
from datamodels.fit.data.problem import Solution
from datamodels.run.runs import Run

FOUND = "found"
NONE = "none"
"""Not within the limit, or not before a class is empty, or not by any set: the weights left help no more."""
WRONG = "wrong"
"""It is predicted to be wrong already, with nothing taken out."""
NO_WEIGHTS = "no_weights"
"""The target has no model."""

LIMIT_SHARE = 0.2
"""Of the columns; the default limit. Farther from the subsets that weights were fitted to, they say little."""
MAX_LIMIT = 100_000
"""So that an answer fits a message."""


@dataclasses.dataclass(frozen=True, eq=False)
class Support:
    """
    status   FOUND, NONE, WRONG or NO_WEIGHTS
    columns  int32[k]; in the order in which they are taken out. Where no support is found: those that were tried
    curve    float64[k + 1]; predicted mean output with the first 0, 1, ..., k columns taken out
    """

    target: int
    status: str
    columns: np.ndarray
    curve: np.ndarray


def default_limit(run: Run) -> int:
    """Return the limit of a support if none is given."""
    return limit_of(run, LIMIT_SHARE)


def limit_of(run: Run, share: float) -> int:
    """Return a share of the columns as the limit of a support."""
    return min(MAX_LIMIT, max(1, int(share * run.design.columns)))


def support(
    run: Run, solution: Solution, target: int, *, limit: int = 0, safety: float = 0.0, threshold: float = 0.0
) -> Support:
    """The support of a target in the whole pool, without the target itself.

    limit      largest set to look for; 0: LIMIT_SHARE of the columns
    safety     how far below the threshold the prediction must fall
    threshold  below it the models get the target wrong: 0 where outputs are margins

    Raises TargetRangeError, InputError.
    """
    check(run, limit, safety, threshold)
    solution.row(target)
    if solution.status[target] in problem.UNFITTED:
        return Support(target, NO_WEIGHTS, pool.NO_COLUMNS, np.zeros(0))
    columns, curve = removal(run, solution, target, limit or default_limit(run))
    return shortest(target, columns, curve, safety, threshold)


def shortest(target: int, columns: np.ndarray, curve: np.ndarray, safety: float, threshold: float) -> Support:
    """The fewest of the first columns that bring a curve, as of `removal`, so far below the threshold."""
    if curve[0] < threshold:
        return Support(target, WRONG, pool.NO_COLUMNS, curve[:1])
    below = np.flatnonzero(curve < threshold - safety)
    if not len(below):
        return Support(target, NONE, columns, curve)
    # With a margin of safety 0 a target that is right cannot be below before the first column is out.
    k = int(below[0])
    return Support(target, FOUND, columns[:k], curve[: k + 1])


def removal(run: Run, solution: Solution, target: int, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """(columns int32[k], curve float64[k + 1]): a target's most helpful columns, taken out of the whole pool in turn.

    The curve is the predicted mean output with the first 0, 1, ..., k of them out. The target itself is never in. Ends
    at `limit` columns, where no weight left is positive, and before a class is empty. Raises TargetRangeError.
    """
    columns, weights = solution.row(target)
    base = pool.without_own(run, pool.whole(run), target)
    before = float(solution.intercept[target] + weights[base[columns]].astype(np.float64).sum())
    free = base & (run.design.stratum >= 0)
    usable = (weights > 0) & free[columns]
    order = np.flatnonzero(usable)[np.argsort(-weights[usable], kind="stable")][:limit]
    order = order[: before_a_class_is_empty(run, base, columns[order])]
    return columns[order], before - np.concatenate([[0.0], np.cumsum(weights[order], dtype=np.float64)])


def check(run: Run, limit: int, safety: float, threshold: float) -> None:
    """Raises InputError for a question out of range."""
    most = min(run.design.columns, MAX_LIMIT)
    if not 0 <= limit <= most:
        raise InputError(f"limit = {limit}: must be 1 to {most}, or 0 for {default_limit(run)}")
    if not (np.isfinite(safety) and safety >= 0):
        raise InputError(f"safety = {safety}: must be at least 0")
    if not np.isfinite(threshold):
        raise InputError(f"threshold = {threshold}: must be a number")


def before_a_class_is_empty(run: Run, base: np.ndarray, order: np.ndarray) -> int:
    """How many columns of `order` can go, one after the other, before a class has no examples left."""
    if run.labels is None:
        return len(order)
    low, high = 0, len(order)  # low can go
    while low < high:
        middle = (low + high + 1) // 2
        after = base.copy()
        after[order[:middle]] = False
        if pool.emptied(run, base, after) is None:
            low = middle
        else:
            high = middle - 1
    return low
