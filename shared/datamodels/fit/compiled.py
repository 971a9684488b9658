"""The loops of `gram` that NumPy has no good words for, compiled by numba. Others are in `compiled_bits` and
`compiled_own`.

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
EIGHT = 8
"""Rows of the Gram that are added to a pull at a time."""
PULL_TILE = 512
"""Columns of it: such a part of the Gram stays in a level-3 cache while all targets take their rows of it."""


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


@_jit
def _times(value, factor, j, c):
    if factor is None:  # decided when this is compiled
        return value
    return value * factor[j, c]


@_jit
def working_set_sizes(theta, pull, screen, factor=None):
    """int64[a]: columns of each target that have a weight, or that pull at least `screen[j]`; see `descent`.

    Here and below, factor is [a, d], what a column's threshold is multiplied by, or None where that is 1.
    """
    sizes = np.zeros(len(theta), dtype=np.int64)
    for j in range(len(theta)):
        bar = pull.dtype.type(screen[j])
        count = 0
        for c in range(theta.shape[1]):
            count += (theta[j, c] != 0) | (abs(pull[j, c]) >= _times(bar, factor, j, c))
        sizes[j] = count
    return sizes


@_jit
def _sweep(chosen, weight, slope, gram, lambda_, factor, j, goal, sweeps):
    """Coordinate descent on the columns `chosen` of target j; `weight` and `slope` (its pull) change."""
    size, zero = len(chosen), lambda_ * 0
    compact = np.empty((size, size), dtype=weight.dtype)
    gathered = np.zeros(size, dtype=np.bool_)
    for _ in range(sweeps):
        largest = zero
        for k in range(size):
            curve = gram[chosen[k], chosen[k]]
            if curve <= 0:
                continue
            penalty = _times(lambda_, factor, j, chosen[k])
            target = slope[k] + curve * weight[k]
            fresh = max(target - penalty, zero) + min(target + penalty, zero)
            change = fresh / curve - weight[k]
            if change == 0:
                continue
            row = compact[k]
            if not gathered[k]:
                source = gram[chosen[k]]
                for i in range(size):
                    row[i] = source[chosen[i]]
                gathered[k] = True
            weight[k] += change
            for i in range(size):
                slope[i] -= change * row[i]
            largest = max(largest, curve * abs(change))
        if largest <= goal:
            break


@_jit
def descend(places, sizes, theta, pull, gram, lambda_, screen, goal, sweeps, factor=None):
    """Coordinate descent of some targets on their working sets, until no step moves a gradient by `goal[j]`.

    Only theta changes. The rows of the Gram that are needed are gathered as they are, so that sweeps stay in cache.

    places   int64[p]; which targets, `sizes` int64[a] their working sets
    theta    [a, d], pull [a, d], gram [d, d]; of one type
    lambda_, screen, goal  [a] of that type
    """
    d = theta.shape[1]
    for j in places:
        size, bar = sizes[j], screen[j]
        chosen = np.empty(size, dtype=np.int64)
        weight, slope = np.empty(size, dtype=theta.dtype), np.empty(size, dtype=theta.dtype)
        k = 0
        for c in range(d):
            if (theta[j, c] != 0) | (abs(pull[j, c]) >= _times(bar, factor, j, c)):
                chosen[k], weight[k], slope[k] = c, theta[j, c], pull[j, c]
                k += 1
        _sweep(chosen, weight, slope, gram, lambda_[j], factor, j, goal[j], sweeps)
        for k in range(size):
            theta[j, chosen[k]] = weight[k]


@_jit
def nonzeros(theta, base):
    """int64[a]: at how many columns theta [a, d] and base [a, d] differ."""
    counts = np.zeros(len(theta), dtype=np.int64)
    for j in range(len(theta)):
        count = 0
        for c in range(theta.shape[1]):
            count += theta[j, c] != base[j, c]
        counts[j] = count
    return counts


@_jit
def sparse_pulls(places, counts, theta, base, base_pull, gram, pull):
    """pull = base_pull - (theta - base) gram for some targets, by the rows of the Gram at the columns that differ.

    places  int64[p]; which targets, `counts` int64[a] at how many columns they differ
    theta, base, base_pull, pull  [a, d], gram [d, d]; of one type
    """
    d, longest = theta.shape[1], 0
    for j in places:
        longest = max(longest, counts[j] + EIGHT - 1)
    where = np.zeros((len(places), longest), dtype=np.int64)
    change = np.zeros((len(places), longest), dtype=theta.dtype)
    for p, j in enumerate(places):
        k = 0
        for c in range(d):
            if theta[j, c] != base[j, c]:
                where[p, k], change[p, k] = c, theta[j, c] - base[j, c]
                k += 1
    total = np.empty(PULL_TILE, dtype=theta.dtype)
    for low in range(0, d, PULL_TILE):
        high = min(low + PULL_TILE, d)
        for p, j in enumerate(places):
            total[:] = 0
            for k in range(0, counts[j], EIGHT):  # what is beyond the last is a change of 0
                w, c = change[p, k : k + EIGHT], where[p, k : k + EIGHT]
                w0, w1, w2, w3, w4, w5, w6, w7 = w[0], w[1], w[2], w[3], w[4], w[5], w[6], w[7]
                g0, g1, g2, g3 = gram[c[0], low:high], gram[c[1], low:high], gram[c[2], low:high], gram[c[3], low:high]
                g4, g5, g6, g7 = gram[c[4], low:high], gram[c[5], low:high], gram[c[6], low:high], gram[c[7], low:high]
                for i in range(high - low):
                    four = w0 * g0[i] + w1 * g1[i] + w2 * g2[i] + w3 * g3[i]
                    total[i] += four + (w4 * g4[i] + w5 * g5[i] + w6 * g6[i] + w7 * g7[i])
            for i in range(high - low):
                pull[j, low + i] = base_pull[j, low + i] - total[i]


@_jit
def proximal(places, theta, pull, lambda_, step, ahead, past_theta, past_pull, remember, factor=None):
    """One proximal gradient step of some targets, from a point extrapolated beyond the one they are at.

    Returns float64[a]: the momentum's work against the step; above 0, it points uphill (O'Donoghue and Candes 2015).

    places      int64[p]
    theta       [a, d], past_theta [a, d]; where targets are, and were; and pull, past_pull [a, d] there
    lambda_     [a], of theta's type
    step        step size, of that type
    ahead       [a]; how far to extrapolate, in units of the way from the past to now
    remember    bool[a]; whether the past becomes what is now
    """
    uphill = np.zeros(len(theta), dtype=np.float64)
    for j in places:
        bar, beyond = step * lambda_[j], ahead[j]
        work = step * 0
        for c in range(theta.shape[1]):
            now, slope = theta[j, c], pull[j, c]
            start = now + beyond * (now - past_theta[j, c])
            target = start + step * (slope + beyond * (slope - past_pull[j, c]))
            threshold = _times(bar, factor, j, c)
            fresh = max(target - threshold, theta.dtype.type(0)) + min(target + threshold, theta.dtype.type(0))
            work += (start - fresh) * (fresh - now)
            theta[j, c] = fresh
            if remember[j]:
                past_theta[j, c], past_pull[j, c] = now, slope
        uphill[j] = work
    return uphill


@_jit
def measure(theta, pull, products, factor=None):
    """float64[4, a]: ||theta||_1, theta . pull, max |pull|, theta . (products + pull) of each target, all [a, d].

    With a factor, the sum of factor |theta| and max |pull| / factor instead.
    """
    found = np.zeros((4, len(theta)), dtype=np.float64)
    for j in range(len(theta)):
        l1 = aligned = explained = 0.0
        norm = pull.dtype.type(0)
        for c in range(theta.shape[1]):
            weight, slope = np.float64(theta[j, c]), pull[j, c]
            l1 += _times(abs(weight), factor, j, c)
            aligned += weight * slope
            explained += weight * (np.float64(products[j, c]) + slope)
            norm = max(norm, abs(slope) if factor is None else abs(slope) / factor[j, c])
        found[0, j], found[1, j], found[2, j], found[3, j] = l1, aligned, norm, explained
    return found
