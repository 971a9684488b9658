"""One block of targets, from outputs to a Solution: sorted out, walked down the lambda path, fitted for good.

A target that cannot be fitted gets a status and no weights; it never holds up the others.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from datamodels.fit.data import problem
from datamodels.fit.data import rows as row_blocks
from datamodels.fit.data.problem import CONSTANT, NO_ROWS, NO_SIGNAL, NOT_CONVERGED, NOT_FINITE, OK, Solution
from datamodels.fit.data.rows import Rows
from datamodels.fit.lasso.method import MakeMethod
from datamodels.fit.lasso.path import Path
from datamodels.fit.lasso.refit import Refit
from datamodels.fit.lasso.saga import Saga
from datamodels.run.specs import FitSpec

PATH_SHARE = 0.85
"""Of a block's time; the rest goes into the last fit."""


@dataclasses.dataclass(frozen=True)
class Here:
    """Where a block is, before each epoch.

    stage     path or refit
    fraction  share of the block's work that is done
    position  mean place of the targets on the lambda path
    arrays    makes the arrays that `solve` goes on from
    """

    stage: str
    fraction: float
    position: float
    arrays: Callable[[], dict[str, np.ndarray]]


def solve(
    rows: Rows,
    settings: FitSpec,
    first: int,
    last: int,
    *,
    seed: int,
    tick: Callable[[Here], None],
    resume: dict[str, np.ndarray] | None = None,
    method: MakeMethod = Saga,
) -> Solution:
    """The targets first <= j < last of `rows.problem`; `resume` are the arrays that an earlier call told `tick`."""
    n = last - first
    outputs, keep = rows.outputs(first, last), rows.keep(first, last)
    status, value = sorted_out(rows, outputs, keep)
    target = np.flatnonzero(status == OK)

    path = Path(rows, settings, outputs, keep, target, seed=[seed, first, 0], method=method)
    if resume:
        path.restore(_taken("path_", resume))
    while path.active:
        tick(Here("path", PATH_SHARE * path.fraction, path.position, lambda: _named("path_", path.arrays())))
        path.epoch()

    walked = _named("path_", path.arrays())
    lambda_, weights = path.chosen(target)
    refit = Refit(rows, settings, outputs, keep, target, lambda_, weights, seed=[seed, first, 1], method=method)
    if resume and "refit_epochs" in resume:
        refit.restore(_taken("refit_", resume))
    while refit.active:
        fraction = 1 - (1 - PATH_SHARE) * refit.active / n
        tick(Here("refit", fraction, path.position, lambda: walked | _named("refit_", refit.arrays())))
        refit.epoch()

    status[target[refit.gap[target] > settings.tolerance]] = NOT_CONVERGED
    status[target[path.walk.lambda_max[target] == 0]] = NO_SIGNAL
    r2 = np.full(n, np.nan)
    r2[target] = heldout_r2(rows, outputs, keep, target, path.walk.best_error[target])
    return problem.of_dense(
        refit.weights.T,
        status=status.tolist(),
        lambda_=refit.lambda_,
        gap=refit.gap,
        heldout_r2=r2,
        intercept=np.where(status == CONSTANT, value, refit.intercept),
    )


def _named(prefix: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {prefix + name: array for name, array in arrays.items()}


def _taken(prefix: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def sorted_out(rows: Rows, outputs: np.ndarray, keep: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """(status object[n], the outputs' value where it is constant float64[n])."""
    xp = rows.xp
    mask = xp.ones((1, 1), dtype=bool) if keep is None else keep
    fit, heldout = (
        rows.host(xp.broadcast_to(mask, outputs.shape)[span].sum(axis=0)) for span in (rows.fit, rows.heldout)
    )
    finite = rows.host(xp.isfinite(outputs).all(axis=0))
    status = np.full(outputs.shape[1], OK, dtype=object)
    low, high = np.zeros((2, len(status)))
    if rows.problem.rows:
        low = rows.host(xp.where(mask, outputs, xp.inf).min(axis=0))
        high = rows.host(xp.where(mask, outputs, -xp.inf).max(axis=0))
    status[low == high] = CONSTANT
    status[(fit < 2) | (heldout < 1)] = NO_ROWS
    status[~finite] = NOT_FINITE
    return status, low.astype(np.float64)


def heldout_r2(
    rows: Rows, outputs: np.ndarray, keep: np.ndarray | None, target: np.ndarray, error: np.ndarray
) -> np.ndarray:
    """float64[t]: explained variance on the held-out rows that count; NaN where they do not vary."""
    xp = rows.xp
    y = row_blocks.columns(outputs[rows.heldout], target).astype(np.float64)
    mask = xp.ones((1, 1), dtype=bool) if keep is None else row_blocks.columns(keep[rows.heldout], target)
    count = xp.broadcast_to(mask, y.shape).sum(axis=0)
    centred = xp.where(mask, y - xp.where(mask, y, 0).sum(axis=0) / count, 0)
    variance = rows.host((centred**2).sum(axis=0) / count)
    return np.where(variance > 0, 1 - error / np.where(variance > 0, variance, 1), np.nan)
