"""Compute means and covariances over the rows that count for each target, for estimators that need no more.

Arrays are of the array module of the rows.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from datamodels.fit.data import moments
from datamodels.fit.data import rows as row_blocks
from datamodels.fit.data.moments import Masks
from datamodels.fit.data.rows import Rows
from datamodels.fit.data.sums import Span

PASS_ROWS = 2048
"""Rows that are converted to float64 at a time."""
ROUNDING = 1e-10
"""A variance below this fraction of the mean square is rounding of float32."""


@dataclasses.dataclass(frozen=True, eq=False)
class Means:
    """Sums of the masks x, minus `Problem.center`, and of the outputs y of a targets. Those of two spans add up.

    count     float64[a]; number of rows that count
    masks     float64[a, d], or [1, d] if all rows count for all targets; sum of x
    total     float64[a]; sum of y
    products  float64[a, d]; sum of y x
    square    float64[a]; sum of y^2
    """

    count: np.ndarray
    masks: np.ndarray
    total: np.ndarray
    products: np.ndarray
    square: np.ndarray

    def __add__(self, other: Means) -> Means:
        return Means(*(getattr(self, f.name) + getattr(other, f.name) for f in dataclasses.fields(self)))

    def take(self, count: int) -> Means:
        """Return the sums of the first `count` targets."""
        return Means(*(getattr(self, f.name)[:count] for f in dataclasses.fields(self)))

    @property
    def mean_masks(self) -> np.ndarray:
        """Means of the masks, float64[a, d] or [1, d]."""
        return self.masks / self.count[: len(self.masks), None]

    @property
    def mean(self) -> np.ndarray:
        """Means of the outputs, float64[a]."""
        return self.total / self.count

    @property
    def variance(self) -> np.ndarray:
        """Variances of the outputs, float64[a]."""
        return np.maximum(self.square / self.count - self.mean**2, 0)

    @property
    def covariance(self) -> np.ndarray:
        """Covariances of masks and outputs, float64[a, d]."""
        return self.products / self.count[:, None] - self.mean[:, None] * self.mean_masks

    def members(self, center: np.ndarray) -> np.ndarray:
        """Return how many rows have each column: whole numbers, float64[a, d] or [1, d]."""
        return np.round(self.masks + self.count[: len(self.masks), None] * center)

    def curvature(self, center: np.ndarray) -> np.ndarray:
        """Return variances of the masks' columns, float64[a, d] or [1, d]; exactly 0 if a column never varies."""
        share = self.members(center) / self.count[: len(self.masks), None]
        return share * (1 - share)


def of(rows: Rows, span: slice, outputs: np.ndarray, keep: np.ndarray | None) -> Means:
    """Return the sums over a span of rows, in float64 throughout, in one pass.

    outputs  [m, a], of all rows; nearly centred, because variances are differences of squares
    keep     bool[m, a], of all rows; which of them count; None if all do
    """
    d, a = rows.problem.columns, outputs.shape[1]
    xp = rows.xp
    products, masks = xp.zeros((a, d)), xp.zeros((1 if keep is None else a, d))
    count, total, square = xp.zeros((3, a))
    for piece in row_blocks.partition(span, PASS_ROWS):
        x, y = rows.exact(piece), outputs[piece].astype(np.float64)
        chosen = xp.ones((len(x), 1)) if keep is None else keep[piece].astype(np.float64)
        y = y * chosen
        products += y.T @ x
        masks += chosen.T @ x
        count += chosen.sum(axis=0)
        total += y.sum(axis=0)
        square += rows.dots(y, y)
    return Means(count, masks, total, products, square)


def of_sums(span: Span, targets: np.ndarray, shift: np.ndarray, location: np.ndarray, center: np.ndarray) -> Means:
    """Return what `of` returns for outputs less `location`, from sums over the rows.

    targets          int64[a]; which of the targets of `span`
    shift, location  float64[a]
    center           float64[d]
    """
    found = moments.of_sums(span, targets, shift, location, np.ones(len(targets)), center)
    count, masks = np.full(len(targets), float(span.rows)), np.diag(span.counts) - span.rows * center
    return Means(count, masks[None], found.total, found.products, found.square)


@dataclasses.dataclass(frozen=True, eq=False)
class Heldout:
    """How well predictions fit the outputs on the held-out rows that count. Arrays are NumPy's.

    error        float64[a]; mean squared error
    correlation  float64[a]; of predictions and outputs; 0 if either does not vary
    """

    error: np.ndarray
    correlation: np.ndarray


def heldout(rows: Rows, outputs: np.ndarray, keep: np.ndarray | None, theta: np.ndarray, level: np.ndarray) -> Heldout:
    """Compare predictions theta . x + level with outputs on the held-out rows that count.

    outputs  [held-out rows, a]; nearly centred, because variances are differences of squares
    keep     bool[held-out rows, a]; which of them count; None if all do
    theta    [a, d], for masks minus `center`
    level    float64[a]
    """
    xp = rows.xp
    count, error, product = xp.zeros((3, len(theta)))
    sums, squares = xp.zeros((2, 2, len(theta)))
    for piece in row_blocks.partition(rows.heldout, PASS_ROWS):
        x = rows.block(piece)
        here = slice(piece.start - rows.heldout.start, piece.stop - rows.heldout.start)
        y, guess = outputs[here], x[:, :-1] @ theta.T
        chosen = xp.ones((len(y), 1), dtype=bool) if keep is None else keep[here]
        miss = (guess - (y - level)) * chosen
        error += rows.dots(miss, miss, dtype=np.float64)
        both = guess * chosen, y * chosen
        sums += xp.stack([part.sum(axis=0, dtype=np.float64) for part in both])
        squares += xp.stack([rows.dots(part, part, dtype=np.float64) for part in both])
        product += rows.dots(*both, dtype=np.float64)
        count += chosen.sum(axis=0)
    variances = squares / count - (sums / count) ** 2
    varies = (variances > ROUNDING * squares / count).all(axis=0)
    scale = xp.sqrt(xp.where(varies, variances[0] * variances[1], 1))
    correlation = xp.where(varies, (product / count - sums[0] * sums[1] / count**2) / scale, 0)
    return Heldout(rows.host(error / count), rows.host(correlation))


def heldout_of_sums(found: Means, masks: Masks, theta: np.ndarray, level: np.ndarray) -> Heldout:
    """Return what `heldout` returns, from sums over the held-out rows, all of which count for all targets.

    found  of the held-out rows
    masks  moments of their masks
    """
    variance, spread = found.variance, masks.squares(theta)
    shared = np.einsum("ij,ij->i", theta, found.covariance)
    guess = theta @ found.mean_masks[0]
    error = np.maximum(variance - 2 * shared + spread, 0) + (found.mean - level - guess) ** 2
    varies = (variance > ROUNDING * found.square / found.count) & (spread > ROUNDING * (spread + guess**2))
    correlation = np.where(varies, shared / np.sqrt(np.where(varies, variance * spread, 1)), 0)
    return Heldout(error, np.clip(correlation, -1, 1))


def heldout_error(
    rows: Rows, outputs: np.ndarray, keep: np.ndarray | None, theta: np.ndarray, level: np.ndarray
) -> np.ndarray:
    """Return the mean squared errors float64[a] of `heldout`."""
    return heldout(rows, outputs, keep, theta, level).error
