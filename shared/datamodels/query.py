"""The weight store: what the query service answers from. Reads finished fits, keeps the latest used in memory."""

from __future__ import annotations

import collections
import dataclasses
import functools
import threading
import time
from collections.abc import Iterator

import numpy as np
from prometheus_client import Counter, Gauge, Histogram
from scipy import sparse

from datamodels import keys, pages, sample, spec
from datamodels import run as runs
from datamodels.aggregate import manifest
from datamodels.analyze import noise, stopping
from datamodels.analyze.noise import Noise
from datamodels.errors import CorruptObjectError, InputError, NotReadyError, TargetRangeError
from datamodels.fit import store as fits
from datamodels.fit.problem import Solution
from datamodels.run import Run
from datamodels.storage import ObjectStore
from datamodels.telemetry import logger

log = logger(__name__)

MAX_ANSWER_BYTES = 3_500_000
"""Of the vectors in one unary answer; clients accept 4 MiB by default."""
MAX_CHUNK_WEIGHTS = 80_000
"""Weights in one message of a stream, 8 bytes each: messages stay under 1 MB."""
MAX_TOP = 1000

IN_MEMORY = Gauge("datamodels_query_fits_in_memory", "Fits kept in memory.")
LOAD_SECONDS = Histogram("datamodels_query_load_seconds", "Seconds to read a fit from the object store.")
PREDICTIONS = Counter("datamodels_query_predictions_total", "Outputs predicted, one for each subset and target.")


@dataclasses.dataclass(frozen=True, eq=False)
class Fitted:
    """A finished fit in memory.

    theta  float32 CSR [n, d]
    store  where it comes from
    """

    run: Run
    record: fits.FitRecord
    solution: Solution
    theta: sparse.csr_array
    store: ObjectStore

    @functools.cached_property
    def noise(self) -> Noise:
        """Of the fit. Reads committed outputs when first asked for. Raises CorruptObjectError."""
        return noise.measure(self.run, manifest.read_newest(self.store, self.run.name), self.store, self.solution)

    def final(self) -> bool:
        """Whether it is the last fit of its run: it has all models that are, or were to be, trained."""
        snapshot = manifest.read_newest(self.store, self.run.name)
        ended = snapshot.committed >= self.run.spec.models or bool(stopping.recorded(self.store, self.run.name))
        return ended and snapshot.version == self.record.manifest_version

    @property
    def n(self) -> int:
        return self.solution.n

    def targets(self, chosen: np.ndarray | None) -> np.ndarray:
        """int32[t]: the targets asked for, or all. Raises TargetRangeError, InputError for one asked for twice."""
        if chosen is None:
            return np.arange(self.n, dtype=np.int32)
        outside = chosen[(chosen < 0) | (chosen >= self.n)]
        if outside.size:
            raise TargetRangeError(f"target {outside[0]}: must be 0 to {self.n - 1} in run {self.run.name}")
        found, counts = np.unique(chosen, return_counts=True)
        if (counts > 1).any():
            raise InputError(f"target {found[counts > 1][0]}: is asked for twice")
        return chosen

    def predict(self, masks: np.ndarray, targets: np.ndarray | None = None) -> np.ndarray:
        """float32[s, t]: what models trained on the subsets, packed uint8[s, ceil(d / 8)], would say of the targets.

        Raises MaskError, TargetRangeError, InputError where the answer would not fit one message.
        """
        targets = self.targets(targets)
        if len(masks) * len(targets) * 4 > MAX_ANSWER_BYTES:
            raise InputError(
                f"{len(masks)} subsets x {len(targets)} targets: at most {MAX_ANSWER_BYTES // 4} predictions in one "
                "call; ask for fewer subsets or targets"
            )
        PREDICTIONS.inc(len(masks) * len(targets))
        members = sample.unpack(masks, self.run.design.columns).astype(np.float32)
        theta = self.theta if np.array_equal(targets, np.arange(self.n)) else self.theta[targets]
        return (theta @ members.T).T + self.solution.intercept[targets].astype(np.float32)

    def top(self, target: int, k: int) -> tuple[list[tuple[int, float]], list[tuple[int, float]]]:
        """The k most helpful and the k most harmful columns of a target with their weights, strongest first."""
        if not 0 <= k <= MAX_TOP:
            raise InputError(f"k = {k}: must be 0 to {MAX_TOP}")
        columns, weights = self.solution.row(target)
        order = np.argsort(weights, kind="stable")
        ranked = [(int(columns[i]), float(weights[i])) for i in order]
        harmful = [pair for pair in ranked[:k] if pair[1] < 0]
        helpful = [pair for pair in ranked[::-1][:k] if pair[1] > 0]
        return helpful, harmful

    def chunks(
        self, targets: np.ndarray, top_k: int, size: int = MAX_CHUNK_WEIGHTS
    ) -> Iterator[tuple[list[int], list[np.ndarray], list[np.ndarray]]]:
        """Weights in pieces of at most `size`: (targets, their columns, their weights).

        A row larger than what is left of a piece goes on in the next, under the same target. With top_k, the k
        weights of largest magnitude, largest first; else all, by column.
        """
        rows: tuple[list[int], list[np.ndarray], list[np.ndarray]] = ([], [], [])
        room = size
        for target in targets.tolist():
            columns, weights = self.solution.row(target)
            if top_k:
                order = np.argsort(-np.abs(weights), kind="stable")[:top_k]
                columns, weights = columns[order], weights[order]
            start = 0
            while True:
                taken = slice(start, start + room)
                for values, value in zip(rows, (target, columns[taken], weights[taken]), strict=True):
                    values.append(value)
                # Each row also costs room, so that a million empty rows do not make one message.
                room -= len(columns[taken]) + 8
                start = taken.stop
                if room > 0:
                    break
                yield rows
                rows, room = ([], [], []), size
                if start >= len(columns):
                    break
        if rows[0]:
            yield rows


