"""Commits outputs of trained models: append-only and exactly once, without a database.

A sub-chunk is one immutable part at a key that is a function of its models, created by one conditional write: of any
number of writers one wins, and the part is durable before anyone is told. Readers follow the manifest; parts that it
does not list yet are found again by listing the store, so a crash at any moment loses nothing acknowledged.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Self

import numpy as np

from datamodels.aggregate import metrics
from datamodels.aggregate.ledger import Ledger
from datamodels.aggregate.manifest import Part
from datamodels.aggregate.part import Outputs
from datamodels.aggregate.progress import Progress
from datamodels.aggregate.publisher import Publisher
from datamodels.errors import InputError, SettingsError, SpecError
from datamodels.run import runs
from datamodels.run.dataset import NOT_IN_POOL
from datamodels.run.runs import Run
from datamodels.settings import AggregatorSettings
from datamodels.storage import ObjectStore

MAX_PART_BYTES = 2**30
"""Outputs of one sub-chunk as float16: what one put may take of memory."""


class Committer:
    """The one door through which outputs enter a store. Safe to use from any thread.

    Any number of them, in any processes, may share a store. Entering it starts the thread that publishes manifests,
    at most one in `publish_interval` for each run, and at once when a run becomes complete; leaving it publishes what
    is left. Raises SettingsError.
    """

    def __init__(self, store: ObjectStore, settings: AggregatorSettings | None = None):
        self.store = store
        self._interval = (settings or AggregatorSettings()).publish_interval
        if not 0 <= self._interval < float("inf"):
            raise SettingsError(
                f"{AggregatorSettings.prefix}_PUBLISH_INTERVAL={self._interval}: must be a number of seconds, 0 or more"
            )
        self._lock = threading.Lock()
        self._opening: dict[str, threading.Lock] = {}
        self._ledgers: dict[str, Ledger] = {}
        self._publisher: Publisher | None = None

    def create(self, run: Run) -> bool:
        """Creates a run; False where it is there already.

        Raises ConflictError where its data set has changed since, SpecError where its parts would be too large, and
        InputError where its targets are no targets.
        """
        outside = np.flatnonzero((run.own < NOT_IN_POOL) | (run.own >= run.design.examples))
        if not run.n or len(outside):
            fault = f"target {outside[0]} is training example {run.own[outside[0]]}" if run.n else "there are none"
            raise InputError(
                f"targets of run {run.name}: {fault}; each must be {NOT_IN_POOL} or 0 to {run.design.examples - 1}"
            )
        size = min(run.spec.sub_chunk, run.spec.models) * run.n * 2
        if size > MAX_PART_BYTES:
            raise SpecError(
                f"sub_chunk = {run.spec.sub_chunk}: makes parts of {size / 2**30:.1f} GiB with {run.n} targets, at "
                f"most {MAX_PART_BYTES / 2**30:.0f} GiB allowed; lower it to {MAX_PART_BYTES // (run.n * 2)} or less"
            )
        return runs.create(self.store, run)

    def run(self, name: str) -> Run:
        """A run. Raises RunNotFoundError."""
        return self._ledger(name).run

    def part(self, name: str, models: range) -> Part | None:
        """The committed part of a sub-chunk, as far as this process knows."""
        return self._ledger(name).get(models)

    def put(self, outputs: Outputs) -> bool:
        """Commits a sub-chunk; False where it had been committed before, and `outputs` are dropped.

        On return the models are durable, whoever committed them. Raises StoreError; putting again is safe then.
        """
        ledger = self._ledger(outputs.run)
        with metrics.PUT_SECONDS.time():
            part, committed = ledger.put(outputs)
        metrics.PARTS.labels("committed" if committed else "dropped").inc()
        if committed:
            metrics.MODELS.labels("trained").inc(part.rows)
            metrics.MODELS.labels("failed").inc(len(part.failed))
            metrics.PART_BYTES.inc(part.bytes)
        if self._publisher is not None:
            self._publisher.wake()
        return committed

    def publish(self, name: str) -> int:
        """Makes every committed part of a run visible to readers; returns the version of the newest manifest.

        Lists the store, so it includes what other aggregators committed. Raises StoreError.
        """
        ledger = self._ledger(name)
        ledger.recover()
        return ledger.publish()

    def progress(self, name: str) -> Progress:
        """What is committed; of other aggregators' commits, what their manifests have listed."""
        ledger = self._ledger(name)
        ledger.refresh(older_than=self._interval)
        return ledger.progress()

    def watch(self, name: str, active: Callable[[], bool] = lambda: True) -> Iterator[Progress]:
        """Progress, at once and then on every change, until the run is complete or `active` is false.

        Many changes may be told as one. `active` is asked on every change, and on `wake`.
        """
        ledger = self._ledger(name)
        told = None
        while active():
            progress = self.progress(name)
            if progress != told:
                yield progress
                told = progress
            if progress.complete:
                return
            # Woken by commits, and in time to see those of other aggregators.
            ledger.wait(progress, active, timeout=max(self._interval, 0.05))

    def wake(self) -> None:
        """Makes all watches ask whether they are still active."""
        for ledger in self._open_ledgers():
            ledger.wake()

    def _open_ledgers(self) -> list[Ledger]:
        with self._lock:
            return list(self._ledgers.values())

    def _ledger(self, name: str) -> Ledger:
        with self._lock:
            if name in self._ledgers:
                return self._ledgers[name]
            opening = self._opening.setdefault(name, threading.Lock())
        # One thread recovers a run while the others wait for it. A run that there is not leaves nothing behind.
        with opening:
            try:
                with self._lock:
                    if name in self._ledgers:
                        return self._ledgers[name]
                ledger = Ledger(self.store, runs.read(self.store, name))
                with self._lock:
                    return self._ledgers.setdefault(name, ledger)
            finally:
                with self._lock:
                    self._opening.pop(name, None)

    def start(self) -> None:
        """Publishes manifests from now on, until `close`."""
        self._publisher = Publisher(self._open_ledgers, self._interval)
        self._publisher.start()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Stops publishing, after a last time."""
        if self._publisher is not None:
            self._publisher.close()
            self._publisher = None
