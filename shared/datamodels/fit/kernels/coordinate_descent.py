"""Run the loops of `lasso.coordinate`, compiled by numba.

The loops release the GIL, so that blocks of targets run in parallel. Each is compiled on its first call, and the
compiled code is cached on disk for the next process, if numba finds a folder that it can write to.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numba import extending, types
from numba.core import event

from datamodels.fit.kernels import compiling

EIGHT = 8
"""Rows of the Gram that are added at a time."""
CACHE_LINE = 64
"""Bytes of a line of the cache."""
GRAM_TILE = 512
"""Columns of the Gram that are read at a time. They stay in a level-3 cache while all targets read their rows."""


class _Listener(event.Listener):
    """Passes on that numba compiles a loop that is not on disk."""

    def on_start(self, event: event.Event) -> None:
        compiling.begins()

    def on_end(self, event: event.Event) -> None:
        pass


event.register("numba:compile", _Listener())


OPTIONS: Any = {"nogil": True, "fastmath": True, "error_model": "numpy"}


def _jit(function, options=OPTIONS):
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # numba finds no folder for its cache
        return numba.njit(**options)(function)


def jit_in_order(function):
    """Compile a function whose sums are added in their order."""
    return _jit(function, OPTIONS | {"fastmath": False})


@_jit
def aligned(size, like):
    """Return an array [size] of the type of the array `like`, not filled, that begins with a line of the cache.

    Vectors that fill a line are read twice as fast as those across two lines.
    """
    item = like.itemsize
    found = np.empty(size + CACHE_LINE // item, dtype=like.dtype)
    skip = (CACHE_LINE - found.ctypes.data % CACHE_LINE) % CACHE_LINE // item
    return found[skip : skip + size]


@_jit
def _times(value, factor, j, c):
    if factor is None:  # decided when this is compiled
        return value
    return value * factor[j, c]


@_jit
def working_set_sizes(theta, neg_grad, screen, factor=None):
    """Return int64[a]: the number of columns of each target j that have a weight or |neg_grad| >= screen[j].

    In all functions of this module, factor [a, d] multiplies the threshold of each column; None if it is 1 everywhere.
    """
    sizes = np.zeros(len(theta), dtype=np.int64)
    for j in range(len(theta)):
        bar = neg_grad.dtype.type(screen[j])
        count = 0
        for c in range(theta.shape[1]):
            count += (theta[j, c] != 0) | (abs(neg_grad[j, c]) >= _times(bar, factor, j, c))
        sizes[j] = count
    return sizes


def _curve(gram, c):
    """Return the diagonal of a Gram, [d, d] or `panels.Entries`, at column c."""
    raise NotImplementedError


def _take(gram, c, chosen, row):
    """Set row[i] = gram[c, chosen[i]]; `chosen` is ascending and has c."""
    raise NotImplementedError


@extending.overload(_curve, jit_options=OPTIONS)
def _(gram, c):
    if isinstance(gram, types.Array):
        return lambda gram, c: gram[c, c]
    return lambda gram, c: gram.curvature[c]


@extending.overload(_take, jit_options=OPTIONS)
def _(gram, c, chosen, row):
    if isinstance(gram, types.Array):

        def of_array(gram, c, chosen, row):
            source = gram[c]
            for i in range(len(row)):
                row[i] = source[chosen[i]]

        return of_array

    def of_panels(gram, c, chosen, row):
        width = gram.values.shape[2]
        panel, place = gram.values[c // width], c % width  # the Gram is symmetric, and one panel stays in cache
        for i in range(len(row)):
            j = chosen[i]
            if j == c:
                row[i] = gram.curvature[c]
            else:
                row[i] = (panel[j, place] + gram.usual) / gram.rows - gram.mean[c] * gram.mean[j]

    return of_panels


@_jit
def _sweep(chosen, weight, slope, gram, lambda_, factor, j, goal, sweeps):
    """Do coordinate descent on the columns `chosen` of target j. Updates `weight`, and `slope`, which is neg_grad."""
    size, zero = len(chosen), lambda_ * 0
    compact = np.empty((size, size), dtype=weight.dtype)
    gathered = np.zeros(size, dtype=np.bool_)
    for _ in range(sweeps):
        largest = zero
        for k in range(size):
            curve = _curve(gram, chosen[k])
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
                _take(gram, chosen[k], chosen, row)
                gathered[k] = True
            weight[k] += change
            for i in range(size):
                slope[i] -= change * row[i]
            largest = max(largest, curve * abs(change))
        if largest <= goal:
            break


@_jit
def descend(places, sizes, theta, neg_grad, gram, lambda_, screen, goal, sweeps, factor=None):
    """Do coordinate descent of targets on their working sets, until no step changes a gradient by more than goal[j].

    Updates theta, but not neg_grad. The part of a row of the Gram that belongs to the working set is copied when the
    row is first needed, so that sweeps stay in cache.

    places  int64[p]; which targets
    sizes   int64[a]; sizes of the working sets, from `working_set_sizes`
    theta, neg_grad        [a, d]
    gram                   [d, d] of the type of theta, or `panels.Entries`
    lambda_, screen, goal  [a], of that type
    """
    d = theta.shape[1]
    for j in places:
        size, bar = sizes[j], screen[j]
        chosen = np.empty(size, dtype=np.int64)
        weight, slope = np.empty(size, dtype=theta.dtype), np.empty(size, dtype=theta.dtype)
        k = 0
        for c in range(d):
            if (theta[j, c] != 0) | (abs(neg_grad[j, c]) >= _times(bar, factor, j, c)):
                chosen[k], weight[k], slope[k] = c, theta[j, c], neg_grad[j, c]
                k += 1
        _sweep(chosen, weight, slope, gram, lambda_[j], factor, j, goal[j], sweeps)
        for k in range(size):
            theta[j, chosen[k]] = weight[k]


@_jit
def nonzeros(theta, base):
    """Return int64[a]: the number of columns in which theta [a, d] and base [a, d] differ."""
    counts = np.zeros(len(theta), dtype=np.int64)
    for j in range(len(theta)):
        count = 0
        for c in range(theta.shape[1]):
            count += theta[j, c] != base[j, c]
        counts[j] = count
    return counts


@_jit
def sparse_neg_grads(places, counts, theta, base, base_neg_grad, gram, neg_grad):
    """Set neg_grad = base_neg_grad - (theta - base) gram of some targets, from the rows of the Gram that differ.

    places  int64[p]; which targets
    counts  int64[a]; number of columns in which theta and base differ
    theta, base, base_neg_grad, neg_grad  [a, d]; and gram [d, d], of the same type
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
    total = np.empty(GRAM_TILE, dtype=theta.dtype)
    for low in range(0, d, GRAM_TILE):
        high = min(low + GRAM_TILE, d)
        for p, j in enumerate(places):
            total[:] = 0
            for k in range(0, counts[j], EIGHT):  # beyond the last, changes are 0
                w, at = change[p, k : k + EIGHT], where[p, k : k + EIGHT]
                w0, w1, w2, w3, w4, w5, w6, w7 = w[0], w[1], w[2], w[3], w[4], w[5], w[6], w[7]
                g0, g1 = gram[at[0], low:high], gram[at[1], low:high]
                g2, g3 = gram[at[2], low:high], gram[at[3], low:high]
                g4, g5 = gram[at[4], low:high], gram[at[5], low:high]
                g6, g7 = gram[at[6], low:high], gram[at[7], low:high]
                for i in range(high - low):
                    four = w0 * g0[i] + w1 * g1[i] + w2 * g2[i] + w3 * g3[i]
                    total[i] += four + (w4 * g4[i] + w5 * g5[i] + w6 * g6[i] + w7 * g7[i])
            for i in range(high - low):
                neg_grad[j, low + i] = base_neg_grad[j, low + i] - total[i]


