"""Add up the weights of the columns in many subsets. Compiled by numba."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from datamodels.fit.kernels.bitwise import columns_of
from datamodels.fit.kernels.coordinate_descent import _jit

WORD = 32
"""Subsets whose sums are added to at a time."""


def _masked_add(context, sums, first, word, weight):
    def generate(context, builder, signature, arguments):
        array, first, word, weight = arguments
        many = ir.VectorType(ir.FloatType(), WORD)
        place = builder.gep(context.make_array(signature.args[0])(context, builder, array).data, [first])
        place = builder.bitcast(place, many.as_pointer())
        chosen = builder.bitcast(word, ir.VectorType(ir.IntType(1), WORD))
        undefined = ir.Constant(many, ir.Undefined)
        one = builder.insert_element(undefined, weight, ir.Constant(ir.IntType(32), 0))
        lanes = ir.Constant(ir.VectorType(ir.IntType(32), WORD), [0] * WORD)
        added = builder.select(chosen, builder.shuffle_vector(one, undefined, lanes), ir.Constant(many, [0.0] * WORD))
        builder.store(builder.fadd(builder.load(place, align=4), added), place, align=4)
        return context.get_dummy_value()

    return types.void(sums, types.intp, types.uint32, types.float32), generate


_add: Any = intrinsic(_masked_add)
"""Add a weight to those of the 32 sums from `first` whose bit in the word is set, in a few vector instructions."""


@_jit
def _sums(indptr, columns, weights, targets, words, found):
    sums = np.empty(WORD * words.shape[1], dtype=np.float32)
    for i in range(len(targets)):
        sums[:] = 0
        for k in range(indptr[targets[i]], indptr[targets[i] + 1]):
            for word in range(words.shape[1]):
                _add(sums, WORD * word, words[columns[k], word], weights[k])
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

    The weights are added in float32, in their order.
    """
    found = np.empty((subsets, len(targets)))
    _sums(indptr, columns, weights, targets, words, found)
    return found
