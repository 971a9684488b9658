"""Hold the outputs of some targets over the rows, with the means and covariances that fits of them need."""

from __future__ import annotations

import copy

import numpy as np

from datamodels.fit.contract import targets as sorting
from datamodels.fit.contract.targets import Targets
from datamodels.fit.data import means, moments
from datamodels.fit.data.covariance import Covariance
from datamodels.fit.data.rows import Rows
from datamodels.fit.lasso import gram

GRAM_COLUMNS = 20_000
"""Most columns for a Gram; products over more columns read the rows each time."""
GRAMS = 3
"""Grams that a GPU holds while a way is chosen: of all rows, without a fold, and without what is held out besides."""
TALL = 0.5
"""Rows over columns from which products by the Gram are faster: they take d^2 steps for each target, those by the rows
2 m d."""


def read_targets(rows: Rows, first: int, last: int) -> Targets:
    """Sort the targets first <= j < last of a problem; on a CPU, reads no outputs if sums over the rows are known."""
    if rows.sums is None or rows.xp is not np or (rows.problem.own_column[first:last] >= 0).any():
        return Targets.read(rows, first, last)
    return Targets.of_sums(rows, rows.sums, first, last)


class Sample:
    """The a targets of a block that can be fitted. Arrays are of the array module of the rows.

    y         [m, a]; outputs less `location`; None if sums over the rows are known
    held      [held-out rows, a]; the same of the held-out rows; None, too, if sums over the rows are known
    keep      bool[m, a], or None if all rows count for all targets
    location  float64[a]
    variance  float64[a]; of the outputs over all rows that count, above 0
    """

    y: np.ndarray | None
    held: np.ndarray | None
    keep: np.ndarray | None

    def __init__(self, targets: Targets):
        """Read the outputs of targets that `read_targets` has read."""
        self.rows = rows = targets.rows
        if targets.outputs is None:
            self._of_sums(targets)
        else:
            y, self.keep = targets.columns(rows.whole)
            self.location = y.mean(axis=0, dtype=np.float64).astype(y.dtype)
            self.y = y - self.location
            self.held = self.y[rows.heldout]
            self._fit, self._heldout = (means.of(rows, span, self.y, self.keep) for span in (rows.fit, rows.heldout))
        whole = self._fit + self._heldout
        self.variance = rows.xp.where(whole.variance > 0, whole.variance, 1)

    def _of_sums(self, targets: Targets) -> None:
        rows, known, numbers = self.rows, self.rows.sums, targets.numbers
        assert known is not None
        mean = (known.fit.total + known.heldout.total)[numbers] / known.rows
        self.y = self.held = self.keep = None
        self.location = (known.shift[numbers] + mean).astype(rows.dtype)
        self._fit, self._heldout = (
            means.of_sums(span, numbers, known.shift[numbers], self.location, rows.center.astype(np.float64))
            for span in (known.fit, known.heldout)
        )

    @classmethod
    def read(cls, rows: Rows) -> Sample:
        """Read all targets of a problem, all of which can be fitted."""
        return cls(read_targets(rows, 0, rows.problem.n))

    def take(self, count: int) -> Sample:
        """Return the first `count` targets, or all if there are fewer."""
        found = copy.copy(self)
        found.y, found.held, found.keep = (
            None if array is None else array[:, :count] for array in (self.y, self.held, self.keep)
        )
        found.location, found.variance = self.location[:count], self.variance[:count]
        found._fit, found._heldout = self._fit.take(count), self._heldout.take(count)
        return found

    @property
    def curvature(self) -> np.ndarray:
        """Variances of the masks' columns over all rows that count, float64[a, d] or [1, d]."""
        return self.sums(whole=True).curvature(self.rows.center)

    def sums(self, *, whole: bool) -> means.Means:
        """Return the sums over all rows, or over the rows to fit."""
        return self._fit + self._heldout if whole else self._fit

    def covariance(self, *, whole: bool) -> Covariance:
        """Return the covariances over all rows, or over the rows to fit."""
        rows, found = self.rows, self.sums(whole=whole)
        span = rows.whole if whole else rows.fit
        d = rows.problem.columns
        tall = TALL * d < span.stop and d <= GRAM_COLUMNS
        return Covariance.of(rows, span, self.keep, found, gram=tall and gram.applies(rows, GRAMS))

    def heldout(self, theta: np.ndarray) -> means.Heldout:
        """Compare predictions by weights [a, d], at the intercepts of the fit, with the outputs on held-out rows."""
        return self.compared(theta, self.level(theta, self._fit))

    def compared(self, theta: np.ndarray, level: np.ndarray) -> means.Heldout:
        """Compare predictions theta . x + level with the outputs less `location`, on held-out rows."""
        if self.held is None:
            masks = moments.of_masks(self.rows).heldout
            assert masks is not None
            return means.heldout_of_sums(self._heldout, masks, theta, level)
        return means.heldout(self.rows, self.held, self._held_keep, theta, level)

    def heldout_r2(self, error: np.ndarray) -> np.ndarray:
        """Return the explained variances float64[a] for mean squared errors float64[a] on held-out rows."""
        if self.held is None:
            found = self._heldout
            return sorting.explained_of(
                found.variance, found.variance > means.ROUNDING * found.square / found.count, error
            )
        return sorting.explained(self.rows, self.held, self._held_keep, error)

    @property
    def _held_keep(self) -> np.ndarray | None:
        return None if self.keep is None else self.keep[self.rows.heldout]

    def intercept(self, theta: np.ndarray) -> np.ndarray:
        """Return the best intercepts float64[a] over all rows for weights [a, d] of masks."""
        theta = theta.astype(np.float64)
        level = self.level(theta, self._fit + self._heldout)
        return self.location + level - theta @ self.rows.center

    @staticmethod
    def level(theta: np.ndarray, found: means.Means) -> np.ndarray:
        """Return the best intercepts float64[a] for weights [a, d] of masks less `center`."""
        mean = np.broadcast_to(found.mean_masks, theta.shape)
        return found.mean - np.einsum("ij,ij->i", theta.astype(np.float64), mean)
