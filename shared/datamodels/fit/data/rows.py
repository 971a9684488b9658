"""Provide the rows of a problem as blocks of centred floats, from packed masks in memory or on disk."""

from __future__ import annotations

import dataclasses
import itertools
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from datamodels.fit.data import scratch
from datamodels.fit.data.problem import Problem
from datamodels.fit.data.sums import Sums
from datamodels.fit.kernels import elementwise
from datamodels.telemetry import carried

Made = TypeVar("Made")
Count = TypeVar("Count", float, np.ndarray)

CACHE_BYTES = 4 * 2**30
"""Masks that take at most this as floats are unpacked once. Larger ones are unpacked for each batch."""
SQUEEZED_ROWS = 4_096
"""Rows that `squeezed` moves at a time."""
DEVICE_MASKS = 0.25
"""Packed masks that take at most this fraction of a GPU's memory are uploaded once. Larger ones are for each pass."""
MEASURED_ROWS = 16_384
"""Most rows on which curvature is measured. With more, it changes by less than the safety margins of the steps."""
MEASURED_BYTES = 2**27
"""Most bytes of these rows as floats. At d = 600,000, they are 55 rows."""


class Rows:
    """The rows of a problem: first those to fit, then the held-out ones. So each of the two and their union is a span.

    order    int64[m]; row i here is row order[i] of the problem
    fit      the span of the rows to fit, without the held-out ones
    heldout  the span of the held-out rows
    whole    both
    threads  threads for work that all blocks of targets share
    sums     sums over these rows if they are known already, or None
    center   [d] of the array module; subtracted from the masks
    tail     value of the last column of a block, which carries the intercept. It is about the spread of the other
             columns, so that the intercept converges as fast as the weights
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
        """Arrange the rows of a problem for an array module.

        cache   most bytes of masks that are kept as floats
        folder  folder for arrays as long as the rows that need not stay in memory; None to keep them in memory
        """
        self.problem = problem
        self._folder = folder
        self.threads = threads
        self.sums = sums
        self._lock = threading.RLock()
        self._made: dict[str, Any] = {}
        self._prepared: dict[tuple[int, int], Future[np.ndarray]] = {}
        self._reader: ThreadPoolExecutor | None = None
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
        self._fits = bytes_of(problem.rows, problem.columns, self.dtype.itemsize) <= cache

    def block(self, span: slice):
        """Return [rows of span, d + 1]: masks minus `center`, then the column of `tail`. Do not write to it."""
        return self.once("block", lambda: self.unpacked(self.whole))[span] if self._fits else self.unpacked(span)

    def unpacked(self, span: slice):
        """Return what `block` returns, without keeping it."""
        if self.xp is not np or span.stop - span.start <= MEASURED_ROWS:
            return self._kernels.centred(self.packed(span), self.center, self.tail)
        x = self.xp.empty((span.stop - span.start, self.problem.columns + 1), dtype=self.dtype)
        for part in partition(span, MEASURED_ROWS):
            x[part.start - span.start : part.stop - span.start] = self.unpacked(part)
        return x

    def exact(self, span: slice):
        """Return float64[rows of span, d]: masks minus `center`."""
        if self.xp is np:
            return self.block(span)[:, :-1].astype(np.float64)
        center = self.once("exact center", lambda: self.xp.asarray(self.problem.center.astype(np.float64)))
        return self._kernels.exact(self.packed(span), center)

    def bits(self, span: slice):
        """Return the masks themselves, float16[rows of span, d]."""
        return self._kernels.bits(self.packed(span), self.problem.columns)

    def packed(self, span: slice):
        """Return the packed masks uint8[rows of span, ceil(d / 8)]. A GPU keeps them if DEVICE_MASKS allows."""
        if self.xp.__name__ == "cupy" and self.problem.masks.nbytes <= DEVICE_MASKS * self.xp.cuda.Device().mem_info[1]:
            return self.once("packed", self._uploaded)[span]
        return self.xp.asarray(self.problem.masks[self.order[span]])

    def _uploaded(self):
        found = self.xp.empty(self.problem.masks.shape, dtype=np.uint8)
        for part in partition(self.whole, MEASURED_ROWS):
            found[part] = self.xp.asarray(self.problem.masks[self.order[part]])
        return found

    def words(self, span: slice) -> np.ndarray:
        """Return the columns of the masks of NumPy as words, as of `kernels.lookup.words_of`."""
        from datamodels.fit.kernels import lookup

        return lookup.words_of(self.packed(span), self.problem.columns)

    def outputs(self, first: int, last: int, span: slice | None = None):
        """Return outputs [r, last - first] of the targets first <= j < last, of a span of rows or of all."""
        span = self.whole if span is None else span
        stored = None
        for (start, stop), prepared in self._prepared.items():
            if start <= first and last <= stop:
                stored = np.ascontiguousarray(prepared.result()[span, first - start : last - start])
        if stored is None:
            stored = self.problem.outputs[:, first:last][self.order[span]]
        return self.xp.asarray(stored).astype(self.dtype, copy=False)  # float16 crosses to a GPU in half the bytes

    def prepare(self, *blocks: tuple[int, int] | None) -> None:
        """Read the outputs of blocks (first, last) of targets in the background, and forget those of others.

        So the next block is read while a GPU works on this one. Does nothing if sums over the rows are known.
        """
        if self.sums is not None:
            return
        if self._reader is None:
            self._reader = ThreadPoolExecutor(1, thread_name_prefix="outputs")
        kept = self._prepared
        self._prepared = {
            block: kept.get(block) or self._reader.submit(carried(self._read), *block)
            for block in blocks
            if block is not None
        }

    def _read(self, first: int, last: int) -> np.ndarray:
        return self.problem.outputs[:, first:last][self.order]

    def close(self) -> None:
        """End what `prepare` began."""
        if self._reader is not None:
            self._reader.shutdown(cancel_futures=True)
        self._prepared, self._made = {}, {}

    def keep(self, first: int, last: int):
        """Return which rows count for which target, bool[m, last - first], or None if all count for all."""
        own = self.problem.own_column[first:last]
        members = np.flatnonzero(own >= 0)
        if not len(members):
            return None
        keep = self.xp.ones((self.problem.rows, last - first), dtype=bool)
        places, column = self.xp.asarray(members), self.xp.asarray(own[members])
        for span in partition(self.whole, MEASURED_ROWS):
            keep[span, places] = self._kernels.keep(self.packed(span), column)
        return keep

    def shelf(self, array):
        """Return a copy of an array [m, a] in a file of the folder; the array itself if there is none, or on a GPU."""
        if self._folder is None or self.xp is not np:
            return array
        found = scratch.mapped(self._folder, array.shape, array.dtype)
        found[:] = array
        return found

    def zeros(self, shape: tuple[int, int], dtype: npt.DTypeLike) -> np.ndarray:
        """Return zeros of NumPy in a file of the folder, or in memory if there is none."""
        if self._folder is None:
            return np.zeros(shape, dtype=dtype)
        return scratch.mapped(self._folder, shape, np.dtype(dtype))

    def once(self, name: str, make: Callable[[], Made]) -> Made:
        """Return the result of `make`, which is called once for all blocks of targets; other callers wait.

        `make` may call `once`.
        """
        with self._lock:
            if name not in self._made:
                self._made[name] = make()
            return self._made[name]

    def curvature(self) -> tuple[float, float]:
        """Return (largest eigenvalue of X'X / m, largest squared norm of a row) of centred rows. Measures them once.

        The eigenvalue is computed by power iteration on some of the rows. With m it falls as that of random matrices
        does (Marchenko and Pastur 1967).
        """
        return self.once("curvature", self._curvature)

    def _curvature(self) -> tuple[float, float]:
        problem = self.problem
        span = slice(0, measured_rows(problem.rows, problem.columns, self.dtype.itemsize))
        x, xp = self.unpacked(span), self.xp
        vector = xp.asarray(np.random.default_rng(0).normal(size=x.shape[1]).astype(self.dtype))
        value = 0.0
        for _ in range(20):
            vector = x.T @ (x @ (vector / xp.linalg.norm(vector)))
            value = float(xp.linalg.norm(vector)) / len(x)
            if value == 0:
                break
        shrink = edge(self.problem.columns, self.problem.rows) / edge(self.problem.columns, len(x))
        return value * shrink, float(xp.einsum("ij,ij->i", x, x).max())

    def dots(self, a, b, dtype: type[np.floating] | None = None):
        """Return the dot products [n] of the columns of two arrays [m, n], summed in a dtype; in float64 on a GPU."""
        return self._kernels.dots(a, b, dtype)

    def host(self, array) -> np.ndarray:
        """Return an array of the array module as one of NumPy."""
        return np.asarray(array) if self.xp is np else self.xp.asnumpy(array)


def bytes_of(rows: int, columns: int, itemsize: int) -> int:
    """Return the bytes of the masks as floats."""
    return rows * (columns + 1) * itemsize


@dataclasses.dataclass(frozen=True, eq=False)
class Standard:
    """Outputs of a targets, standardised per target over the rows that count.

    y         [m, a]; 0 if the row does not count
    counts    float64[a]; number of rows that count
    location  float64[a]; mean of the raw outputs
    spread    float64[a]; their standard deviation; if it is 0, y is 0
    """

    y: np.ndarray
    counts: np.ndarray
    location: np.ndarray
    spread: np.ndarray


def standardised(rows: Rows, outputs, keep) -> Standard:
    """Standardise finite outputs [m, a]; keep bool[m, a] says which rows count, None that all do."""
    xp = rows.xp
    mask = xp.ones((1, 1), dtype=bool) if keep is None else keep
    counts = xp.broadcast_to(mask, outputs.shape).sum(axis=0).astype(np.float64)
    location = xp.where(mask, outputs, 0).sum(axis=0, dtype=np.float64) / counts
    centred = xp.where(mask, outputs - location, 0)
    spread = xp.sqrt(xp.einsum("ij,ij->j", centred, centred) / counts)
    return Standard((centred / xp.where(spread > 0, spread, 1)).astype(rows.dtype), counts, location, spread)


def varying(rows: Rows, mean_x, counts):
    """Return bool[d, a]: which columns vary among the rows that count. The others add nothing but rounding.

    mean_x  float64[d, a]; mean of the centred masks over the rows that count
    counts  float64[a]; number of rows that count
    """
    ones = (mean_x + rows.center[:, None]) * counts
    return (ones > 0.5) & (ones < counts - 0.5)


def restored(rows: Rows, start, arrays: dict[str, np.ndarray], names: Sequence[str], host: Sequence[str]):
    """Return the state of a method as `arrays` had it; `start` is the one that its targets started from.

    names  fields of the state that are in `arrays`, as state_NAME
    host   those of them that are always NumPy's
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
    """Return the columns int[p] of an array in C order, which fancy indexing would not keep; None for None."""
    return None if array is None else array.take(places, axis=-1)


def squeezed(array, places: np.ndarray):
    """Return what `columns` returns, in the memory of the array, whose contents are lost; it has at least p columns."""
    if not isinstance(array, np.ndarray) or not array.flags.c_contiguous:
        return columns(array, places)
    found = array.reshape(-1)[: len(array) * len(places)].reshape(len(array), len(places))
    for span in partition(slice(0, len(array)), SQUEEZED_ROWS):
        found[span] = array[span].take(places, axis=-1)  # no row overwrites one that is not yet read
    return found


def measured_rows(m: int, d: int, itemsize: int) -> int:
    """Return the number of rows on which curvature is measured."""
    return min(m, MEASURED_ROWS, max(1, MEASURED_BYTES // ((d + 1) * itemsize)))


def edge(d: int, m: Count) -> Count:
    """Return the largest eigenvalue of X'X / m for m random rows X of d independent columns of unit variance."""
    return (1 + np.sqrt(d / m)) ** 2


def partition(span: slice, batch: int) -> list[slice]:
    """Return consecutive spans of nearly equal length, at most `batch`."""
    length = span.stop - span.start
    if not length:
        return []
    bounds = np.linspace(span.start, span.stop, -(-length // batch) + 1).round().astype(int).tolist()
    return [slice(a, b) for a, b in itertools.pairwise(bounds)]
