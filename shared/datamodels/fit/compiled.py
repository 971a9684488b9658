"""The loops of `gram` that NumPy has no good words for, compiled by numba. Only `gram` and `popcount` need them.

All of them let go of the GIL, so that blocks of targets run side by side. They are compiled when first called and,
where a folder can be written, kept on disk for the next process.
"""

from __future__ import annotations

import numba
import numpy as np
from numba import types
from numba.extending import intrinsic

TILE = 4
"""Columns of a tile of the Gram: 4 x 4 counts stay in registers."""
PANEL = 64
"""Columns of a panel, and words of it taken at a time: two panels of 64 columns x 4 kB stay in a level-2 cache."""
PANEL_WORDS = 512


def _jit(function):
    options = {"nogil": True, "fastmath": True, "error_model": "numpy"}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # no folder to keep the code in
        return numba.njit(**options)(function)


@intrinsic
def _popcount(context, word):
    def generate(context, builder, signature, arguments):
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), generate


@_jit
def transpose(packed, columns):
    """Turns rows of bits into columns of bits.

    packed   uint8[m, b]; bit c % 8 of byte c // 8 of row i is entry (i, c)
    columns  uint8[d, 8 w], zeros, 64 w >= m; bit i % 8 of byte i // 8 of row c becomes entry (i, c)
    """
    m, d = packed.shape[0], columns.shape[0]
    for start in range(0, m, 64):
        stop = min(start + 64, m)
        for byte in range(packed.shape[1]):
            for eight in range(start, stop, 8):
                x = np.uint64(0)
                for k in range(min(8, m - eight)):
                    x |= np.uint64(packed[eight + k, byte]) << np.uint64(8 * k)
                # Transposes 8 x 8 bits by swapping ever larger squares (Warren, Hacker's Delight, 7-3).
                t = (x ^ (x >> np.uint64(7))) & np.uint64(0x00AA00AA00AA00AA)
                x ^= t ^ (t << np.uint64(7))
                t = (x ^ (x >> np.uint64(14))) & np.uint64(0x0000CCCC0000CCCC)
                x ^= t ^ (t << np.uint64(14))
                t = (x ^ (x >> np.uint64(28))) & np.uint64(0x00000000F0F0F0F0)
                x ^= t ^ (t << np.uint64(28))
                for k in range(min(8, d - 8 * byte)):
                    columns[8 * byte + k, eight >> 3] = (x >> np.uint64(8 * k)) & np.uint64(255)


@_jit
def intersections(bits, first, last, counts):
    """Adds up how many bits columns have in common, for columns first <= i < last and all j >= i's tile.

    bits    uint64[d, w], d a multiple of TILE
    counts  int32[d, d], zeros; entries above the diagonal's tiles are set, the others left
    """
    d, words = bits.shape
    for low in range(0, words, PANEL_WORDS):
        high = min(low + PANEL_WORDS, words)
        for panel in range(first - first % PANEL, d, PANEL):
            for i in range(first, last, TILE):
                a0, a1 = bits[i, low:high], bits[i + 1, low:high]
                a2, a3 = bits[i + 2, low:high], bits[i + 3, low:high]
                for j in range(max(i, panel), min(panel + PANEL, d), TILE):
                    b0, b1 = bits[j, low:high], bits[j + 1, low:high]
                    b2, b3 = bits[j + 2, low:high], bits[j + 3, low:high]
                    c00 = c01 = c02 = c03 = np.uint64(0)
                    c10 = c11 = c12 = c13 = np.uint64(0)
                    c20 = c21 = c22 = c23 = np.uint64(0)
                    c30 = c31 = c32 = c33 = np.uint64(0)
                    for w in range(len(a0)):
                        x0, x1, x2, x3 = a0[w], a1[w], a2[w], a3[w]
                        y0, y1, y2, y3 = b0[w], b1[w], b2[w], b3[w]
                        c00 += _popcount(x0 & y0)
                        c01 += _popcount(x0 & y1)
                        c02 += _popcount(x0 & y2)
                        c03 += _popcount(x0 & y3)
                        c10 += _popcount(x1 & y0)
                        c11 += _popcount(x1 & y1)
                        c12 += _popcount(x1 & y2)
                        c13 += _popcount(x1 & y3)
                        c20 += _popcount(x2 & y0)
                        c21 += _popcount(x2 & y1)
                        c22 += _popcount(x2 & y2)
                        c23 += _popcount(x2 & y3)
                        c30 += _popcount(x3 & y0)
                        c31 += _popcount(x3 & y1)
                        c32 += _popcount(x3 & y2)
                        c33 += _popcount(x3 & y3)
                    for k, four in enumerate(
                        ((c00, c01, c02, c03), (c10, c11, c12, c13), (c20, c21, c22, c23), (c30, c31, c32, c33))
                    ):
                        counts[i + k, j] += four[0]
                        counts[i + k, j + 1] += four[1]
                        counts[i + k, j + 2] += four[2]
                        counts[i + k, j + 3] += four[3]
