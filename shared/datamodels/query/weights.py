"""Read finished fits for the query service, and keep the most recently used ones in memory."""

from __future__ import annotations

import collections
import dataclasses
import functools
import threading
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np
from prometheus_client import Counter, Gauge, Histogram
from scipy import sparse

from datamodels.aggregate import manifest
from datamodels.analyze.quality import noise, stopping
from datamodels.analyze.quality.noise import Noise
from datamodels.analyze.target import Weights, strongest, strongest_places
from datamodels.errors import (
    CorruptObjectError,
    InputError,
    ObjectNotFoundError,
    RunNotFoundError,
    SupersededError,
    TargetRangeError,
)
from datamodels.fit.data.problem import EIGHTHS, Solution
from datamodels.fit.job import fits
from datamodels.fit.job.finished import newest_number
from datamodels.query import pages
from datamodels.query.cache import Cache, size_of
from datamodels.query.limits import MAX_ANSWER_BYTES, MAX_TOP
from datamodels.run import runs
from datamodels.run.runs import Run
from datamodels.settings import QuerySettings
from datamodels.storage import ObjectStore, keys
from datamodels.telemetry import logger

log = logger(__name__)

T = TypeVar("T", bound=pages.Message)

MAX_CHUNK_WEIGHTS = 200_000
"""Most weights in one message of a stream. Each takes 8 or 10 bytes, so messages stay under 2 MB. Messages of half
a megabyte take gRPC a third more CPU time, and larger ones not much less."""
ROW_ROOM = 8
"""Size of a row of a message without its weights, as a number of weights."""

LOADS = 2
"""Most fits that are read at the same time, because each takes memory beyond that of the fits that are kept."""
RUNS_BYTES = 64 * 2**20
"""Size of the runs that are kept, besides those of the fits in memory."""

IN_MEMORY = Gauge("datamodels_query_fits_in_memory", "Fits in memory.")
MEMORY = Gauge("datamodels_query_memory_bytes", "Size of the fits in memory.")
LOAD_SECONDS = Histogram("datamodels_query_load_seconds", "Seconds to read a fit from the object store.")
PREDICTIONS = Counter("datamodels_query_predictions_total", "Outputs predicted, one for each subset and target.")


