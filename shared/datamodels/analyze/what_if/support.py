"""Find the data support of a target: the smallest set of training examples without which models get it wrong.

Ilyas et al. 2022, section 4.1 (the review's 3.3.1). Of all sets of k columns, the k most helpful ones worsen a linear
prediction most if they are removed: those with the largest positive weights, or, if lower outputs are better, with the
largest negative ones. So removing columns in this order, one by one, finds the smallest set that brings the prediction
past the threshold of the output. This is exact for the datamodel; `what_if.retrain` checks it for models.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from datamodels.analyze.what_if import pool
from datamodels.errors import InputError
from datamodels.fit.data import problem
from datamodels.fit.data.problem import Solution
from datamodels.outputs import Output
from datamodels.run.runs import Run

FOUND = "found"
NONE = "none"
"""No support was found: within the limit, and with examples left in every class, there is none."""
WRONG = "wrong"
"""The target is predicted to be wrong with nothing removed."""
NO_WEIGHTS = "no_weights"
"""The target has no model."""

LIMIT_SHARE = 0.2
"""The default limit as a share of the columns. Far from the subsets that they were fitted to, weights say little."""
MAX_LIMIT = 100_000
"""The largest limit, so that an answer fits a message."""


@dataclasses.dataclass(frozen=True, eq=False)
class Support:
    """The support of a target.

    status   FOUND, NONE, WRONG or NO_WEIGHTS
    columns  int32[k]; in the order of their removal. If no support is found: the columns that were tried
    curve    float64[k + 1]; predicted mean output with the first 0, 1, ..., k columns removed, inside its bounds
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
    run: Run, solution: Solution, target: int, *, limit: int = 0, safety: float = 0.0, threshold: float | None = None
) -> Support:
    """Find the support of a target in the whole pool without the target itself.

    run        with the settings of the fit in its spec
    limit      size of the largest set to look for; 0 stands for LIMIT_SHARE of the columns
    safety     how far past the threshold the prediction must be
    threshold  outputs worse than it are wrong; None for the output's own

    Raises TargetRangeError, InputError; the latter also if the output has no threshold, or neither direction is better.
    """
    output = check(run, limit, safety, threshold)
    solution.row(target)
    if solution.status[target] in problem.UNFITTED:
        return Support(target, NO_WEIGHTS, pool.NO_COLUMNS, np.zeros(0))
    columns, curve = removal(run, solution, target, limit or default_limit(run))
    return shortest(target, columns, curve, output, safety)


def shortest(target: int, columns: np.ndarray, curve: np.ndarray, output: Output, safety: float = 0.0) -> Support:
    """Find the smallest number of first columns that brings a curve of `removal` past the threshold, by `safety`.

    Raises InputError if the output has no threshold.
    """
    within = output.within(curve)
    if output.wrong(curve[:1])[0]:
        return Support(target, WRONG, pool.NO_COLUMNS, within[:1])
    past = np.flatnonzero(output.wrong(curve + output.sign * safety))
    if not len(past):
        return Support(target, NONE, columns, within)
    # A target that is right is not past the threshold before the first column is removed, so k is at least 1.
    k = int(past[0])
    return Support(target, FOUND, columns[:k], within[: k + 1])


def removal(run: Run, solution: Solution, target: int, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """Remove the most helpful columns of a target from the whole pool without the target itself, one by one.

    If neither direction of the output is better, those that raise it most are removed.

    Returns (columns int32[k], curve float64[k + 1]). The curve is the predicted mean output with the first 0, 1, ..., k
    columns removed. It ends after `limit` columns, if no remaining column helps, or before a class is empty. Raises
    TargetRangeError.
    """
    columns, weights = solution.row(target)
    gain = run.predicted.sign * weights
    base = pool.without_own(run, pool.whole(run), target)
    before = float(solution.intercept[target] + weights[base[columns]].astype(np.float64).sum())
    free = base & (run.design.stratum >= 0)
    usable = (gain > 0) & free[columns]
    order = np.flatnonzero(usable)[np.argsort(-gain[usable], kind="stable")][:limit]
    order = order[: before_a_class_is_empty(run, base, columns[order])]
    return columns[order], before - np.concatenate([[0.0], np.cumsum(weights[order], dtype=np.float64)])


def check(run: Run, limit: int, safety: float, threshold: float | None) -> Output:
    """Check the arguments of `support`, and return the output with its threshold.

    Raises InputError if an argument is out of range, or no threshold is known.
    """
    most = min(run.design.columns, MAX_LIMIT)
    if not 0 <= limit <= most:
        raise InputError(f"limit = {limit}: must be 1 to {most}, or 0 for {default_limit(run)}")
    if not (np.isfinite(safety) and safety >= 0):
        raise InputError(f"safety = {safety}: must be at least 0")
    try:
        return run.predicted.judged(threshold)
    except InputError as error:
        raise InputError(f"run {run.name}: {error}") from None


def before_a_class_is_empty(run: Run, base: np.ndarray, order: np.ndarray) -> int:
    """Return how many columns of `order` can be removed, in this order, before a class has no examples left."""
    if run.labels is None:
        return len(order)
    low, high = 0, len(order)  # removable
    tried = high  # first, because it nearly always is
    while low < high:
        after = base.copy()
        after[order[:tried]] = False
        if pool.emptied(run, base, after) is None:
            low = tried
        else:
            high = tried - 1
        tried = (low + high + 1) // 2
    return low
