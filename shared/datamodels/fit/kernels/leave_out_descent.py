"""Run the loops of `lasso.leave_out`, compiled by numba like those of `coordinate_descent`.

They solve one target, over the rows that count for it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from datamodels.fit.kernels.bitwise import TILE, count, transpose
from datamodels.fit.kernels.coordinate_descent import _jit

SWEEPS = 100
"""Most sweeps before neg_grad is computed at all columns."""
FINER = 1.0
"""Coordinate descent stops when no gradient changes by more than this times the wanted gap, relative to lambda. Each
further round at the same lambda halves it."""
ROUNDING = 4
"""Coordinate descent stops in any case at this many units of rounding of the largest product."""
EARLY = 0.25
"""Columns are admitted if |neg_grad| is above lambda minus this fraction of (previous lambda - lambda). 1 would be the
strong rule."""
PLANES = (8, 12, 16, 20, 24, 28, 32)
"""Numbers of bits to which residuals may be rounded. The smallest that adds at most about ROUNDED of the wanted gap is
used."""
ROUNDED = 0.5
LARGEST = 4
"""Size of the largest of many rounding errors, in standard deviations."""
FITTED_BYTES = 512
"""Bytes of rows whose predictions are computed at a time: they stay in a level-1 cache."""


class Work(NamedTuple):
    """The arrays of one target.

    Rows to fit that count are in the words 0 <= w < middle, held-out rows in middle <= w < end; spare bits are 0. The
    first `size` admitted columns are in use.

    bits      uint64[e, w]; the columns as bits, zeros beyond d; e is a multiple of TILE
    outputs   [64 w]; standardised
    fitted    [64 w]; sum of the weights of the columns in each row
    planes    uint64[32, w]; the bits of rounded residuals, lowest first
    common    int32[32, e]; number of rows that planes and columns have in common
    mean      float64[d]; fraction of the rows that each column is in
    products  float64[d]; covariances of the columns and the outputs
    neg_grad  float64[d]; covariances of the columns and the rounded residuals
    columns   int64[c]; the admitted columns, in the order in which they were admitted
    place     int64[d]; the place of a column among them, or -1
    theta     float64[c]; weights of the admitted columns
    near      uint64[c + TILE, w]; bits of the admitted columns
    counts    int32[c + TILE, c + TILE]; number of rows that each shares with each column before it
    gram      [c, c]; their covariances, rounded; the next neg_grad corrects the effect of the rounding
    eights    [256, 8]; the bits of every byte

    Arrays without a type are all float32 or all float64.
    """

    bits: np.ndarray
    outputs: np.ndarray
    fitted: np.ndarray
    planes: np.ndarray
    common: np.ndarray
    mean: np.ndarray
    products: np.ndarray
    neg_grad: np.ndarray
    columns: np.ndarray
    place: np.ndarray
    theta: np.ndarray
    near: np.ndarray
    counts: np.ndarray
    gram: np.ndarray
    eights: np.ndarray


@_jit
def _copy(source, target):
    """Copy uint64[w] to the start of an array. An assignment compiles seconds longer: it may fail, with a message."""
    for word in range(len(source)):
        target[word] = source[word]


@_jit
def _count_in(work, first, size, low, high, rows):
    """Add the words low <= w < high to the counts of the admitted columns first <= i < size.

    Counts the rows that each of them shares with every column up to it. Also computes their covariances over `rows`
    rows.
    """
    above, wide = size + -(size - first) % TILE, size + -size % TILE
    count(work.near[first:above], work.near[:wide], low, high, work.counts[first:above])
    for i in range(first, size):
        share = work.mean[work.columns[i]]
        for k in range(i + 1):
            work.gram[i, k] = work.counts[i, k] / rows - share * work.mean[work.columns[k]]
    for k in range(size):
        for i in range(max(first, k + 1), size):
            work.gram[k, i] = work.gram[i, k]


@_jit
def keep(work, size, middle, end, rows):
    """Drop the admitted columns without weight, and add the words middle <= w < end to the counts; return the size.

    Before the call, set `mean` to the means over all `rows` rows.
    """
    start = kept = np.int64(0)  # not a literal, for which `_count_in` would be compiled once more
    for i in range(size):
        column = work.columns[i]
        if work.theta[i] == 0:
            work.place[column] = -1
            continue
        if kept < i:
            work.theta[kept] = work.theta[i]
            _copy(work.near[i], work.near[kept])
        work.place[column], work.columns[kept] = kept, i
        kept += 1
    for i in range(kept):
        for k in range(i + 1):  # from their old places, none of which is before the new one
            work.counts[i, k] = work.counts[work.columns[i], work.columns[k]]
    for column, place in enumerate(work.place):
        if place >= 0:
            work.columns[place] = column
    _count_in(work, start, kept, middle, end, rows)
    return kept


@_jit
def predict(work, size, words):
    """Set `fitted` of the first `words` words from the weights."""
    chosen = np.flatnonzero(work.theta[:size])
    near, fitted, real = work.near.view(np.uint8), work.fitted, work.fitted.dtype.type
    fitted[: 64 * words] = 0
    for start in range(0, 8 * words, FITTED_BYTES):
        stop = min(start + FITTED_BYTES, 8 * words)
        for four in range(0, len(chosen), TILE):
            last = len(chosen) - 1
            i0, i1 = chosen[four], chosen[min(four + 1, last)]
            i2, i3 = chosen[min(four + 2, last)], chosen[min(four + 3, last)]
            b0, b1, b2, b3 = near[i0], near[i1], near[i2], near[i3]
            w0 = real(work.theta[i0])
            w1 = real(work.theta[i1] if four + 1 <= last else 0)
            w2 = real(work.theta[i2] if four + 2 <= last else 0)
            w3 = real(work.theta[i3] if four + 3 <= last else 0)
            for k in range(start, stop):
                e0, e1, e2, e3 = work.eights[b0[k]], work.eights[b1[k]], work.eights[b2[k]], work.eights[b3[k]]
                for bit in range(8):
                    fitted[8 * k + bit] += w0 * e0[bit] + w1 * e1[bit] + w2 * e2[bit] + w3 * e3[bit]


@_jit
def _residuals(work, first, second, start):
    """Return (residuals at the best intercept [64 words], smallest, largest) of the rows that `measure` describes."""
    residual, real = np.zeros(start + second, dtype=work.outputs.dtype), work.outputs.dtype.type
    for i in range(first):
        residual[i] = work.outputs[i] - work.fitted[i]
    for i in range(start, start + second):
        residual[i] = work.outputs[i] - work.fitted[i]
    # Sums have loops of their own. A loop that also stores is compiled twice, with sums in two orders, and addresses
    # choose between them: the same fit would not always end with the same bits.
    total = 0.0
    for i in range(len(residual)):  # rows that do not count are 0
        total += residual[i]
    shift = real(total / (first + second))
    low = high = real(0)
    for i in range(first):
        residual[i] -= shift
        low, high = min(low, residual[i]), max(high, residual[i])
    for i in range(start, start + second):
        residual[i] -= shift
        low, high = min(low, residual[i]), max(high, residual[i])
    return residual, low, high


@_jit
def _as_saved(work, size, spread):
    """Return (weights as they are saved float64[size], their 1-norm, bound).

    The bound is a standard deviation over the rows: it bounds how far their rounding moves predictions.
    """
    saved = np.empty(size)
    for i in range(size):
        saved[i] = np.float32(work.theta[i] * spread) / spread
    l1 = stale = 0.0
    for i in range(size):
        l1 += abs(saved[i])
        stale += abs(saved[i] - work.theta[i]) * np.sqrt(max(work.gram[i, i], 0))
    return saved, l1, stale


@_jit
def measure(work, size, words, first, second, zero, spread, lambda_, goal):
    """Compute neg_grad at all columns; return the relative duality gap of the weights as they are saved.

    They are saved in float32, times `spread`. The dual point is made of the residuals of the current weights, not of
    the saved ones. The residuals are rounded to whole multiples of a small step, so that their products with the
    columns are counts of bits, and exact. The gap includes what both roundings add (`gap.relative`, stale). Their
    effect is of second order. The residuals of the saved weights would give a much larger gap if the problem is badly
    conditioned.

    first   rows in the first `words` words, from bit 0 on
    second  further rows, at the end of these words, from a word of their own on
    zero    variance of the outputs
    goal    the wanted gap
    """
    rows = first + second
    start = 64 * words - 512 * -(-second // 512)
    residual, low, high = _residuals(work, first, second, start)
    saved, l1, stale = _as_saved(work, size, spread)
    bits = PLANES[0]
    for more in PLANES[1:]:
        error = (np.float64(high) - low) / 2**bits / np.sqrt(12)
        slope = LARGEST * error / np.sqrt(4 * rows)  # half of the rows are in a column
        if 2 * l1 * slope + LARGEST * error**2 + zero * (slope / lambda_) ** 2 > ROUNDED * goal * zero:
            bits = more
    step = max((np.float64(high) - low) / (2**bits - 1), np.finfo(np.float64).tiny)

    total, square, moved = np.int64(0), 0.0, 0.0
    levels = np.empty((64, 8), dtype=np.uint64)
    for word in range(0, words, 8):
        levels[:] = 0
        for k in range(8):
            row = 64 * (word + k)
            rows_here = max(min(first - row, 64), min(start + second - row, 64) if row >= start else 0)
            for i in range(rows_here):
                levels[i, k] = np.int64((np.float64(residual[row + i]) - low) / step + 0.5)
            for i in range(rows_here):
                value, level = (np.float64(residual[row + i]) - low) / step, np.int64(levels[i, k])
                total += level
                square += (step * level + low) ** 2
                moved += (value - level) ** 2
        transpose(levels)
        for b in range(bits):
            _copy(levels[b], work.planes[b, word : word + 8])
    work.common[:bits] = 0
    count(work.planes[:bits], work.bits, np.int64(0), words, work.common)

    mean, norm, scale = total / rows, 0.0, step / rows
    for c in range(len(work.neg_grad)):
        found = np.int64(0)
        for b in range(bits):
            found += np.int64(work.common[b, c]) << b
        work.neg_grad[c] = scale * found - step * mean * work.mean[c]
        norm = max(norm, abs(work.neg_grad[c]))
    aligned = 0.0
    for i in range(size):
        aligned += saved[i] * work.neg_grad[work.columns[i]]
    even = max(square / rows - (step * mean + low) ** 2, 0.0)
    s = 1 + aligned / even if even > 0 else 1.0
    if norm > 0:
        s = min(max(s, -lambda_ / norm), lambda_ / norm)
    distance = abs(1 - s) * np.sqrt(even) + np.sqrt(moved / rows) * step + stale
    return (distance**2 / 2 + max(lambda_ * l1 - s * aligned, 0.0)) / (zero / 2)


@_jit
def _admit(work, size, bar):
    """Admit the columns whose |neg_grad| is above `bar`, then those with the largest, up to a whole number of tiles.

    Returns the size, which is larger than the number of places if these do not suffice.
    """
    d, start = len(work.neg_grad), size
    for c in range(d):
        if work.place[c] < 0 and abs(work.neg_grad[c]) > bar:
            if size < len(work.columns):
                work.columns[size], work.place[c], work.theta[size] = c, size, 0
            size += 1
    while (size - start) % TILE and size < len(work.columns):
        best, strongest = -1, 0.0
        for c in range(d):
            if work.place[c] < 0 and abs(work.neg_grad[c]) > strongest:
                best, strongest = c, abs(work.neg_grad[c])
        if best < 0:
            break
        work.columns[size], work.place[best], work.theta[size] = best, size, 0
        size += 1
    return size


@_jit
def _descend(work, size, lambda_, fine):
    """Do coordinate descent on the admitted columns, until no step changes a gradient by more than `fine`."""
    slope = np.empty(size)
    for k in range(size):
        slope[k] = work.neg_grad[work.columns[k]]
    for _ in range(SWEEPS):
        largest = 0.0
        for k in range(size):
            curve = work.gram[k, k]
            target = slope[k] + curve * work.theta[k]
            fresh = max(target - lambda_, 0.0) + min(target + lambda_, 0.0)
            if curve <= 0 or fresh == curve * work.theta[k]:
                continue
            change = fresh / curve - work.theta[k]
            work.theta[k] += change
            row = work.gram[k]
            for i in range(size):
                slope[i] -= change * row[i]
            largest = max(largest, curve * abs(change))
        if largest <= fine:
            break


@_jit
def advance(work, size, words, first, second, end, zero, spread, lambda_, above, goal, most):
    """Solve the target at a lambda, starting from its weights and neg_grad, in at most `most` rounds.

    Each round admits columns, counts what they have in common, descends, and computes neg_grad at all columns again.

    words, first, second, zero, spread, goal  as for `measure`
    end    number of words to predict
    above  the previous lambda

    Returns (admitted columns, rounds, relative duality gap); the gap is -1 if there is no room for columns.
    """
    floor = ROUNDING * np.finfo(np.float64).eps * np.abs(work.products).max()
    start = np.int64(0)  # not a literal, because the functions called would be compiled again for it
    fine, done, found = FINER * goal * lambda_, 0, np.inf
    bar = lambda_ - EARLY * (above - lambda_)
    while found > goal and done < most:
        before, size = size, _admit(work, size, bar)
        if size > len(work.columns):
            return before, done, -1.0
        for i in range(before, size):
            _copy(work.bits[work.columns[i], :end], work.near[i])
            work.counts[i] = 0
        _count_in(work, before, size, start, words, first + second)
        _descend(work, size, lambda_, max(fine, floor))
        predict(work, size, end)
        found = measure(work, size, words, first, second, zero, spread, lambda_, goal * 0.5**done)
        fine, bar, done = fine / 2, lambda_, done + 1
    return size, done, found
