"""Multiply masks by numbers without unpacking them: for eight rows, a table holds the 256 sums that they can have.

A byte of a column says which of eight rows have it. It picks a row of the table, so that one addition does the work of
eight multiplications (the method of four Russians, Arlazarov et al. 1970). The numbers are added in their own type, up
to PASS_ROWS rows at a time, and then in float64. Compiled by numba.
"""

from __future__ import annotations

import functools
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from datamodels.fit.kernels.coordinate_descent import _jit
from datamodels.fit.kernels.popcount import transposed
from datamodels.run import designs

PASS_ROWS = 2048
"""Rows whose numbers are added in their own type."""
FLUSHED = 256
"""Columns whose sums are added to the result at a time: their lines stay in a level-1 cache."""
LINE = 64
"""Bytes of a row of a table: one vector, of 16 float32 or of 8 float64."""
_BYTES = 8
"""Tables that are read at a time, one for each byte of a uint64. They fill 128 kB, so that they stay in a level-2
cache."""


def _add_entries(context, tables, word, sums, place):
    def generate(context, builder, signature, arguments):
        tables, word, sums, place = arguments
        number = context.get_value_type(signature.args[0].dtype)
        size = signature.args[0].dtype.bitwidth // 8
        line, wide = ir.VectorType(number, LINE // size), ir.IntType(64)
        table = builder.bitcast(context.make_array(signature.args[0])(context, builder, tables).data, line.as_pointer())
        target = builder.gep(context.make_array(signature.args[2])(context, builder, sums).data, [place])
        target = builder.bitcast(target, line.as_pointer())
        terms = [builder.load(target, align=size)]
        for byte in range(_BYTES):
            entry = builder.and_(builder.lshr(word, ir.Constant(wide, 8 * byte)), ir.Constant(wide, 255))
            entry = builder.add(entry, ir.Constant(wide, 256 * byte))
            terms.append(builder.load(builder.gep(table, [entry]), align=size))
        while len(terms) > 1:  # in pairs, so that few additions wait for others
            terms = [
                builder.fadd(*terms[i : i + 2]) if i + 1 < len(terms) else terms[i] for i in range(0, len(terms), 2)
            ]
        builder.store(terms[0], target, align=size)
        return context.get_dummy_value()

    return types.void(tables, types.uint64, sums, types.intp), generate


_add: Any = intrinsic(_add_entries)
"""Add the entries of eight tables that the bytes of a word pick to the line of sums that starts at a place."""


@_jit
def _fill(tables, z, first):
    """Fill eight tables with the sums of eight rows each, from row `first` on; rows beyond the last are zeros."""
    lanes = z.shape[1]
    for byte in range(_BYTES):
        start = 256 * byte * lanes
        tables[start : start + lanes] = 0
        for bit in range(8):
            row, size = first + 8 * byte + bit, lanes << bit
            for entry in range(start, start + size, lanes):
                for k in range(lanes):
                    more = z[row, k] if row < len(z) else z[0, 0] * 0
                    tables[size + entry + k] = tables[entry + k] + more


@_jit
def _products(words, z, sums, found):
    """Add z[i, k] to found[k, c] for each bit i of column c.

    words  uint64[w, d]; bit i % 64 of words[i // 64, c] says whether row i has column c
    z      [r, lanes], r <= 64 w
    sums   [d lanes], of the type of z; overwritten
    found  float64[<= lanes, d]
    """
    lanes, d = z.shape[1], words.shape[1]
    tables = np.empty(256 * _BYTES * lanes, dtype=z.dtype)
    sums[:] = 0
    for word in range((len(z) + 63) // 64):
        _fill(tables, z, 64 * word)
        for c in range(d):
            _add(tables, words[word, c], sums, c * lanes)
    for start in range(0, d, FLUSHED):
        for k in range(len(found)):
            for c in range(start, min(start + FLUSHED, d)):
                found[k, c] += sums[c * lanes + k]


def products(masks: np.ndarray, columns: int, z: np.ndarray, *, threads: int = 1) -> np.ndarray:
    """Return float64[a, d]: z' X, for each column the sum of z over the rows that have it.

    masks    uint8[m, ceil(d / 8)], packed as by `designs.pack`
    columns  d
    z        float32 or float64 [m, a]; finite
    """
    lanes = LINE // z.dtype.itemsize
    found = np.zeros((z.shape[1], columns))

    def add(words: np.ndarray, some: np.ndarray, group: int) -> None:
        chosen = slice(group, min(group + lanes, z.shape[1]))
        lines = np.zeros((len(some), lanes), dtype=z.dtype)
        lines[:, : chosen.stop - chosen.start] = some[:, chosen]
        _products(words, lines, np.empty(columns * lanes, dtype=z.dtype), found[chosen])

    with ThreadPoolExecutor(max(1, threads), thread_name_prefix="products") as pool:
        for first in range(0, len(masks), PASS_ROWS):
            words = np.ascontiguousarray(transposed(masks[first : first + PASS_ROWS], columns)[:columns].T)
            some = z[first : first + PASS_ROWS]
            list(pool.map(functools.partial(add, words, some), range(0, z.shape[1], lanes)))
    return found


def products_twin(masks: np.ndarray, columns: int, z: np.ndarray) -> np.ndarray:
    """Return what `products` returns, by a product of matrices in float64: for tests."""
    return z.T.astype(np.float64) @ designs.unpack(np.asarray(masks), columns).astype(np.float64)