@dataclasses.dataclass(frozen=True, eq=False)
class Rows:
    """Weights of some targets, or a part of them. Row i has the columns[indptr[i]:indptr[i + 1]].

    targets  int32[t]
    indptr   int64[t + 1]
    columns  int32[k]
    weights  float32[k]
    measured float16[k]; the fraction of each weight that was measured; None as `Solution.measured`
    chosen   selects the targets in arrays of all targets: a slice, which copies nothing, if they follow each other
    """

    targets: np.ndarray
    indptr: np.ndarray
    columns: np.ndarray
    weights: np.ndarray
    measured: np.ndarray | None
    chosen: slice | np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Fitted:
    """A finished fit in memory.

    theta     weights, float32 CSR [n, d]
    store     the store that it was read from
    measured  noise of its outputs; None if it is not known yet
    """

    run: Run
    record: fits.FitRecord
    solution: Solution
    theta: sparse.csr_array
    store: ObjectStore
    measured: Noise | None = None

    @functools.cached_property
    def noise(self) -> Noise:
        """Noise of the fit's outputs. The first access reads the committed outputs. Raises CorruptObjectError."""
        if self.measured is not None:
            return self.measured
        return noise.measure(self.run, manifest.read_newest(self.store, self.run.name), self.store, self.solution)

    def final(self) -> bool:
        """Return whether no later fit of the run can have more models.

        True if the run's training has ended, or was stopped, and this fit used all models of the newest manifest.
        """
        snapshot = manifest.read_newest(self.store, self.run.name)
        ended = snapshot.committed >= self.run.spec.models or bool(stopping.recorded(self.store, self.run.name))
        if not ended or snapshot.version == self.record.manifest_version:
            return ended
        try:
            mine = manifest.read(self.store, self.run.name, self.record.manifest_version)
        except (ObjectNotFoundError, SupersededError):  # it was pruned
            return self.record.rows >= snapshot.rows_below(self.run.spec.m)
        return mine.ranges == snapshot.ranges  # a newer one may list the same models in other parts

    @property
    def n(self) -> int:
        return self.solution.n

    def targets(self, chosen: np.ndarray | None) -> np.ndarray:
        """Return the chosen targets, or all if `chosen` is None, as int32[t].

        Raises TargetRangeError, and InputError if a target is chosen twice.
        """
        if chosen is None:
            return np.arange(self.n, dtype=np.int32)
        ordered = np.sort(chosen)
        outside = chosen[(chosen < 0) | (chosen >= self.n)]
        if outside.size:
            raise TargetRangeError(f"target {outside[0]}: must be 0 to {self.n - 1} in run {self.run.name}")
        twice = ordered[1:][ordered[1:] == ordered[:-1]]
        if twice.size:
            raise InputError(f"target {twice[0]}: is given twice")
        return chosen

    def predict(self, masks: np.ndarray, targets: np.ndarray | None = None) -> np.ndarray:
        """Predict the outputs of models trained on some subsets, as float64[s, t].

        masks    the subsets, packed, uint8[s, ceil(d / 8)]
        targets  as `self.targets` returns them; for all targets, None is faster

        Raises MaskError, and InputError if the result would not fit into one message.
        """
        count = self.n if targets is None else len(targets)
        if len(masks) * count * 8 > MAX_ANSWER_BYTES:
            raise InputError(
                f"{len(masks)} subsets x {count} targets: at most {MAX_ANSWER_BYTES // 8} predictions in one "
                "call; ask for fewer subsets or targets"
            )
        PREDICTIONS.inc(len(masks) * count)
        return self.solution.predict_packed(masks, targets)

    def top(self, target: int, k: int) -> tuple[Weights, Weights]:
        """Return the k most helpful and the k most harmful columns of a target, strongest first; see `strongest`.

        Raises InputError if k is out of range, and TargetRangeError.
        """
        return strongest(self.solution, target, _within(k), self.run.predicted)

    def top_places(self, target: int, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return what `top` does as places in arrays of the solution; see `strongest_places`. Raises as `top` does."""
        return strongest_places(self.solution, target, _within(k), self.run.predicted)

    def chunks(self, targets: np.ndarray, top_k: int, size: int = MAX_CHUNK_WEIGHTS) -> Iterator[Rows]:
        """Yield the weights of targets in pieces of at most `size` weights.

        A row that does not fit into a piece continues in the next one, under the same target. With top_k, each target
        has its k weights of largest magnitude, largest first; without, it has all its weights, ordered by column.
        """
        starts, stops = self.solution.indptr[targets], self.solution.indptr[targets + 1]
        lengths = np.minimum(stops - starts, top_k) if top_k else stops - starts
        # Each row takes room too, so that a million empty rows do not go into one message.
        ends = np.cumsum(lengths + ROW_ROOM)
        first, done = 0, 0
        while first < len(targets):
            before = (ends[first - 1] if first else 0) + done
            last = min(int(np.searchsorted(ends, before + size)), len(targets) - 1)
            skip, keep = np.zeros(last - first + 1, dtype=np.int64), lengths[first : last + 1].copy()
            skip[0] = done
            room = size if last == first else size - (ends[last - 1] - before)
            keep[-1] = min(keep[-1], skip[-1] + room)
            chosen = slice(first, last + 1)
            yield self._rows(targets[chosen], starts[chosen], skip, keep, top_k)
            whole = keep[-1] == lengths[last]
            first, done = (last + 1, 0) if whole else (last, int(keep[-1]))

    def _rows(self, targets: np.ndarray, starts: np.ndarray, skip: np.ndarray, keep: np.ndarray, top_k: int) -> Rows:
        """Return the weights skip <= i < keep of each target, in the order that top_k implies."""
        columns, weights, measured = self.solution.columns, self.solution.weights, self.solution.measured
        consecutive = bool((np.diff(targets) == 1).all())
        entries: np.ndarray | slice
        if top_k:
            order = [
                start + np.argsort(-np.abs(weights[start:stop]), kind="stable")[a:b]
                for start, stop, a, b in zip(starts, self.solution.indptr[targets + 1], skip, keep, strict=True)
            ]
            entries = np.concatenate(order)
        elif consecutive:
            entries = slice(starts[0] + skip[0], starts[-1] + keep[-1])
        else:
            entries = np.concatenate([np.arange(a, b) for a, b in zip(starts + skip, starts + keep, strict=True)])
        indptr = np.concatenate([[0], np.cumsum(keep - skip)]).astype(np.int64)
        parts = None if measured is None else measured[entries].astype(np.float16) / EIGHTHS
        chosen = slice(int(targets[0]), int(targets[-1]) + 1) if consecutive else targets
        return Rows(targets, indptr, columns[entries], weights[entries], parts, chosen)


def _within(k: int) -> int:
    if not 0 <= k <= MAX_TOP:
        raise InputError(f"k = {k}: must be 0 to {MAX_TOP}")
    return k


class WeightStore:
    """Reads the finished fits of all runs of an object store. Safe to use from any thread.

    refresh     seconds for which the newest known fit of a run, and what is declared of its outputs, is used before the
                store is asked for a newer one
    capacity    most fits kept in memory
    keep_bytes  most bytes of the fits kept in memory; the fit that was asked for last is kept in any case
    """

    def __init__(
        self,
        store: ObjectStore,
        *,
        refresh: float = QuerySettings.refresh,
        capacity: int = QuerySettings.capacity,
        keep_bytes: int = QuerySettings.keep_bytes,
    ):
        self.store = store
        self._refresh = refresh
        self._lock = threading.Lock()
        self._loading: dict[tuple[str, int], threading.Lock] = collections.defaultdict(threading.Lock)
        self._loads = threading.BoundedSemaphore(LOADS)
        self._fitted: Cache[tuple[str, int], Fitted] = Cache(keep_bytes, capacity)
        self._newest: dict[str, tuple[float, int]] = {}
        self._runs: Cache[str, tuple[float, int, Run]] = Cache(RUNS_BYTES)

    def run(self, name: str) -> Run:
        """Return a run, with what is declared of its outputs. Raises RunNotFoundError."""
        with self._lock:
            known = self._runs.get(name)
        checked, number, run = known or (-np.inf, -1, None)
        if time.monotonic() - checked >= self._refresh or run is None:
            if run is not None and not self.store.exists(keys.run(name)):
                self._forget(name)  # `runs.read` says that it is gone
                run = None
            newest = runs.newest_meaning(self.store, name, number)
            size = None  # as before
            if run is None or newest > number:
                run = runs.read(self.store, name)
                size = size_of(run)
            with self._lock:
                self._runs.put(name, (time.monotonic(), newest, run), size)
        return run

    def fits(self, name: str) -> int:
        """Return the number of finished fits of a run."""
        checked, newest = self._newest.get(name, (-np.inf, -1))
        if time.monotonic() - checked >= self._refresh:
            known, newest = newest, self.store.newest(keys.fits(name), known=newest)
            if newest < known:  # the run was deleted, and perhaps made again
                self._forget(name)
            self._newest[name] = (time.monotonic(), newest)
        return newest + 1

    def _forget(self, name: str) -> None:
        """Forget a run that was deleted."""
        with self._lock:
            self._runs.drop(lambda run: run == name)
            self._newest.pop(name, None)
            self._fitted.drop(lambda key: key[0] == name)

    def page_of_runs(
        self,
        page_size: int,
        page_token: str,
        encode: Callable[[Run], T],
        wanted: Callable[[str], bool] | None = None,
    ) -> tuple[list[T], str]:
        """Return a page of runs, each encoded as a message, ordered by name, and the token of the next page.

        wanted  says of a name whether the run is listed; None for all

        The page has fewer runs than asked for if more would not fit into one answer. The token is empty on the last
        page.
        """
        after = pages.position({}, page_token, str)[0] if page_token else ""
        rest = [name for name in filter(wanted or bool, runs.names(self.store)) if name > after]
        chosen = rest[: pages.size(page_size)]
        found, fitting = pages.fill(chosen, lambda name: self._encoded(name, encode))
        return found, pages.token({}, rest[fitting - 1]) if fitting < len(rest) else ""

    def _encoded(self, name: str, encode: Callable[[Run], T]) -> T | None:
        run = self.readable(name)
        return None if run is None else encode(run)

    def readable(self, name: str) -> Run | None:
        """Return a run for a list; None if its record is damaged or gone."""
        try:
            return self.run(name)
        except (CorruptObjectError, RunNotFoundError) as error:
            # One damaged record must not hide the other runs. `run` raises the error for this one.
            log.warning("run left out of a list", run=name, reason=str(error))
            return None

    def fitted(self, name: str, number: int | None = None) -> Fitted:
        """Return a finished fit of a run, by default the newest.

        Raises RunNotFoundError, NotReadyError if the run has no fit yet, ObjectNotFoundError if it has no fit of this
        number, and CorruptObjectError.
        """
        run = self.run(name)
        if number is None:
            number = newest_number(name, self.fits(name) - 1)
        key = (name, number)
        with self._lock:
            known = self._fitted.get(key)
            if known is not None:
                return self._meaning(key, known, run)
            loading = self._loading[key]
        with loading:
            with self._lock:
                known = self._fitted.get(key)
                if known is not None:
                    return self._meaning(key, known, run)
            try:
                with self._loads, LOAD_SECONDS.time():
                    fitted = self._load(run, number)
                self._keep(key, fitted)
            finally:
                with self._lock:
                    self._loading.pop(key, None)
            return fitted

    def _keep(self, key: tuple[str, int], fitted: Fitted) -> None:
        size = size_of(fitted.solution) + size_of(fitted.run)
        with self._lock:
            self._fitted.put(key, fitted, size)
            IN_MEMORY.set(len(self._fitted))
            MEMORY.set(self._fitted.bytes)

    def _meaning(self, key: tuple[str, int], fitted: Fitted, run: Run) -> Fitted:
        """Return a fit in memory with what is declared of its run now. The caller holds `_lock`."""
        if (fitted.run.declared, fitted.run.label_names) != (run.declared, run.label_names):
            fitted = dataclasses.replace(fitted, run=fitted.run.as_declared(run))
            self._fitted.put(key, fitted)
        return fitted

    def _load(self, run: Run, number: int) -> Fitted:
        record = fits.read_fit(self.store, run.name, number)
        solution = fits.load(self.store, record)
        return Fitted(record.of(run), record, solution, solution.theta, self.store)
