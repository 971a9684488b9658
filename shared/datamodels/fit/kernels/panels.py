"""Keep the Gram of many masks in a quarter of the memory, exactly: as int16, in panels of columns.

Each two columns of random masks share about as many rows. So a count less the usual one fits in 16 bits: at m = 300,000
its standard deviation is 240. One panel stays in a level-3 cache while all targets of a block read their rows of it.
Compiled by numba.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from datamodels.fit.kernels import bitwise
from datamodels.fit.kernels.coordinate_descent import _jit
from datamodels.fit.kernels.popcount import transposed

WIDTH = 128
"""Columns of a panel. At d = 50,000 it has 13 MB."""
FLOAT_ROWS = 2048
"""Rows of a panel that are converted to floats at a time, for products of matrices."""
LIMIT = 2**15 - 1
"""Largest count less the usual one that can be stored, either way."""


class Entries(NamedTuple):
    """A Gram G of centred masks: G_ij = (values of i and j + usual) / rows - mean_i mean_j, except on the diagonal, and
    except for columns that never vary, whose entries are 0.

    values     int16[p, d, WIDTH]; of row i and column j: values[j // WIDTH, i, j % WIDTH]; 0 on the diagonal
    mean       float64[d]; fraction of the rows that each column is in
    curvature  [d]; the diagonal of G, in the type of the results; 0 for columns that never vary
    usual      float64; the count that is subtracted from all counts
    rows       float64
    """

    values: np.ndarray
    mean: np.ndarray
    curvature: np.ndarray
    usual: float
    rows: float


@_jit
def _add_counts(bits, varies, panel, usual, values):
    """Add the counts of one panel with itself and all later ones to `values`. Returns whether all of them fit.

    bits    uint64[e, w], e a multiple of WIDTH; the columns of some rows
    varies  bool[d]
    """
    d, words = len(varies), bits.shape[1]
    counts, fit = np.zeros((WIDTH, WIDTH), dtype=np.int32), True
    left = bits[panel * WIDTH : (panel + 1) * WIDTH]
    for other in range(panel, len(values)):
        counts[:] = 0
        bitwise.count(left, bits[other * WIDTH : (other + 1) * WIDTH], 0, words, counts)
        for i in range(min(WIDTH, d - panel * WIDTH)):
            row = panel * WIDTH + i
            for j in range(min(WIDTH, d - other * WIDTH)):
                column = other * WIDTH + j
                if row != column and varies[row] and varies[column]:
                    more = values[other, row, j] + counts[i, j] - usual
                    fit &= (more <= LIMIT) & (more >= -LIMIT)
                    values[other, row, j] = more
        if other > panel:
            for j in range(min(WIDTH, d - other * WIDTH)):
                for i in range(WIDTH):
                    values[panel, other * WIDTH + j, i] = values[other, panel * WIDTH + i, j]
    return fit


def add_counts(
    values: np.ndarray, varies: np.ndarray, blocks: Iterable[np.ndarray], share: float, threads: int
) -> tuple[np.ndarray, int] | None:
    """Add masks to the values of an `Entries`, int16[p, d, WIDTH].

    varies  bool[d]; whether a column varies; the values of the others stay
    blocks  uint8[r, ceil(d / 8)]; packed masks
    share   the share of the masks that usually have both of two columns

    Returns (int64[d]: rows of each column, the usual count), or None if a count differs too much from the usual one.
    """
    d = len(varies)
    ones, usual = np.zeros(d, dtype=np.int64), 0

    def add(bits: np.ndarray, less: int, panel: int) -> bool:
        return _add_counts(bits, varies, panel, less, values)

    with ThreadPoolExecutor(max(1, threads), thread_name_prefix="gram") as pool:
        for masks in blocks:
            bits, less = transposed(masks, d, WIDTH), round(share * len(masks))
            # The first panels take longest, and the last are short, so that no thread waits long at the end.
            if not all(list(pool.map(functools.partial(add, bits, less), range(len(values))))):
                return None
            ones += bitwise.ones(bits, bits.shape[1], d)
            usual += less
    return ones, usual


@_jit
def _changes(places, counts, theta, base, entries):
    """Return where theta and base differ, int64[p, k], by how much [p, k], the sums of that and of that times mean.

    k is at least 7 above all counts; beyond the count of a target, its changes are 0. Columns that never vary count
    as unchanged.
    """
    longest = 8
    for j in places:
        longest = max(longest, counts[j] + 7)
    where = np.zeros((len(places), longest), dtype=np.int64)
    change = np.zeros((len(places), longest), dtype=theta.dtype)
    total, along = np.zeros(len(places)), np.zeros(len(places))
    for p, j in enumerate(places):
        k = 0
        for c in range(theta.shape[1]):
            if theta[j, c] != base[j, c]:
                where[p, k], change[p, k] = c, (theta[j, c] - base[j, c]) * (entries.curvature[c] > 0)
                total[p] += change[p, k]
                along[p] += change[p, k] * entries.mean[c]
                k += 1
    return where, change, total, along


@_jit
def sparse_neg_grads(places, counts, theta, base, base_neg_grad, entries, neg_grad):
    """Do what `coordinate_descent.sparse_neg_grads` does, in the type of theta: float32 or float64."""
    values, mean, curvature, usual, rows = entries
    d = theta.shape[1]
    where, change, total, along = _changes(places, counts, theta, base, entries)
    sums = np.empty(WIDTH, dtype=theta.dtype)
    for panel in range(len(values)):
        low = panel * WIDTH
        for p, j in enumerate(places):
            sums[:] = 0
            for k in range(0, counts[j], 8):  # beyond the last, changes are 0
                w, at = change[p, k : k + 8], where[p, k : k + 8]
                w0, w1, w2, w3, w4, w5, w6, w7 = w[0], w[1], w[2], w[3], w[4], w[5], w[6], w[7]
                g0, g1, g2, g3 = (
                    values[panel, at[0]],
                    values[panel, at[1]],
                    values[panel, at[2]],
                    values[panel, at[3]],
                )
                g4, g5, g6, g7 = (
                    values[panel, at[4]],
                    values[panel, at[5]],
                    values[panel, at[6]],
                    values[panel, at[7]],
                )
                for i in range(WIDTH):
                    four = w0 * g0[i] + w1 * g1[i] + w2 * g2[i] + w3 * g3[i]
                    sums[i] += four + (w4 * g4[i] + w5 * g5[i] + w6 * g6[i] + w7 * g7[i])
            for i in range(min(WIDTH, d - low)):
                if curvature[low + i] <= 0:
                    neg_grad[j, low + i] = base_neg_grad[j, low + i]
                    continue
                shared = (sums[i] + usual * total[p]) / rows - mean[low + i] * along[p]
                neg_grad[j, low + i] = base_neg_grad[j, low + i] - shared
    for p, j in enumerate(places):
        for k in range(counts[j]):
            c = where[p, k]
            neg_grad[j, c] -= change[p, k] * (curvature[c] - (usual / rows - mean[c] * mean[c]))


class Panels:
    """The Gram of centred masks, as `Entries`. It offers what `lasso.coordinate` needs of a Gram."""

    SMALL_SET, SPARSE = 0.05, 0.2
    """Replace the numbers of `lasso.coordinate`. Measured at d = 10,000, m = 60,000: 0.1 and 0.02 of the columns as the
    largest working set are 7 and 5% slower."""

    __array_ufunc__ = None  # so that `array @ panels` calls __rmatmul__
    sparse_neg_grads = staticmethod(sparse_neg_grads)

    def __init__(self, values: np.ndarray, ones: np.ndarray, usual: int, rows: int, dtype: np.dtype):
        mean = ones / rows
        self.curvature = mean - mean**2
        self.entries = Entries(values, mean, self.curvature.astype(dtype), float(usual), float(rows))
        self.dtype = np.dtype(dtype)

    def __len__(self) -> int:
        return len(self.entries.mean)

    def exactly(self, theta: np.ndarray) -> np.ndarray:
        """Return weights float64[a, d] times G, in float64."""
        return self._times(theta, self.entries._replace(curvature=self.curvature))

    def __matmul__(self, vector: np.ndarray) -> np.ndarray:
        """Return G times a vector [d]."""
        return self._times(vector[None], self.entries)[0]

    def _times(self, theta: np.ndarray, entries: Entries) -> np.ndarray:
        zeros, found = np.zeros_like(theta), np.zeros_like(theta)
        sparse_neg_grads(np.arange(len(theta)), np.count_nonzero(theta, axis=1), zeros, theta, zeros, entries, found)
        return found

    def __rmatmul__(self, left: np.ndarray) -> np.ndarray:
        """Return [a, d] times G by products of matrices, for arrays with few zeros."""
        values, mean, curvature, usual, rows = self.entries
        found, left = np.empty(left.shape, dtype=left.dtype), left * (curvature > 0)
        sums = left.sum(axis=1, dtype=np.float64)[:, None] * (usual / rows)
        along = (left @ mean)[:, None]
        for panel in range(len(values)):
            columns = slice(panel * WIDTH, min((panel + 1) * WIDTH, len(mean)))
            total = np.zeros((len(left), WIDTH), dtype=left.dtype)
            for i in range(0, len(mean), FLOAT_ROWS):
                total += left[:, i : i + FLOAT_ROWS] @ values[panel, i : i + FLOAT_ROWS].astype(left.dtype)
            own = curvature[columns] - (usual / rows - mean[columns] ** 2)
            found[:, columns] = total[:, : columns.stop - columns.start] / rows
            found[:, columns] += sums - along * mean[columns] + left[:, columns] * own
            found[:, columns] *= curvature[columns] > 0
        return found
