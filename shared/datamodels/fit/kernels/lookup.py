"""Multiply masks by numbers without unpacking them: for four rows, a table holds the 16 sums that they can have.

Four bits of a column say which of four rows have it. They pick a row of the table, so that one addition does the work
of four multiplications (the method of four Russians, Arlazarov et al. 1970). The numbers are rounded to whole multiples
of a unit, a power of two, and added as whole numbers, so that sums are exact and depend on no order. Compiled by numba.
"""

from __future__ import annotations

import functools
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from datamodels.fit.kernels import bitwise
from datamodels.fit.kernels.coordinate_descent import _jit, aligned
from datamodels.run import designs

PASS_ROWS = 1024
"""Rows whose numbers are added in 32 bits."""
BITS = 21
"""Bits of a whole number, besides its sign: the sums of PASS_ROWS of them fit in 32 bits."""
COLUMNS = 2048
"""Columns whose sums are made at a time. They fill 128 kB, so that they stay in a level-2 cache."""
FLUSHED = 256
"""Columns whose sums are added to the result at a time: their lines stay in a level-1 cache."""
LANES = 16
"""Numbers of a row of a table: one vector of 16 int32, for 16 targets."""
_TABLES = 16
"""Tables that are read at a time, one for each four bits of a uint64. They fill 16 kB, so that they stay in a level-1
cache. Measured with tables of eight bits in a level-2 cache instead: half as fast."""


def _add_entries(context, tables, word, sums, place):
    def generate(context, builder, signature, arguments):
        tables, word, sums, place = arguments
        line, wide = ir.VectorType(ir.IntType(32), LANES), ir.IntType(64)
        table = builder.bitcast(context.make_array(signature.args[0])(context, builder, tables).data, line.as_pointer())
        target = builder.gep(context.make_array(signature.args[2])(context, builder, sums).data, [place])
        target = builder.bitcast(target, line.as_pointer())
        terms = [builder.load(target, align=4)]
        for four in range(_TABLES):
            entry = builder.and_(builder.lshr(word, ir.Constant(wide, 4 * four)), ir.Constant(wide, 15))
            entry = builder.add(entry, ir.Constant(wide, 16 * four))
            terms.append(builder.load(builder.gep(table, [entry]), align=4))
        while len(terms) > 1:  # in pairs, so that few additions wait for others
            terms = [
                builder.add(*terms[i : i + 2]) if i + 1 < len(terms) else terms[i] for i in range(0, len(terms), 2)
            ]
        builder.store(terms[0], target, align=4)
        return context.get_dummy_value()

    return types.void(tables, types.uint64, sums, types.intp), generate


_add: Any = intrinsic(_add_entries)
"""Add the entries of all tables that the bits of a word pick to the line of sums that starts at a place."""


@_jit
def _fill(tables, z, first):
    """Fill all tables with the sums of four rows each, from row `first` on; rows beyond the last are zeros."""
    for four in range(_TABLES):
        start = 16 * four * LANES
        tables[start : start + LANES] = 0
        for bit in range(4):
            row, size = first + 4 * four + bit, LANES << bit
            for entry in range(start, start + size, LANES):
                for k in range(LANES):
                    tables[size + entry + k] = tables[entry + k] + (z[row, k] if row < len(z) else np.int32(0))


