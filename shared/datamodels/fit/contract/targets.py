"""Sort the targets of one block into those that can be fitted and others, and assemble the Solution of all of them.

A target that cannot be fitted gets a status and no weights. The others are fitted all the same.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from datamodels.fit.data import problem
from datamodels.fit.data import rows as row_blocks
from datamodels.fit.data.problem import CONSTANT, NO_ROWS, NO_SIGNAL, NOT_CONVERGED, NOT_FINITE, OK, Solution
from datamodels.fit.data.rows import Rows
from datamodels.fit.data.sums import Sums


@dataclasses.dataclass(frozen=True, eq=False)
class Targets:
    """The targets first <= j < first + n of a problem, t of which can be fitted.

    outputs  [m, n] of the array module, rows in the order of `rows`; None if only sums over the rows are read
    keep     bool[m, n]; which rows count for which target; None if all rows count for all
    status   object[n]; OK for targets that can be fitted
    value    float64[n]; the output of constant targets
    able     int64[t]; places in the block of the targets that can be fitted
    """

    rows: Rows
    first: int
    outputs: np.ndarray | None
    keep: np.ndarray | None
    status: np.ndarray
    value: np.ndarray
    able: np.ndarray

    @classmethod
    def read(cls, rows: Rows, first: int, last: int) -> Targets:
        """Read the outputs of the targets first <= j < last."""
        return cls.of(rows, first, rows.outputs(first, last), rows.keep(first, last))

    @classmethod
    def of(cls, rows: Rows, first: int, outputs: np.ndarray, keep: np.ndarray | None) -> Targets:
        """Sort targets by their outputs [m, n]."""
        status, value = sort(rows, outputs, keep)
        return cls(rows, first, outputs, keep, status, value, np.flatnonzero(status == OK))

    @classmethod
    def of_sums(cls, rows: Rows, sums: Sums, first: int, last: int) -> Targets:
        """Sort targets that all count all rows, from sums over the rows; reads no output."""
        low = sums.low[first:last]
        counts = sums.fit.rows, sums.heldout.rows
        status = _status(low, sums.high[first:last], sums.finite[first:last], *counts)
        return cls(rows, first, None, None, status, low, np.flatnonzero(status == OK))

    @property
    def numbers(self) -> np.ndarray:
        """int64[t]: the targets that can be fitted, as the problem numbers them."""
        return self.first + self.able

    def columns(self, span: slice, places: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray | None]:
        """Return (outputs [r, t], keep bool[r, t] or None) of a span of rows, of the targets that can be fitted.

        places  int64[p]: only of these of the t targets
        """
        if self.outputs is None:
            raise ValueError("these targets were sorted from sums: their outputs were not read")
        chosen = self.able if places is None else self.able[places]
        keep = None if self.keep is None else self.keep[span]
        return row_blocks.columns(self.outputs[span], chosen), row_blocks.columns(keep, chosen)

    def heldout_r2(self, error: np.ndarray) -> np.ndarray:
        """float64[t]: explained variance on the held-out rows, for mean squared errors float64[t] of the outputs."""
        return explained(self.rows, *self.columns(self.rows.heldout), error)

    def solution(
        self,
        weights: np.ndarray,
        *,
        lambda_: np.ndarray,
        gap: np.ndarray,
        intercept: np.ndarray,
        heldout_r2: np.ndarray,
        tolerance: float = np.inf,
        signal: np.ndarray | None = None,
        measured: np.ndarray | None = None,
    ) -> Solution:
        """Return the Solution of all n targets from what was found for the t that can be fitted.

        weights     float32[t, d]
        lambda_, gap, intercept, heldout_r2  float64[t]
        tolerance   targets with a larger gap have not converged
        signal      bool[t]; False for targets whose outputs no column is correlated with; None for all True
        measured    [t, d]; what the outputs added to prior means; None if there are none
        """
        status, able, n = self.status.copy(), self.able, len(self.status)
        if signal is not None:
            status[able[~signal]] = NO_SIGNAL
        status[able[gap > tolerance]] = NOT_CONVERGED

        def of_all(found: np.ndarray, others: float = 0.0) -> np.ndarray:
            if len(able) == n:
                return found
            values = np.full((n, *found.shape[1:]), others, dtype=found.dtype)
            values[able] = found
            return values

        return problem.of_dense(
            of_all(weights),
            status=status.tolist(),
            lambda_=of_all(lambda_),
            gap=of_all(gap),
            heldout_r2=of_all(heldout_r2, np.nan),
            intercept=np.where(status == CONSTANT, self.value, of_all(intercept)),
            measured=None if measured is None else of_all(measured),
        )

    def unfitted(self) -> Solution:
        """Return the Solution if none of the targets can be fitted."""
        nothing = np.zeros(0)
        weights = np.zeros((0, self.rows.problem.columns), dtype=np.float32)
        return self.solution(weights, lambda_=nothing, gap=nothing, intercept=nothing, heldout_r2=nothing)


def sort(rows: Rows, outputs: np.ndarray, keep: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Return (status object[n], the output of constant targets float64[n]) of outputs [m, n]; keep is bool[m, n]."""
    xp = rows.xp
    mask = xp.ones((1, 1), dtype=bool) if keep is None else keep
    fit, heldout = (
        rows.host(xp.broadcast_to(mask, outputs.shape)[span].sum(axis=0)) for span in (rows.fit, rows.heldout)
    )
    finite = rows.host(xp.isfinite(outputs).all(axis=0))
    low, high = np.zeros((2, outputs.shape[1]))
    if rows.problem.rows:
        low = rows.host(xp.where(mask, outputs, xp.inf).min(axis=0))
        high = rows.host(xp.where(mask, outputs, -xp.inf).max(axis=0))
    return _status(low, high, finite, fit, heldout), low.astype(np.float64)


def _status(
    low: np.ndarray, high: np.ndarray, finite: np.ndarray, fit: np.ndarray | int, heldout: np.ndarray | int
) -> np.ndarray:
    """object[n]: statuses, from each target's smallest and largest output and the numbers of rows that count."""
    status = np.full(len(low), OK, dtype=object)
    status[low == high] = CONSTANT
    status[np.broadcast_to(np.less(fit, 2) | np.less(heldout, 1), len(low))] = NO_ROWS
    status[~finite] = NOT_FINITE
    return status


def explained(rows: Rows, y: np.ndarray, keep: np.ndarray | None, error: np.ndarray) -> np.ndarray:
    """Return explained variances float64[t] on held-out rows; NaN if the outputs that count do not vary.

    y      [held-out rows, t] of the array module
    keep   bool[held-out rows, t], or None if all rows count
    error  float64[t]; mean squared errors of predictions of y
    """
    xp = rows.xp
    mask = xp.ones((1, 1), dtype=bool) if keep is None else keep
    varies = rows.host(xp.where(mask, y, xp.inf).min(axis=0) < xp.where(mask, y, -xp.inf).max(axis=0))
    y = y.astype(np.float64)
    count = xp.broadcast_to(mask, y.shape).sum(axis=0)
    centred = xp.where(mask, y - xp.where(mask, y, 0).sum(axis=0) / count, 0)
    variance = rows.host((centred**2).sum(axis=0) / count)
    return explained_of(variance, varies & (variance > 0), error)


def explained_of(variance: np.ndarray, varies: np.ndarray, error: np.ndarray) -> np.ndarray:
    """Return what `explained` does for outputs of this variance, float64[t]; `varies` is bool[t]."""
    return np.where(varies, 1 - error / np.where(varies, variance, 1), np.nan)
