"""Commit outputs of trained models: append-only and exactly once, without a database.

The outputs of a sub-chunk are one immutable part. Its key is a function of its models, and one conditional write
creates it: of any number of writers one wins, and the part is durable before any of them is told. Readers follow the
manifest. Parts that the manifest does not list yet are found again by listing the store, so a crash at any moment loses
nothing that was acknowledged.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Self

import numpy as np

from datamodels import machine
from datamodels.aggregate import metrics
from datamodels.aggregate.ledger import Ledger
from datamodels.aggregate.manifest import Part
from datamodels.aggregate.part import Outputs
from datamodels.aggregate.progress import CommittedModels
from datamodels.aggregate.publisher import Publisher
from datamodels.aggregate.room import FACTOR, Room
from datamodels.errors import InputError, SettingsError, SpecError
from datamodels.run import runs
from datamodels.run.dataset import NOT_IN_POOL
from datamodels.run.runs import Run
from datamodels.settings import AggregatorSettings
from datamodels.storage import ObjectStore

IDLE_SECONDS = 3600.0
"""A run that nobody asked for so long is forgotten once all its parts are listed; it is opened again when needed."""
MAX_PART_BYTES = 2**31
"""Largest size of one sub-chunk's outputs. It limits the memory that one put takes."""


class Committer:
    """Writes all outputs and manifests of a store. Safe to use from any thread.

    Any number of committers, in any processes, may share a store. Entering a committer starts the thread that publishes
    manifests: at most one per `publish_interval` for each run, and one as soon as a run becomes complete. Leaving it
    publishes what is left. Raises SettingsError for a wrong interval.
    """

    def __init__(self, store: ObjectStore, settings: AggregatorSettings | None = None, room: Room | None = None):
        self.store = store
        self._interval = (settings or AggregatorSettings()).publish_interval
        if not 0 <= self._interval < float("inf"):
            raise SettingsError(
                f"{AggregatorSettings.prefix}_PUBLISH_INTERVAL={self._interval}: must be a number of seconds, 0 or more"
            )
        self._lock = threading.Lock()
        self._opening: dict[str, threading.Lock] = {}
        self._ledgers: dict[str, Ledger] = {}
        self._used: dict[str, float] = {}
        self._publisher: Publisher | None = None
        self._room = room or Room()

    def create(self, run: Run) -> bool:
        """Create a run. Returns False if it exists already.

        Raises ConflictError if its data set has changed since it was created, SpecError if its parts would be too
        large, and InputError if a target is not valid or there are no targets.
        """
        outside = np.flatnonzero((run.own < NOT_IN_POOL) | (run.own >= run.design.examples))
        if not run.n or len(outside):
            fault = (
                f"target {outside[0]} is training example {run.own[outside[0]]}"
                if run.n
                else "the data set has no targets"
            )
            raise InputError(
                f"targets of run {run.name}: {fault}; each must be {NOT_IN_POOL} or 0 to {run.design.examples - 1}"
            )
        row = run.n * np.dtype(run.dtype).itemsize
        size = min(run.spec.sub_chunk, run.spec.models) * row
        most = min(MAX_PART_BYTES, int(machine.memory() / FACTOR))
        if size > most:
            raise SpecError(
                f"sub_chunk = {run.spec.sub_chunk}: makes parts of {size / 2**30:.1f} GiB with {run.n} targets, at "
                f"most {most / 2**30:.1f} GiB allowed; lower it to {max(1, most // row)} or less"
            )
        created = runs.create(self.store, run)
        if created:  # what this process knows of an earlier run of this name was deleted with it
            with self._lock:
                self._ledgers.pop(run.name, None)
                self._used.pop(run.name, None)
        return created

    def run(self, name: str) -> Run:
        """Return a run. Raises RunNotFoundError."""
        return self._ledger(name).run

    def part(self, name: str, models: range) -> Part | None:
        """Return the committed part of a sub-chunk, or None if this process knows of none."""
        return self._ledger(name).get(models)

    def reserved(self, run: Run, models: range) -> AbstractContextManager[None]:
        """Return a context that holds memory for a sub-chunk, from its first outputs to its commit.

        Entering it raises BusyError if there is not enough.
        """
        return self._room.reserved(run.name, models, len(models) * run.n * np.dtype(run.dtype).itemsize)

    def put(self, outputs: Outputs) -> bool:
        """Commit a sub-chunk. Returns False, and drops `outputs`, if the sub-chunk was committed before.

        On return the models are durable, whoever committed them. Raises StoreError; it is then safe to put again.
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
        """Make every committed part of a run visible to readers. Returns the version of the newest manifest.

        Lists the store, so the manifest includes what other aggregators committed. Raises StoreError.
        """
        ledger = self._ledger(name)
        ledger.recover()
        return ledger.publish()

    def progress(self, name: str) -> CommittedModels:
        """Return the progress of a run. It counts commits of other aggregators once a manifest lists them."""
        ledger = self._ledger(name)
        ledger.refresh(older_than=self._interval)
        return ledger.progress()

    def watch(self, name: str, active: Callable[[], bool] = lambda: True) -> Iterator[CommittedModels]:
        """Yield progress at once and then on every change, until the run is complete or `active` returns False.

        Several changes may be combined into one. `active` is called on every change, and on `wake`.
        """
        sent = None
        while active():
            ledger, progress = self._ledger(name), self.progress(name)
            if progress != sent:
                yield progress
                sent = progress
            if progress.complete:
                return
            # A commit of this process ends the wait; the timeout is for commits of other aggregators.
            ledger.wait(progress, active, timeout=max(self._interval, 0.05))

    def wake(self) -> None:
        """Make all watches call their `active` again."""
        for ledger in self._open_ledgers():
            ledger.wake()

    def _open_ledgers(self) -> list[Ledger]:
        with self._lock:
            return list(self._ledgers.values())

    def _forget_idle(self) -> None:
        """Forget runs that nobody asks for. The caller holds `_lock`."""
        now = time.monotonic()
        for name, used in list(self._used.items()):
            if now - used > IDLE_SECONDS and not self._ledgers[name].unlisted:
                del self._ledgers[name], self._used[name]

    def _ledger(self, name: str) -> Ledger:
        with self._lock:
            if name in self._ledgers:
                self._used[name] = time.monotonic()
                return self._ledgers[name]
            opening = self._opening.setdefault(name, threading.Lock())
        # One thread recovers a run while others wait for it. Nothing is kept for a run that does not exist.
        with opening:
            try:
                with self._lock:
                    if name in self._ledgers:
                        return self._ledgers[name]
                ledger = Ledger(self.store, runs.read(self.store, name))
                with self._lock:
                    self._forget_idle()
                    self._used[name] = time.monotonic()
                    return self._ledgers.setdefault(name, ledger)
            finally:
                with self._lock:
                    self._opening.pop(name, None)

    def start(self) -> None:
        """Start publishing manifests, until `close`."""
        self._publisher = Publisher(self._open_ledgers, self._interval)
        self._publisher.start()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Publish once more, then stop publishing."""
        if self._publisher is not None:
            self._publisher.close()
            self._publisher = None
