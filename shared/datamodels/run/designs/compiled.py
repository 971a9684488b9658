"""Draw many subsets fast: the same ones as `drawing` draws with NumPy, by loops that numba compiles.

A subset is the columns with the smallest of as many random keys. The smallest ones are found without keeping the keys:
about which key is the last one is known beforehand, so keys well below it are set at once, and only those near it,
some in a hundred, are kept and compared. What is left is the cost of the random numbers.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from datamodels import machine
from datamodels.run.designs.design import KINDS, Design
from datamodels.run.designs.packing import pack

DEVIATIONS = 5
"""Standard deviations on either side of the expected last key within which keys are compared. It lies beyond once in
two million subsets; then NumPy draws the subset."""
_U = np.uint64
_MULTIPLIERS = _U(0xD2E7470EE14C6C93), _U(0xCA5A826395121157)
_ONES = _U(0x4332322132212110)
"""Four bits for each number of four bits: how many of its bits are set."""
_WEYL = _U(0x9E3779B97F4A7C15), _U(0xBB67AE8584CAA73B)


def _wide(context, a, b):
    pair = types.UniTuple(types.uint64, 2)

    def generate(context, builder, signature, arguments):
        wide = ir.IntType(128)
        product = builder.mul(*(builder.zext(argument, wide) for argument in arguments))
        high = builder.lshr(product, ir.Constant(wide, 64))
        return context.make_tuple(builder, pair, [builder.trunc(half, ir.IntType(64)) for half in (high, product)])

    return pair(types.uint64, types.uint64), generate


_product: Any = intrinsic(_wide)
"""Multiply two uint64. Returns the high and the low half of the product."""


def _jit(function):
    try:
        return numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:  # numba finds no folder for its cache
        return numba.njit(nogil=True)(function)


@_jit
def _philox(counter, seed, index):
    """Return four uint64 of the generator Philox4x64-10 (Salmon et al. 2011) with the key (seed, index)."""
    a, b, c, d = counter, _U(0), _U(0), _U(0)
    for _ in range(10):
        (high, low), (other_high, other_low) = _product(_MULTIPLIERS[0], a), _product(_MULTIPLIERS[1], c)
        a, b, c, d = other_high ^ b ^ seed, other_low, high ^ d ^ index, low
        seed += _WEYL[0]
        index += _WEYL[1]
    return a, b, c, d


@_jit
def _to_front(keys, count, total):
    """Order the first `total` keys so that the `count` smallest ones come first (Hoare 1961)."""
    left, right = 0, total - 1
    while left < right:
        pivot = keys[(left + right) // 2]
        low, high = left, right
        while low <= high:
            while keys[low] < pivot:
                low += 1
            while keys[high] > pivot:
                high -= 1
            if low <= high:
                keys[low], keys[high] = keys[high], keys[low]
                low += 1
                high -= 1
        if count <= high:
            right = high
        elif count >= low:
            left = low
        else:
            break


@_jit
def _stratum(seed, index, start, end, drawn, bar, span, kept, bits):
    """Set the bits of the columns of a stratum, places start to end, that are drawn. Returns whether that was done."""
    length = 0
    while (end - start) >> length:
        length += 1
    high = ~((_U(1) << _U(length)) - _U(1))
    below, near = _U(0), 0
    for block in range(start // 4, (end + 3) // 4):
        a, b, c, d = _philox(_U(block + 1), seed, index)
        low = _U(4 * block - start)
        a, b = (a & high) | low, (b & high) | (low + _U(1))
        c, d = (c & high) | (low + _U(2)), (d & high) | (low + _U(3))
        inside = _U(15)
        if 4 * block < start:
            inside &= inside << _U(start - 4 * block)
        if 4 * block + 4 > end:
            inside &= _U(15) >> _U(4 * block + 4 - end)
        chosen = (_U(a < bar) | _U(b < bar) << _U(1) | _U(c < bar) << _U(2) | _U(d < bar) << _U(3)) & inside
        below += _ONES >> (_U(4) * chosen) & _U(15)
        bits[block >> 1] |= np.uint8(chosen << _U(4 * (block & 1)))
        if (a - bar < span) | (b - bar < span) | (c - bar < span) | (d - bar < span):
            for key in (a, b, c, d):
                kept[near] = key
                near += (key - bar < span) & (inside & _U(1) == _U(1))
                inside >>= _U(1)
    missing = drawn - np.int64(below)
    if missing < 0 or missing > near:
        return False
    _to_front(kept, missing, near)
    for key in kept[:missing]:
        place = start + np.int64(key & ~high)
        bits[place >> 3] |= np.uint8(1 << (place & 7))
    return True


@_jit
def draw(seed, first, pairs, columns, ends, drawn, bars, spans, free, masks, done):
    """Draw the subsets of rows first, first + 1, ... of a design.

    seed     uint64
    first    uint64; index of the first subset
    pairs    whether every second subset is the complement of the one before
    columns  int64[c]; the unpinned columns, stratum after stratum; empty if they are 0, 1, ... of one stratum
    ends     int64[s]; the end of each stratum in `columns`
    drawn    int64[s]; how many columns of each stratum are in a subset
    bars     uint64[s]; columns with keys below it are certainly drawn
    spans    uint64[s]; columns with keys from bar + span are certainly not
    free     uint8[b]; packed mask of the unpinned columns
    masks    uint8[r, b]; packed masks of the pinned columns; those that are drawn are added
    done     bool[r]; set to False for a subset that must be drawn otherwise
    """
    kept = np.empty(ends[-1] + 4, dtype=np.uint64)
    placed = np.zeros((ends[-1] + 7) // 8, dtype=np.uint8)
    for row in range(len(masks)):
        # Bits of a subset are set by place in `columns`. If places are columns, they are set in the mask itself.
        bits = placed if len(columns) else masks[row]
        bits[: len(placed)] = 0
        index = first + _U(row)
        flip = pairs and index & _U(1) == _U(1)
        start = 0
        for s in range(len(ends)):
            done[row] &= _stratum(seed, index - _U(flip), start, ends[s], drawn[s], bars[s], spans[s], kept, bits)
            start = ends[s]
        for place in range(len(columns)):
            column = columns[place]
            masks[row, column >> 3] |= np.uint8((bits[place >> 3] >> (place & 7) & 1) << (column & 7))
        if flip:
            masks[row] ^= free


def subsets(design: Design, first: int, last: int, deviations: float = DEVIATIONS) -> tuple[np.ndarray, np.ndarray]:
    """Draw the subsets first <= index < last, none of them from a matrix or from the store, on all cores.

    Returns uint8[last - first, mask_bytes], the packed masks, and bool[last - first], which of them are drawn: the few
    others have a last key that is unlikely.
    """
    strata = [(columns, drawn) for columns, drawn in design.strata if len(columns)]
    columns = np.concatenate([columns for columns, _ in strata]).astype(np.int64)
    sizes, drawn = np.array([len(columns) for columns, _ in strata]), np.array([drawn for _, drawn in strata])
    bars, spans = zip(*(_bar(size, count, deviations) for size, count in zip(sizes, drawn, strict=True)), strict=True)
    free, pinned = np.zeros((2, design.columns), dtype=bool)
    free[columns], pinned[list(design.pinned_in)] = True, True
    if len(strata) == 1 and free.all():
        columns = columns[:0]
    masks, done = np.repeat(pack(pinned)[None], last - first, axis=0), np.ones(last - first, dtype=bool)
    kind = KINDS[design.kind]
    shape = (np.cumsum(sizes), drawn, np.array(bars, dtype=np.uint64), np.array(spans, dtype=np.uint64), pack(free))

    def rows(part: np.ndarray) -> None:
        start, stop = int(part[0]), int(part[-1]) + 1
        begin = _U(first + start)
        draw(_U(design.seed), begin, kind.paired, columns, *shape, masks[start:stop], done[start:stop])

    parts = np.array_split(np.arange(last - first), min(machine.cores(), last - first))
    with ThreadPoolExecutor(len(parts)) as pool:
        list(pool.map(rows, parts))
    return masks, done


def _bar(size: int, drawn: int, deviations: float) -> tuple[int, int]:
    """Return the key below which columns are certainly drawn, and how far above it they are certainly not."""
    width = deviations * math.sqrt(drawn * (1 - drawn / size)) + 1
    low, high = (min(max(0, int((drawn + sign * width) / size * 2**64)), 2**64 - 1) for sign in (-1, 1))
    return low, high - low
