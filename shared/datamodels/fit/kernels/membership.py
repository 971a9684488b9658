"""Add up the weights of the columns in many subsets. Compiled by numba."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from datamodels.fit.kernels.bitwise import columns_of
from datamodels.fit.kernels.coordinate_descent import aligned, jit_in_order

WORD = 32
"""Number of subsets in a word: a weight is added to their sums at once."""
COLUMNS = 4
"""Columns whose weights are added at a time, so that sums are read and written for every fourth."""


def _masked_add(context, sums, first, words, weights):
    def generate(context, builder, signature, arguments):
        array, first, words, weights = arguments
        many = ir.VectorType(context.get_value_type(signature.args[0].dtype), WORD)
        small = ir.IntType(32)
        place = builder.gep(context.make_array(signature.args[0])(context, builder, array).data, [first])
        place = builder.bitcast(place, many.as_pointer())
        total, lanes = builder.load(place, align=4), ir.Constant(ir.VectorType(small, WORD), [0] * WORD)
        for i in range(COLUMNS):
            chosen = builder.bitcast(builder.extract_value(words, i), ir.VectorType(ir.IntType(1), WORD))
            weight = builder.extract_value(weights, i)
            one = builder.insert_element(ir.Constant(many, ir.Undefined), weight, ir.Constant(small, 0))
            added = builder.fadd(total, builder.shuffle_vector(one, one, lanes))
            total = builder.select(chosen, added, total)
        builder.store(total, place, align=4)
        return context.get_dummy_value()

    kinds = types.UniTuple(types.uint32, COLUMNS), types.UniTuple(sums.dtype, COLUMNS)
    return types.void(sums, types.intp, *kinds), generate


_add: Any = intrinsic(_masked_add)
"""Add four weights, one after the other, to those of the 32 sums from `first` whose bit in the weight's word is set."""


@jit_in_order
def _sums(indptr, columns, weights, targets, words, found):
    sums, none, zero = aligned(WORD * words.shape[1], weights), np.uint32(0), weights.dtype.type(0)
    for i in range(len(targets)):
        sums[:] = 0
        start, stop = indptr[targets[i]], indptr[targets[i] + 1]
        rest = stop - (stop - start) % COLUMNS
        for k in range(start, rest, COLUMNS):
            w0, w1, w2, w3 = words[columns[k]], words[columns[k + 1]], words[columns[k + 2]], words[columns[k + 3]]
            four = weights[k], weights[k + 1], weights[k + 2], weights[k + 3]
            for word in range(words.shape[1]):
                _add(sums, WORD * word, (w0[word], w1[word], w2[word], w3[word]), four)
        for k in range(rest, stop):
            for word in range(words.shape[1]):
                _add(sums, WORD * word, (words[columns[k], word], none, none, none), (weights[k], zero, zero, zero))
        for subset in range(len(found)):
            found[subset, i] = sums[subset]


def words_of(masks: np.ndarray, d: int) -> np.ndarray:
    """Return uint32[d, ceil(s / 32)], which subsets have each column, of packed subsets uint8[s, ceil(d / 8)]."""
    bits = np.zeros((d, 8 * -(-len(masks) // 64)), dtype=np.uint8)
    columns_of(masks, bits)
    return np.ascontiguousarray(bits.view("<u4")[:, : -(-len(masks) // WORD)])


def sums(
    indptr: np.ndarray, columns: np.ndarray, weights: np.ndarray, targets: np.ndarray, words: np.ndarray, subsets: int
) -> np.ndarray:
    """Return float64[s, t]: for each subset and target, the sum of the target's weights of columns in the subset.

    indptr, columns, weights  as in a Solution
    targets                   int[t]
    words                     what `words_of` returned
    subsets                   s

    The weights are added in their type, float32 or float64, in their order.
    """
    found = np.empty((subsets, len(targets)))
    _sums(indptr, columns, weights, targets, words, found)
    return found


@dataclasses.dataclass(frozen=True, eq=False)
class Sparse:
    """Weights of a targets for centred masks; most of them are 0.

    support  int64[s]; the columns with a weight of any target
    indptr, columns, weights  the weights of each target, as in a Solution; columns count within `support`
    shift    float64[a]; the sum for a mask without columns
    """

    support: np.ndarray
    indptr: np.ndarray
    columns: np.ndarray
    weights: np.ndarray
    shift: np.ndarray

    @classmethod
    def of(cls, theta: np.ndarray, center: np.ndarray) -> Sparse:
        """Take weights [d, a], float32 or float64, and what is subtracted from masks, [d]."""
        support = np.flatnonzero(theta.any(axis=1))
        used = np.ascontiguousarray(theta[support].T)
        target, columns = np.nonzero(used)
        indptr = np.searchsorted(target, np.arange(len(used) + 1))
        shift = -(used.astype(np.float64) @ center[support].astype(np.float64))
        return cls(support, indptr, columns, used[target, columns], shift)

    def sums(self, words: np.ndarray, masks: int) -> np.ndarray:
        """Return float64[s, a]: the sums for s masks, whose columns are words uint64[w, d] as of `lookup.words_of`."""
        lines = np.ascontiguousarray(words[:, self.support].T).view(np.uint32)
        return sums(self.indptr, self.columns, self.weights, np.arange(len(self.shift)), lines, masks) + self.shift