@_jit
def proximal(places, theta, neg_grad, lambda_, step, ahead, past_theta, past_neg_grad, remember, factor=None):
    """Take one proximal gradient step of some targets, from an extrapolated point.

    places    int64[p]; which targets
    theta, neg_grad            [a, d]; the current point
    past_theta, past_neg_grad  [a, d]; an earlier point
    lambda_   [a], of the type of theta
    step      step size, of that type
    ahead     [a]; how far to extrapolate beyond the current point, in units of its distance from the earlier one
    remember  bool[a]; whether the current point becomes the earlier one

    Returns float64[a]: minus the dot product of the momentum and the step. If it is above 0, momentum points uphill
    (O'Donoghue and Candes 2015).
    """
    uphill = np.zeros(len(theta), dtype=np.float64)
    for j in places:
        bar, beyond = step * lambda_[j], ahead[j]
        work = step * 0
        for c in range(theta.shape[1]):
            now, slope = theta[j, c], neg_grad[j, c]
            start = now + beyond * (now - past_theta[j, c])
            target = start + step * (slope + beyond * (slope - past_neg_grad[j, c]))
            threshold = _times(bar, factor, j, c)
            fresh = max(target - threshold, theta.dtype.type(0)) + min(target + threshold, theta.dtype.type(0))
            work += (start - fresh) * (fresh - now)
            theta[j, c] = fresh
            if remember[j]:
                past_theta[j, c], past_neg_grad[j, c] = now, slope
        uphill[j] = work
    return uphill


@_jit
def measure(theta, neg_grad, products, factor=None):
    """Return float64[4, a]: ||theta||_1, theta . neg_grad, max |neg_grad| and theta . (products + neg_grad).

    theta, neg_grad and products are [a, d]. If there is a factor, the first result is the sum of factor |theta|, and
    the third is max |neg_grad| / factor.
    """
    found = np.zeros((4, len(theta)), dtype=np.float64)
    for j in range(len(theta)):
        l1 = aligned = explained = 0.0
        norm = neg_grad.dtype.type(0)
        for c in range(theta.shape[1]):
            weight, slope = np.float64(theta[j, c]), neg_grad[j, c]
            l1 += _times(abs(weight), factor, j, c)
            aligned += weight * slope
            explained += weight * (np.float64(products[j, c]) + slope)
            norm = max(norm, abs(slope) if factor is None else abs(slope) / factor[j, c])
        found[0, j], found[1, j], found[2, j], found[3, j] = l1, aligned, norm, explained
    return found
