"""Keep the Gram of many masks in a quarter of the memory, exactly: as int16, in panels of columns.

Each two columns of random masks share about as many rows. So a count less the usual one fits in 16 bits: at m = 300,000
its standard deviation is 240. One panel stays in a level-3 cache while all targets of a block read their rows of it.
Compiled by numba.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from datamodels.fit.kernels import bitwise
from datamodels.fit.kernels.coordinate_descent import CACHE_LINE, _jit, aligned
from datamodels.fit.kernels.popcount import transposed

WIDTH = 128
"""Columns of a panel. At d = 50,000 it has 13 MB."""
FLOAT_ROWS = 2048
"""Rows of a panel that are converted to floats at a time, for products of matrices."""
TILE_ROWS = 1024
"""Rows of a panel that are read at a time: 256 kB, which stay in a level-2 cache."""
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


def _add_rows_entries(context, panel, columns, weights, bounds, sums):
    """Generate a loop that keeps one sum for each column of a panel in registers."""

    def generate(context, builder, signature, arguments):
        kinds, wide, small = signature.args, ir.IntType(64), ir.IntType(32)
        number, lanes = context.get_value_type(kinds[2].dtype), 8 * CACHE_LINE // kinds[2].dtype.bitwidth
        line, stored, lines = ir.VectorType(number, lanes), ir.VectorType(ir.IntType(16), lanes), range(WIDTH // lanes)
        panel, columns, weights, bounds, sums = (
            context.make_array(kind)(context, builder, value).data for kind, value in zip(kinds, arguments, strict=True)
        )

        def at(pointer, place):
            return builder.gep(pointer, [place if isinstance(place, ir.Value) else ir.Constant(wide, place)])

        first, last = (builder.load(at(bounds, i)) for i in range(2))
        panel, sums = builder.bitcast(panel, stored.as_pointer()), builder.bitcast(sums, line.as_pointer())
        totals = [cgutils.alloca_once(builder, line) for _ in lines]
        for i in lines:
            builder.store(builder.load(at(sums, i), align=4), totals[i])
        with cgutils.for_range_slice(builder, first, last, ir.Constant(wide, 1), wide) as (k, _):
            row = at(panel, builder.mul(builder.load(at(columns, k)), ir.Constant(wide, len(lines))))
            one = builder.insert_element(ir.Constant(line, ir.Undefined), builder.load(at(weights, k)), small(0))
            weight = builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(small, lanes), [0] * lanes))
            for i in lines:
                values = builder.sitofp(builder.load(at(row, i), align=2), line)
                term = builder.fmul(weight, values, flags=("fast",))
                builder.store(builder.fadd(builder.load(totals[i]), term, flags=("fast",)), totals[i])
        for i in lines:
            builder.store(builder.load(totals[i]), at(sums, i), align=4)
        return context.get_dummy_value()

    return types.void(panel, columns, weights, bounds, sums), generate


_add_rows: Any = intrinsic(_add_rows_entries)
"""Add weights[k] panel[columns[k]] to `sums`, for bounds[0] <= k < bounds[1]."""


@_jit
def _changes(places, counts, theta, base, entries):
    """Return the columns in which theta and base differ, of all targets one after the other.

    Columns that never vary count as unchanged. Returns

    column  int64[k]
    change  [k]; by how much they differ
    bounds  int64[tiles + 1, p, 2]; the changes of each tile and target; in the last, all of a target
    """
    d = theta.shape[1]
    tiles, most = -(-d // TILE_ROWS), 0
    for j in places:
        most += counts[j]
    column, change = np.empty(most, dtype=np.int64), np.empty(most, dtype=theta.dtype)
    bounds = np.empty((tiles + 1, len(places), 2), dtype=np.int64)
    k = 0
    for p, j in enumerate(places):
        bounds[tiles, p, 0] = k
        for tile in range(tiles):
            bounds[tile, p, 0] = k
            for c in range(TILE_ROWS * tile, min(TILE_ROWS * (tile + 1), d)):
                if (theta[j, c] != base[j, c]) & (entries.curvature[c] > 0):
                    column[k], change[k] = c, theta[j, c] - base[j, c]
                    k += 1
            bounds[tile, p, 1] = k
        bounds[tiles, p, 1] = k
    return column, change, bounds


@_jit
def sparse_neg_grads(places, counts, theta, base, base_neg_grad, entries, neg_grad):
    """Do what `coordinate_descent.sparse_neg_grads` does, in the type of theta: float32 or float64.

    All targets read the rows of a tile of the Gram, before any of them reads those of the next.
    """
    values, mean, curvature, usual, rows = entries
    d = theta.shape[1]
    column, change, bounds = _changes(places, counts, theta, base, entries)
    total, along = np.zeros(len(places)), np.zeros(len(places))
    for p in range(len(places)):
        for k in range(bounds[-1, p, 0], bounds[-1, p, 1]):
            total[p] += change[k]
            along[p] += change[k] * mean[column[k]]
    share, varying = (curvature > 0) / rows, (curvature > 0) * mean
    sums = aligned(len(places) * WIDTH, theta).reshape(len(places), WIDTH)
    for panel in range(len(values)):
        low = panel * WIDTH
        sums[:] = 0
        for number in range(len(bounds) - 1):
            for p in range(len(places)):
                _add_rows(values[panel], column, change, bounds[number, p], sums[p])
        for p, j in enumerate(places):
            ones, means = usual * total[p], along[p]
            for i in range(min(WIDTH, d - low)):
                shared = (sums[p, i] + ones) * share[low + i] - means * varying[low + i]
                neg_grad[j, low + i] = base_neg_grad[j, low + i] - shared
    for p, j in enumerate(places):
        for k in range(bounds[-1, p, 0], bounds[-1, p, 1]):
            c = column[k]
            neg_grad[j, c] -= change[k] * (curvature[c] - (usual / rows - mean[c] * mean[c]))


class Panels:
    """The Gram of centred masks, as `Entries`. It offers what `lasso.coordinate` needs of a Gram."""

    SMALL_SET, SPARSE = 0.05, 0.6
    """Replace the numbers of `lasso.coordinate`. Measured at d = 10,000, m = 60,000: 0.1 and 0.02 of the columns as the
    largest working set are 7 and 5% slower. Rows are added at 24 G/s, and matrix products, of all rows, take 32 G/s."""

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
