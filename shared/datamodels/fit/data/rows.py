"""Rows of a problem as blocks of centred floats, from packed masks in memory or on disk."""

from __future__ import annotations

import dataclasses
import itertools
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from datamodels.fit.data import scratch
from datamodels.fit.data.problem import Problem
from datamodels.fit.data.sums import Sums
from datamodels.fit.kernels import elementwise

Made = TypeVar("Made")
Count = TypeVar("Count", float, np.ndarray)

CACHE_BYTES = 4 * 2**30
"""Masks that take no more than this as floats are unpacked once; larger ones for each batch."""
SQUEEZED_ROWS = 4_096
"""Taken at a time by `squeezed`."""
MEASURED_ROWS = 16_384
"""Curvature is measured on so many rows: more change it by less than the safety margins of the steps."""


class Rows:
    """The rows of a problem: those to fit first, then the held-out ones, so that both and their union are spans.

    order    int64[m]; row i here is row order[i] of the problem
    fit      the span of the rows to fit, held-out ones excluded
    heldout  the span of the held-out rows
    whole    both
    threads  that work for all blocks of targets may take
    sums     over these rows, where they are known already
    folder   for arrays as long as the rows that need not stay in memory; None where they are to
    center   [d] of the array module; subtracted from the masks
    tail     value of the last column of a block, which carries the intercept: about the spread of the other columns,
             so that the intercept converges no slower than the weights
    """

    def __init__(
        self,
        problem: Problem,
        *,
        xp: ModuleType = np,
        dtype: npt.DTypeLike = np.float32,
        cache: int = CACHE_BYTES,
        threads: int = 1,
        sums: Sums | None = None,
        folder: Path | None = None,
    ):
        self.problem = problem
        self._folder = folder
        self.threads = threads
        self.sums = sums
        self._lock = threading.RLock()
        self._made: dict[str, Any] = {}
        self.xp = xp
        self.dtype: np.dtype = np.dtype(dtype)
        order = np.arange(problem.rows) if problem.order is None else problem.order
        held = problem.heldout[order]
        self.order = np.concatenate([order[~held], order[held]])
        fit = int(np.count_nonzero(~problem.heldout))
        self.fit, self.heldout, self.whole = slice(0, fit), slice(fit, problem.rows), slice(0, problem.rows)
        spread = problem.center * (1 - problem.center)
        self.tail = float(np.sqrt(spread[spread > 0].mean())) if (spread > 0).any() else 0.5
        self.center = xp.asarray(problem.center.astype(self.dtype))
        self._kernels = elementwise.of(xp)
        self._fits = problem.rows * (problem.columns + 1) * self.dtype.itemsize <= cache

    def block(self, span: slice):
        """[rows of span, d + 1]: masks less `center`, then the column of `tail`. Not to be written to."""
        return self.once("block", lambda: self.unpacked(self.whole))[span] if self._fits else self.unpacked(span)

    def unpacked(self, span: slice):
        """As `block`, of these rows alone: nothing is kept."""
        if self.xp is not np or span.stop - span.start <= MEASURED_ROWS:
            packed = self.xp.asarray(self.problem.masks[self.order[span]])
            return self._kernels.centred(packed, self.center, self.tail)
        x = self.xp.empty((span.stop - span.start, self.problem.columns + 1), dtype=self.dtype)
        for part in partition(span, MEASURED_ROWS):
            x[part.start - span.start : part.stop - span.start] = self.unpacked(part)
        return x

    def bits(self, span: slice):
        """float16[rows of span, d]: the masks themselves."""
        zero = self.xp.zeros(self.problem.columns, dtype=np.float32)
        packed = self.xp.asarray(self.problem.masks[self.order[span]])
        return self._kernels.centred(packed, zero, 0.0)[:, :-1].astype(np.float16)

    def outputs(self, first: int, last: int, span: slice | None = None):
        """[r, last - first]: outputs of the targets first <= j < last, of some rows or all, in our order."""
        order = self.order if span is None else self.order[span]
        return self.xp.asarray(self.problem.outputs[:, first:last][order].astype(self.dtype))

    def keep(self, first: int, last: int):
        """bool[m, last - first]: which rows count for which target, or None where all do for all."""
        own = self.problem.own_column[first:last]
        members = np.flatnonzero(own >= 0)
        if not len(members):
            return None
        keep = np.ones((self.problem.rows, last - first), dtype=bool)
        byte, bit = own[members] // 8, (own[members] % 8).astype(np.uint8)
        for span in partition(self.whole, MEASURED_ROWS):
            packed = self.problem.masks[self.order[span]]
            keep[span, members] = (packed[:, byte] >> bit) & 1 == 0
        return self.xp.asarray(keep)

    def shelf(self, array):
        """The same numbers, [m, a], in a file of `folder` where there is one and arrays are NumPy's."""
        if self._folder is None or self.xp is not np:
            return array
        found = scratch.mapped(self._folder, array.shape, array.dtype)
        found[:] = array
        return found

    def once(self, name: str, make: Callable[[], Made]) -> Made:
        """What `make` makes, made once for all blocks of targets; those that ask meanwhile wait. `make` may ask too."""
        with self._lock:
            if name not in self._made:
                self._made[name] = make()
            return self._made[name]

    def curvature(self) -> tuple[float, float]:
        """(largest eigenvalue of X'X / m, largest squared norm of a row), of centred rows.

        The eigenvalue by power iteration on some rows; it falls with m as random matrices have it (Marchenko-Pastur).
        """
        span = slice(0, min(self.problem.rows, MEASURED_ROWS))
        x, xp = self.block(span), self.xp
        vector = xp.asarray(np.random.default_rng(0).normal(size=x.shape[1]).astype(self.dtype))
        value = 0.0
        for _ in range(20):
            vector = x.T @ (x @ (vector / xp.linalg.norm(vector)))
            value = float(xp.linalg.norm(vector)) / len(x)
            if value == 0:
                break
        shrink = edge(self.problem.columns, self.problem.rows) / edge(self.problem.columns, len(x))
        return value * shrink, float(xp.einsum("ij,ij->i", x, x).max())

    def host(self, array) -> np.ndarray:
        """An array of ours as NumPy's."""
        return np.asarray(array) if self.xp is np else self.xp.asnumpy(array)


