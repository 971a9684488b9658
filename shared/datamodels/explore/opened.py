"""Keep in memory what the pages of a fit need: its weights by target and by column, its tables, its looks."""

from __future__ import annotations

import dataclasses
import threading
from typing import Self

import numpy as np
from scipy import sparse

from datamodels.aggregate import manifest
from datamodels.analyze.findings import Findings, describe, gather
from datamodels.analyze.quality import evaluate
from datamodels.analyze.quality.evaluate import Evaluation
from datamodels.analyze.target import Targets
from datamodels.display import stored
from datamodels.display.looks import Looks
from datamodels.display.stored import Stored
from datamodels.errors import DatamodelsError, MaskError, NotReadyError
from datamodels.explore import facts, queue
from datamodels.explore.facts import Facts
from datamodels.explore.queue import Queue
from datamodels.explore.tables import Table
from datamodels.query.cache import Cache
from datamodels.query.weights import Fitted, WeightStore
from datamodels.telemetry import logger

log = logger(__name__)

KEPT = 3
"""Fits whose tables are kept: of each, the weights by column take as much memory as those by target."""
LOOKS = 8
"""Runs whose looks are kept; each keeps up to `stored.CACHE_BYTES`."""


@dataclasses.dataclass(frozen=True, eq=False)
class Effects:
    """What one column does: its effect on targets, those with the largest first.

    target  int32[k]
    weight  float32[k]
    total   number of targets with a weight on the column
    """

    target: np.ndarray
    weight: np.ndarray
    total: int


class Opened:
    """A fit with what its pages need; each part is made when it is first asked for. Safe to use from any thread."""

    def __init__(self, fitted: Fitted, looks: Looks | None, evaluation: Evaluation | None = None):
        self.fitted, self.looks = fitted, looks
        self._lock = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}
        self._evaluation = evaluation

    def _once(self, name: str, make):
        """Make a part once. Other parts can be had meanwhile."""
        with self._lock:
            lock = self._locks.setdefault(name, threading.Lock())
        with lock:
            if name not in self.__dict__:
                self.__dict__[name] = make()
            return self.__dict__[name]

    @property
    def evaluation(self) -> Evaluation | None:
        """The evaluation of the fit; None if none is recorded yet."""
        record = self.fitted.record
        if self._evaluation is None:
            self._evaluation = evaluate.recorded(self.fitted.store, record.run, record.number)
        return self._evaluation

    @property
    def target_facts(self) -> Facts:
        """Facts about the targets."""
        return self._once("_target_facts", lambda: facts.of_targets(self.fitted, self.evaluation, self.looks))

    @property
    def column_facts(self) -> Facts:
        """Facts about the columns."""
        return self._once("_column_facts", lambda: facts.of_columns(self.fitted, self.looks))

    @property
    def targets(self) -> Table:
        """The table of targets."""
        return self._once("_targets", lambda: Table(self.target_facts))

    @property
    def columns(self) -> Table:
        """The table of columns."""
        return self._once("_columns", lambda: Table(self.column_facts))

    @property
    def findings(self) -> Findings:
        """The findings of the fit, as a report has them; the first access takes seconds. Raises CorruptObjectError."""
        return self._once("_found", self._gather)

    @property
    def by_column(self) -> sparse.csc_array:
        """The weights, float32[n, d], by column."""
        return self._once("_by_column", self.fitted.theta.tocsc)

    @property
    def described(self) -> Targets:
        """Describes each target; the first access reads the outputs on unseen subsets. Raises CorruptObjectError."""
        return self._once("_described", self._describe)

    def _describe(self) -> Targets:
        fitted = self.fitted
        snapshot = manifest.read_newest(fitted.store, fitted.run.name)
        return describe(fitted.store, fitted.run, fitted.record, fitted.solution, snapshot, fitted.noise)

    def _gather(self) -> Findings:
        fitted = self.fitted
        return gather(fitted.store, fitted.run, None, known=(fitted.record, self.described))

    @classmethod
    def of(cls, found: Findings) -> Self:
        """Return the fit of some findings. Raises NotReadyError if they have none."""
        fit = found.fitted
        if fit is None:
            raise NotReadyError(f"run {found.run.name}: has no fit yet")
        run, solution = fit.record.of(found.run), fit.solution
        fitted = Fitted(run, fit.record, solution, solution.theta, found.store, fit.targets.noise)
        opened = cls(fitted, found.looks, fit.evaluation)
        opened.__dict__ |= {"_found": found, "_described": fit.targets}
        return opened

    def queue(self, k: int) -> Queue:
        """Return the review queue of the fit, with at most k suspects of each kind."""
        return self._once(f"_queue{k}", lambda: queue.of_fit(self.fitted, self.looks, k))

    def effects(self, column: int, k: int, *, negative: bool) -> Effects:
        """Return the k targets that a column moves most, up or, if `negative`, down. Raises MaskError."""
        d = self.fitted.run.design.columns
        if not 0 <= column < d:
            raise MaskError(f"column {column}: must be 0 to {d - 1}")
        entries = slice(self.by_column.indptr[column], self.by_column.indptr[column + 1])
        targets, weights = self.by_column.indices[entries], self.by_column.data[entries]
        chosen = np.flatnonzero(weights < 0 if negative else weights > 0)
        order = chosen[np.argsort(-np.abs(weights[chosen]), kind="stable")[:k]]
        return Effects(targets[order].astype(np.int32), weights[order], len(targets))


class Explorer:
    """Opens runs and fits of a store. Safe to use from any thread."""

    def __init__(self, weights: WeightStore):
        self.weights, self.store = weights, weights.store
        self._lock = threading.Lock()
        self._opened: Cache[tuple[str, int, tuple[str, ...]], Opened] = Cache(2**62, KEPT)
        self._looks: Cache[str, Stored] = Cache(2**62, LOOKS)
        self._wanted: str | None = None
        self._warming = False

    def looks(self, name: str) -> Stored | None:
        """Return the looks of a run's examples; None if the store has none. Raises RunNotFoundError."""
        run = self.weights.run(name)
        with self._lock:
            found = self._looks.get(name)
        if found is None or not found.is_of(run):
            found = stored.open_looks(self.store, run)
            if found is not None:
                with self._lock:
                    self._looks.put(name, found, 1)
        return found

    def fit(self, name: str, number: int | None = None) -> Opened:
        """Return a fit, by default the newest. Raises as `WeightStore.fitted` does."""
        fitted = self.weights.fitted(name, number)
        key = (name, fitted.record.number, fitted.run.label_names)
        with self._lock:
            found = self._opened.get(key)
        if found is not None and found.fitted is fitted:
            return found
        looks = self.looks(name)
        found = Opened(fitted, looks)
        with self._lock:
            self._opened.put(key, found, 1)
        return found

    def warm(self, name: str) -> None:
        """Begin to make what pages of the newest fit of a run need, so that whoever opens one need not wait for it.

        A thread does so for one run after the other. If several are asked for meanwhile, only the last is made. It
        keeps no more than is kept for those who ask.
        """
        with self._lock:
            self._wanted, started = name, self._warming
            self._warming = True
        if not started:
            threading.Thread(target=self._warm, daemon=True, name="warm").start()

    def _warm(self) -> None:
        while True:
            with self._lock:
                name, self._wanted = self._wanted, None
                if name is None:
                    self._warming = False
                    return
            try:
                opened = self.fit(name)
                for part in ("targets", "columns", "by_column", "described"):
                    getattr(opened, part)
            except DatamodelsError as error:  # a request for the page gets the error
                log.info("pages are not prepared", run=name, reason=str(error))