class WeightStore:
    """Finished fits of all runs of an object store.

    refresh   seconds for which a run's newest fit is taken to be the newest
    capacity  fits kept in memory, the latest used
    """

    def __init__(self, store: ObjectStore, *, refresh: float = 5.0, capacity: int = 8):
        self.store = store
        self._refresh = refresh
        self._capacity = capacity
        self._lock = threading.Lock()
        self._loading: dict[tuple[str, int], threading.Lock] = collections.defaultdict(threading.Lock)
        self._fitted: collections.OrderedDict[tuple[str, int], Fitted] = collections.OrderedDict()
        self._newest: dict[str, tuple[float, int]] = {}
        self._runs: dict[str, Run] = {}

    def run(self, name: str) -> Run:
        """Raises RunNotFoundError."""
        if name not in self._runs:
            self._runs[name] = runs.read(self.store, name)
        return self._runs[name]

    def fits(self, name: str) -> int:
        """Finished fits of a run."""
        checked, newest = self._newest.get(name, (-np.inf, -1))
        if time.monotonic() - checked >= self._refresh:
            newest = self.store.newest(lambda number: keys.fit(name, number), known=newest)
            self._newest[name] = (time.monotonic(), newest)
        return newest + 1

    def page_of_runs(self, page_size: int, page_token: str) -> tuple[list[Run], str]:
        """Runs by name, and the token of the next page or an empty text."""
        after = pages.position({}, page_token, str)[0] if page_token else ""
        names = sorted(filter(spec.is_run, map(keys.run_of, self.store.list(keys.RUNS))))
        size = pages.size(page_size)
        rest = [name for name in names if name > after]
        chosen = rest[:size]
        return list(self._readable(chosen)), pages.token({}, chosen[-1]) if len(rest) > size else ""

    def _readable(self, names: list[str]) -> Iterator[Run]:
        for name in names:
            try:
                yield self.run(name)
            except CorruptObjectError as error:
                # One damaged record must not hide the other runs; asking for this one says what is wrong.
                log.warning("run left out of a list", run=name, reason=str(error))

    def fitted(self, name: str, number: int | None = None) -> Fitted:
        """A finished fit of a run, the newest by default.

        Raises RunNotFoundError, NotReadyError where the run has none yet, ObjectNotFoundError where it has none of this
        number, CorruptObjectError.
        """
        run = self.run(name)
        if number is None:
            number = self.fits(name) - 1
            if number < 0:
                raise NotReadyError(f"run {name}: has no weights yet; `datamodels fit` makes them")
        key = (name, number)
        with self._lock:
            if key in self._fitted:
                self._fitted.move_to_end(key)
                return self._fitted[key]
            loading = self._loading[key]
        with loading:
            with self._lock:
                if key in self._fitted:
                    return self._fitted[key]
            try:
                with LOAD_SECONDS.time():
                    fitted = self._load(run, number)
                with self._lock:
                    self._fitted[key] = fitted
                    while len(self._fitted) > self._capacity:
                        self._fitted.popitem(last=False)
                    IN_MEMORY.set(len(self._fitted))
            finally:
                with self._lock:
                    self._loading.pop(key, None)
            return fitted

    def _load(self, run: Run, number: int) -> Fitted:
        record = fits.read_fit(self.store, run.name, number)
        solution = fits.load(self.store, record)
        return Fitted(record.of(run), record, solution, solution.theta, self.store)