@_jit
def _products(words, z, unit, found):
    """Add z[i, k] unit[k] to found[k, c] for each bit i of column c.

    words  uint64[w, d]; bit i % 64 of words[i // 64, c] says whether row i has column c
    z      int32[r, LANES], r <= PASS_ROWS and r <= 64 w
    unit   float64[a], a <= LANES
    found  float64[a, d]
    """
    d = words.shape[1]
    tables, sums = aligned(16 * _TABLES * LANES, z), aligned(COLUMNS * LANES, z)
    for low in range(0, d, COLUMNS):
        high = min(low + COLUMNS, d)
        sums[:] = 0
        for word in range((len(z) + 63) // 64):
            _fill(tables, z, 64 * word)
            for c in range(low, high):
                _add(tables, words[word, c], sums, (c - low) * LANES)
        for start in range(low, high, FLUSHED):
            for k in range(len(found)):
                for c in range(start, min(start + FLUSHED, high)):
                    found[k, c] += unit[k] * sums[(c - low) * LANES + k]


def products(
    masks: np.ndarray,
    columns: int,
    z: np.ndarray,
    *,
    exact: bool = True,
    threads: int = 1,
    found: np.ndarray | None = None,
) -> np.ndarray:
    """Return float64[a, d]: z' X, for each column the sum of z over the rows that have it.

    masks    uint8[m, ceil(d / 8)], packed as by `designs.pack`
    columns  d
    z        [m, a]; finite
    exact    round numbers to 2 BITS bits below the largest of their target, instead of BITS: the sums are then those of
             numbers in float32, but for the rounding of float64. Rows that need more than BITS bits are read twice; of
             numbers in float16, these are only the ones that are a thousandth of the largest or less
    found    what the sums are added to, if it is given
    """
    found = np.zeros((z.shape[1], columns)) if found is None else found
    if not z.size:
        return found
    unit = _unit_of(z)
    with ThreadPoolExecutor(max(1, threads), thread_name_prefix="products") as pool:
        for first in range(0, len(masks), PASS_ROWS):
            packed, some = masks[first : first + PASS_ROWS], z[first : first + PASS_ROWS]
            add = functools.partial(_add_group, packed, words_of(packed, columns), some, unit, exact, found)
            list(pool.map(add, range(0, z.shape[1], LANES)))
    return found


def add_rounded(words: np.ndarray, z: np.ndarray, found: np.ndarray) -> None:
    """Add z' X of a few rows to found float64[a, d]. Rounds z to BITS bits below the largest of each target.

    words  uint64[w, d]; what `words_of` returned
    z      [r, a]; finite; r <= PASS_ROWS
    """
    unit = _unit_of(z)
    for group in range(0, z.shape[1], LANES):
        chosen = slice(group, group + LANES)
        _products(words, _rounded(z[:, chosen] / unit[chosen]), unit[chosen], found[chosen])


def _unit_of(z: np.ndarray) -> np.ndarray:
    """Return float64[a]: of each target, the power of two that is BITS bits below its largest number in z [r, a]."""
    return np.ldexp(1.0, np.frexp(abs(z).max(axis=0).astype(np.float64))[1] - BITS)


def _add_group(
    masks: np.ndarray, words: np.ndarray, z: np.ndarray, unit: np.ndarray, exact: bool, found: np.ndarray, group: int
) -> None:
    """Add z' X to found float64[a, d] for up to LANES targets from `group` on.

    masks, words  the same masks uint8[r, ceil(d / 8)], as words of their columns too
    z             [r, a]
    unit          float64[a]
    """
    chosen = slice(group, group + LANES)
    some = z[:, chosen] / unit[chosen]
    whole = _rounded(some)
    _products(words, whole, unit[chosen], found[chosen])
    if exact:
        rest = (some - whole[:, : some.shape[1]]) * 2**BITS
        left = np.flatnonzero(rest.any(axis=1))
        if len(left):
            words = words if len(left) == len(z) else words_of(masks[left], words.shape[1])
            _products(words, _rounded(rest[left]), unit[chosen] / 2**BITS, found[chosen])


def _rounded(z: np.ndarray) -> np.ndarray:
    """Return z [r, a] as int32[r, LANES], zeros beyond a, of which the sum of PASS_ROWS rows does not overflow."""
    most, found = 2**BITS - 1, np.zeros((len(z), LANES), dtype=np.int32)
    found[:, : z.shape[1]] = np.clip(np.rint(z), -most, most)
    return found


def words_of(masks: np.ndarray, columns: int) -> np.ndarray:
    """Return the columns of masks uint8[m, ceil(d / 8)] as words, uint64[ceil(m / 64), d]; see `bitwise.words_of`."""
    rows = np.zeros((len(masks), 8 * -(-columns // 64)), dtype=np.uint8)
    rows[:, : masks.shape[1]] = masks
    words = np.empty((-(-len(masks) // 64), columns), dtype=np.uint64)
    bitwise.words_of(rows.view("<u8").astype(np.uint64, copy=False), words)
    return words


def products_twin(masks: np.ndarray, columns: int, z: np.ndarray) -> np.ndarray:
    """Return what `products` returns, by a product of matrices in float64: for tests."""
    return z.T.astype(np.float64) @ designs.unpack(np.asarray(masks), columns).astype(np.float64)
