"""Compute duality gaps: upper bounds on how far the objective of a solution is above its optimum.

For one target, over the m rows that count for it, write X for their masks, r = y - X theta - b for the residuals and
P for the objective of `problem`. Its Fenchel dual is

    D(v) = v . y - m/2 ||v||^2     over v in R^m with  1 . v = 0  and  ||X' v||_inf <= lambda

with 1 . v = 0 because the intercept is free. Take any u in R^m with 1 . u = 0, such as the residuals at the best
intercept. Then v = s u / m is feasible for |s| <= lambda / ||X' u / m||_inf, and

    P(theta, b) - D(v) = ||r - s u||^2 / (2 m)  +  lambda ||theta||_1  -  s theta . X' u / m

Neither of its two parts, the first term and the other two, is ever negative. We take the best feasible s. Centring the
columns of X does not change X' u. The gap is stated relative to P(0, mean(y)), half the variance of y: the objective at
zero weights. The objective is above its optimum by at most this. With a factor f_c on the lambda of each column, read
sum_c f_c |theta_c| for ||theta||_1 and max_c |v_c| / f_c for ||v||_inf.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from datamodels.fit.data import rows as row_blocks
from datamodels.fit.data.rows import Rows

if TYPE_CHECKING:
    from datamodels.fit.kernels.membership import Sparse

PASS_ROWS = 1024
"""Rows that are read at a time. A GPU converts them to float64. A CPU leaves them packed, rounds residuals to 42 bits
below the largest, and adds them exactly (`kernels.lookup`)."""


def relative(
    *,
    square: np.ndarray,
    aligned: np.ndarray,
    dual_norm: np.ndarray,
    l1: np.ndarray,
    lambda_: np.ndarray,
    zero: np.ndarray,
    stale: np.ndarray | float = 0.0,
) -> np.ndarray:
    """Return relative gaps float64[n] from their parts, all float64[n].

    square     ||u||^2 / m
    aligned    theta . X' u / m
    dual_norm  ||X' u / m||_inf
    l1         ||theta||_1
    zero       variance of y: twice the objective at zero weights
    stale      ||r - u||^2 / m, if u are the residuals of an earlier theta
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        limit = np.where(dual_norm > 0, lambda_ / dual_norm, np.inf)
        best = np.where(square > 0, 1 + aligned / square, 1)
        s = np.clip(best, -limit, limit)
        distance = (np.abs(1 - s) * np.sqrt(square) + np.sqrt(stale)) ** 2
        return (distance / 2 + np.maximum(lambda_ * l1 - s * aligned, 0)) / (zero / 2)


def certify(
    rows: Rows,
    span: slice,
    y: np.ndarray,
    keep: np.ndarray | None,
    theta: np.ndarray,
    lambda_: np.ndarray,
    current: np.ndarray | None = None,
    factor: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return (gaps float64[n], the best intercepts float64[n]) of weights, from the masks, in float64 throughout.

    y        [rows of span, n]
    keep     bool[rows of span, n]; which rows count; None if all do
    theta    float32[d, n]; weights on the raw 0/1 scale, as they are saved
    lambda_  float64[n]
    current  [d, n]; the weights before they were rounded to `theta`; None if they were not. The dual point is made of
             their residuals, so that the rounding adds only a term of second order to the gap
    factor   [d, n] of the array module; factors of the penalty; None if they are 1
    """
    xp = rows.xp
    theta = xp.asarray(theta).astype(np.float64)
    current = theta if current is None else xp.asarray(current).astype(np.float64)
    pieces = [(s, slice(s.start - span.start, s.stop - span.start)) for s in row_blocks.partition(span, PASS_ROWS)]
    keep = xp.ones((1, 1), dtype=bool) if keep is None else keep
    counts = xp.broadcast_to(keep, y.shape).sum(axis=0).astype(np.float64)
    mean_y = xp.where(keep, y, 0).sum(axis=0, dtype=np.float64) / counts

    rounding = theta - current
    multiply: Any = _Floats(rows) if xp is not np else _Packed(rows)
    predict = multiply.by(current), multiply.by(rounding)
    residuals, bias = xp.empty(y.shape, dtype=np.float64), xp.zeros(y.shape[1])
    for piece, local in pieces:
        predicted, off = multiply.rows(piece, *predict)
        residuals[local] = y[local] - mean_y - predicted
        bias += xp.where(keep if len(keep) == 1 else keep[local], off, 0).sum(axis=0) / counts
    shift = xp.where(keep, residuals, 0).sum(axis=0) / counts
    residuals -= shift
    residuals *= keep
    products = multiply.columns(pieces, residuals)
    centred_y = y - mean_y
    centred_y *= keep
    parts = {
        "square": rows.dots(residuals, residuals) / counts,
        "aligned": rows.dots(theta, products) / counts,
        "dual_norm": abs(products if factor is None else products / factor).max(axis=0) / counts,
        "l1": abs(theta if factor is None else theta * factor).sum(axis=0),
        "zero": rows.dots(centred_y, centred_y) / counts,
        "stale": (abs(rounding).sum(axis=0) / 2) ** 2,  # a column of bits deviates by at most 1/2
    }
    center = xp.asarray(rows.problem.center).astype(np.float64)
    intercept = rows.host(mean_y + shift - bias - center @ theta)
    return relative(lambda_=lambda_, **{name: rows.host(part) for name, part in parts.items()}), intercept


class _Floats:
    """Multiplies masks as floats, on a GPU."""

    def __init__(self, rows: Rows):
        self._rows = rows

    def by(self, weights: np.ndarray) -> np.ndarray:
        """Prepare weights float64[d, n] for `rows`."""
        return weights

    def rows(self, piece: slice, *prepared: np.ndarray) -> list[np.ndarray]:
        """Return the products [r, n] of the masks of some rows, less their centre, and weights."""
        x = self._rows.exact(piece)
        return [x @ weights for weights in prepared]

    def columns(self, pieces: Sequence[tuple[slice, slice]], residuals: np.ndarray) -> np.ndarray:
        """Return the products [d, n] of the masks, less their centre, and residuals."""
        found = self._rows.xp.zeros((self._rows.problem.columns, residuals.shape[1]))
        for piece, local in pieces:
            found += self._rows.exact(piece).T @ residuals[local]
        return found


class _Packed:
    """Does what `_Floats` does with packed masks, on a CPU."""

    def __init__(self, rows: Rows):
        self._rows = rows

    def by(self, weights: np.ndarray) -> Sparse:
        from datamodels.fit.kernels.membership import Sparse

        return Sparse.of(weights, self._rows.problem.center)

    def rows(self, piece: slice, *prepared: Sparse) -> list[np.ndarray]:
        words = self._rows.words(piece)
        return [sparse.sums(words, piece.stop - piece.start) for sparse in prepared]

    def columns(self, pieces: Sequence[tuple[slice, slice]], residuals: np.ndarray) -> np.ndarray:
        from datamodels.fit.kernels import lookup

        rows, n = self._rows, residuals.shape[1]
        found, total = np.zeros((n, rows.problem.columns)), residuals.sum(axis=0)
        for piece, local in pieces:
            lookup.products(rows.packed(piece), rows.problem.columns, residuals[local], found=found)
        for k in range(n):
            found[k] -= total[k] * rows.problem.center
        return found.T
