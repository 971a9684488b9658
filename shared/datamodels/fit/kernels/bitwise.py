"""Take columns of masks out of rows as bits, and count them. Compiled by numba."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic

from datamodels.fit.kernels.coordinate_descent import _jit

TILE = 4
"""Columns of a tile of the Gram: 4 x 4 counts stay in registers."""
PANEL = 64
"""Columns of a panel."""
PANEL_WORDS = 512
"""Words of a panel that are read at a time: two panels of 64 columns x 4 kB stay in a level-2 cache."""


def _ctpop(context, word):
    def generate(context, builder, signature, arguments):
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), generate


_popcount: Any = intrinsic(_ctpop)
"""Count the bits that are set in a uint64, by the instruction of the processor."""


@_jit
def columns_of(packed, columns):
    """Turn rows of bits into columns of bits.

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
                # Transpose 8 x 8 bits by swapping ever larger squares (Warren, Hacker's Delight, 7-3).
                t = (x ^ (x >> np.uint64(7))) & np.uint64(0x00AA00AA00AA00AA)
                x ^= t ^ (t << np.uint64(7))
                t = (x ^ (x >> np.uint64(14))) & np.uint64(0x0000CCCC0000CCCC)
                x ^= t ^ (t << np.uint64(14))
                t = (x ^ (x >> np.uint64(28))) & np.uint64(0x00000000F0F0F0F0)
                x ^= t ^ (t << np.uint64(28))
                for k in range(min(8, d - 8 * byte)):
                    columns[8 * byte + k, eight >> 3] = (x >> np.uint64(8 * k)) & np.uint64(255)


@_jit
def transpose(square):
    """Transpose eight squares of 64 x 64 bits side by side, uint64[64, 8] (Warren, Hacker's Delight, 7-3)."""
    width, mask = 32, np.uint64(0x00000000FFFFFFFF)
    while width:
        shift = np.uint64(width)
        for i in range(64):
            if i & width == 0:
                for k in range(8):
                    t = ((square[i, k] >> shift) ^ square[i + width, k]) & mask
                    square[i, k] ^= t << shift
                    square[i + width, k] ^= t
        width >>= 1
        mask ^= mask << np.uint64(width)


@_jit
def words_of(rows, words):
    """Turn rows of bits into words of columns.

    rows   uint64[m, v]; bit c % 64 of word c // 64 of row i is entry (i, c)
    words  uint64[w, d], 64 w >= m and 64 v >= d; bit i % 64 of words[i // 64, c] becomes entry (i, c), and the bits of
           rows beyond the last become zeros
    """
    square, d = np.empty((64, 8), dtype=np.uint64), words.shape[1]
    for line in range(len(words)):
        for part in range(0, rows.shape[1], 8):
            for i in range(64):
                row = 64 * line + i
                for k in range(8):
                    inside = (row < len(rows)) & (part + k < rows.shape[1])
                    square[i, k] = rows[row, part + k] if inside else np.uint64(0)
            transpose(square)
            for k in range(8):
                for i in range(min(64, d - 64 * (part + k))):
                    words[line, 64 * (part + k) + i] = square[i, k]


@_jit
def compact(words, chosen, bits, low):
    """Write the columns of some rows as bits, from word `low` on; return the word after the last.

    words   uint64[v, m, 8]; bit c % 64 of word c // 64 % 8 of row i of part c // 512 is entry (i, c)
    chosen  int64[r]; the rows
    bits    uint64[e, w]; bit i % 64 of word low + i // 64 of column c becomes entry (chosen[i], c); the rest of the
            last vector of 512 bits becomes zeros
    """
    high = low + 8 * -(-len(chosen) // 512)
    square, lines = np.empty((64, 8), dtype=np.uint64), np.empty((8, 64, 8), dtype=np.uint64)
    for part in range(len(words)):
        for line in range(low, high, 8):
            for word in range(8):
                first = 64 * (line + word - low)
                for i in range(64):
                    for k in range(8):
                        square[i, k] = words[part, chosen[first + i], k] if first + i < len(chosen) else np.uint64(0)
                transpose(square)
                for k in range(8):
                    for i in range(64):
                        lines[k, i, word] = square[i, k]
            for k in range(8):
                column = 64 * (8 * part + k)
                for i in range(min(64, len(bits) - column)):
                    for word in range(8):
                        bits[column + i, line + word] = lines[k, i, word]
    return high


@_jit
def ones(bits, words, d):
    """Return int64[d]: how many of the rows in the first words each column is in."""
    found = np.zeros(d, dtype=np.int64)
    for c in range(d):
        total = np.uint64(0)
        for word in bits[c, :words]:
            total += _popcount(word)
        found[c] = total
    return found


@_jit
def count(left, right, low, high, counts):
    """Add to counts[i, j] the number of bits that left[i] and right[j] have in common in the words low <= w < high.

    left, right  uint64[..., w]; their lengths are multiples of TILE
    """
    for start in range(low, high, PANEL_WORDS):
        stop = min(start + PANEL_WORDS, high)
        for panel in range(0, len(right), PANEL):
            for i in range(0, len(left), TILE):
                a0, a1 = left[i, start:stop], left[i + 1, start:stop]
                a2, a3 = left[i + 2, start:stop], left[i + 3, start:stop]
                for j in range(panel, min(panel + PANEL, len(right)), TILE):
                    b0, b1 = right[j, start:stop], right[j + 1, start:stop]
                    b2, b3 = right[j + 2, start:stop], right[j + 3, start:stop]
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