@dataclasses.dataclass(frozen=True, eq=False)
class Standard:
    """Outputs of a targets, standardised per target over the rows that count.

    y         [m, a]; 0 where the row does not count
    counts    float64[a]; rows that count
    location  float64[a]; mean of the raw outputs over them
    spread    float64[a]; their deviation; where it is 0, y is 0
    """

    y: np.ndarray
    counts: np.ndarray
    location: np.ndarray
    spread: np.ndarray


def standardised(rows: Rows, outputs, keep) -> Standard:
    """Of raw outputs [m, a], finite, of which those with keep bool[m, a] count; all where that is None."""
    xp = rows.xp
    mask = xp.ones((1, 1), dtype=bool) if keep is None else keep
    counts = xp.broadcast_to(mask, outputs.shape).sum(axis=0).astype(np.float64)
    location = xp.where(mask, outputs, 0).sum(axis=0, dtype=np.float64) / counts
    centred = xp.where(mask, outputs - location, 0)
    spread = xp.sqrt(xp.einsum("ij,ij->j", centred, centred) / counts)
    return Standard((centred / xp.where(spread > 0, spread, 1)).astype(rows.dtype), counts, location, spread)


def varying(rows: Rows, mean_x, counts):
    """bool[d, a]: the columns that some, not all, of the rows that count have. The others tell nothing but rounding.

    mean_x  float64[d, a]; mean of the centred masks over the rows that count
    counts  float64[a]; rows that count
    """
    ones = (mean_x + rows.center[:, None]) * counts
    return (ones > 0.5) & (ones < counts - 0.5)


def restored(rows: Rows, start, arrays: dict[str, np.ndarray], names: Sequence[str], host: Sequence[str]):
    """A method's state as `arrays` had it, those of `names` by state_NAME, over the one that its targets started from.

    `host` are those that are NumPy's always.
    """
    state = start.take(np.flatnonzero(np.isin(start.target, arrays["state_target"])))
    for name in names:
        array = arrays[f"state_{name}"]
        if name in host:
            setattr(state, name, array)
        else:
            getattr(state, name)[...] = rows.xp.asarray(array)
    return state


def columns(array, places: np.ndarray):
    """The columns int[p] of an array, or None of None. In C order, which fancy indexing would not keep."""
    return None if array is None else array.take(places, axis=-1)


def squeezed(array, places: np.ndarray):
    """As `columns`, int[p], p no more than there are, into the memory that the array has, which is lost."""
    if not isinstance(array, np.ndarray) or not array.flags.c_contiguous:
        return columns(array, places)
    found = array.reshape(-1)[: len(array) * len(places)].reshape(len(array), len(places))
    for span in partition(slice(0, len(array)), SQUEEZED_ROWS):
        found[span] = array[span].take(places, axis=-1)  # no row goes behind one that is still to be read
    return found


def edge(d: int, m: Count) -> Count:
    """Largest eigenvalue of the Gram of m random rows over d independent columns of unit variance, over m."""
    return (1 + np.sqrt(d / m)) ** 2


def partition(span: slice, batch: int) -> list[slice]:
    """Consecutive spans of nearly equal length, at most `batch`."""
    length = span.stop - span.start
    if not length:
        return []
    bounds = np.linspace(span.start, span.stop, -(-length // batch) + 1).round().astype(int).tolist()
    return [slice(a, b) for a, b in itertools.pairwise(bounds)]
