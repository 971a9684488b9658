"""Keep the state of a run in one aggregator: its committed parts, and which of them the newest manifest lists."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterable

from datamodels.aggregate import manifest, metrics, part
from datamodels.aggregate.manifest import Part, Snapshot, merged
from datamodels.aggregate.part import Outputs
from datamodels.aggregate.progress import CommittedModels
from datamodels.errors import CorruptObjectError
from datamodels.run.runs import Run
from datamodels.storage import ObjectStore, keys
from datamodels.telemetry import logger

log = logger(__name__)


class Ledger:
    """Collects the committed parts of a run, and never drops one. Safe to use from any thread.

    Every part in a ledger is durable, so it may be acknowledged and listed. `refresh` and `recover` find the parts that
    other aggregators, or this one before a crash, have committed.
    """

    def __init__(self, store: ObjectStore, run: Run):
        """Read the newest manifest and find the parts that it does not list. Raises StoreError."""
        self.run = run
        self._changed = threading.Condition()
        self._store = store
        self._publishing = threading.Lock()
        self._version = manifest.NONE
        self._parts: dict[int, Part] = {}
        self._listed: set[int] = set()
        self._failed = 0
        self._committed = 0
        self._refreshed = float("-inf")
        self.recover()

    def get(self, models: range) -> Part | None:
        """Return the committed part of a sub-chunk, or None if none is known."""
        with self._changed:
            return self._parts.get(models.start)

    def put(self, outputs: Outputs) -> tuple[Part, bool]:
        """Commit a sub-chunk. Returns its durable part, and whether this call wrote it. Raises StoreError."""
        known = self.get(outputs.models)
        if known is not None:
            return known, False
        data = part.encode(outputs)
        committed = _describe(outputs, data)
        created = self._store.create(committed.key, data)
        if not created:
            committed = self._read(outputs.models)
        self._add([committed])
        return committed, created

    def refresh(self, older_than: float = 0.0) -> None:
        """Merge the newest manifest of other aggregators. Raises StoreError.

        Does nothing if the last refresh was less than `older_than` seconds ago.
        """
        now = time.monotonic()
        with self._changed:
            if now - self._refreshed < older_than:
                return
            self._refreshed = now
        known, name = self.version, self.run.name
        newest = self._store.newest(lambda version: keys.manifest(name, version), known)
        if newest > known:
            self._merge(manifest.read(self._store, name, newest))

    def recover(self) -> None:
        """Add all parts in the store, whether a manifest lists them or not. Raises StoreError."""
        self.refresh()
        name, spec = self.run.name, self.run.spec
        present = set(self._store.list(keys.parts(name)))
        with self._changed:
            present -= {p.key for p in self._parts.values()}
        if not present:
            return
        # Compares with the keys of all sub-chunks instead of parsing keys, so that no foreign object counts as a part.
        sub_chunks = (models for c in range(spec.chunks) for models in spec.sub_chunks(spec.chunk_range(c)))
        orphans = [models for models in sub_chunks if keys.part(name, models.start, models.stop) in present]
        for models in orphans:
            self._add([self._read(models)])
        metrics.RECOVERED.inc(len(orphans))
        log.info("recovered parts", run=name, parts=len(orphans), foreign_objects=len(present) - len(orphans))

    def publish(self) -> int:
        """Write a manifest that lists every part of the ledger, unless the newest does. Returns its version.

        If another aggregator writes that version first, its parts are merged into the next version. So no version loses
        a part of an earlier one. Raises StoreError.
        """
        with self._publishing:
            while True:
                with self._changed:
                    version, parts = self._version, dict(self._parts)
                    if self._listed.issuperset(parts):
                        return version
                with metrics.PUBLISH_SECONDS.time():
                    created = manifest.create(self._store, self.run.name, version + 1, parts.values())
                if not created:
                    self.refresh()
                    continue
                metrics.MANIFESTS.inc()
                self._list(version + 1, set(parts))

    @property
    def version(self) -> int:
        """Version of the newest known manifest, or `manifest.NONE`."""
        with self._changed:
            return self._version

    @property
    def unlisted(self) -> bool:
        """Whether the ledger has a part that the newest known manifest does not list."""
        with self._changed:
            return len(self._listed) < len(self._parts)

    @property
    def complete(self) -> bool:
        """Whether all models of the run are committed."""
        with self._changed:
            return self._committed == self.run.spec.models

    def progress(self) -> CommittedModels:
        with self._changed:
            return CommittedModels(
                run=self.run.name,
                models=self.run.spec.models,
                committed=self._committed,
                failed=self._failed,
                ranges=merged(p.models for p in self._parts.values()),
                manifest_version=self._version,
            )

    def wait(self, seen: CommittedModels, active: Callable[[], bool], timeout: float) -> None:
        """Wait until progress differs from `seen`, `active` returns False, or `timeout` seconds have passed."""
        then = (seen.committed, seen.manifest_version)
        with self._changed:
            self._changed.wait_for(lambda: (self._committed, self._version) != then or not active(), timeout)

    def wake(self) -> None:
        """Make all calls of `wait` call their `active` again."""
        with self._changed:
            self._changed.notify_all()

    def _read(self, models: range) -> Part:
        """Read the part that another writer committed. No manifest lists its checksum yet."""
        key = keys.part(self.run.name, models.start, models.stop)
        data = self._store.read_twice(key)
        try:
            outputs = part.decode(data, f"{self._store.url}/{key}", run=self.run.name, models=models, n=self.run.n)
        except CorruptObjectError as error:
            raise CorruptObjectError(f"{error}, or delete it to have its models trained again") from error
        return _describe(outputs, data)

    def _merge(self, snapshot: Snapshot) -> None:
        # Both steps under one lock: our next version must include the parts of this one.
        with self._changed:
            self._add(snapshot.parts)
            self._list(snapshot.version, {p.first for p in snapshot.parts})

    def _list(self, version: int, listed: set[int]) -> None:
        with self._changed:
            if version > self._version:
                self._version, self._listed = version, listed
                self._changed.notify_all()

    def _add(self, parts: Iterable[Part]) -> None:
        with self._changed:
            for found in parts:
                if found.first not in self._parts:
                    self._parts[found.first] = found
                    self._committed += len(found.models)
                    self._failed += len(found.failed)
            self._changed.notify_all()


def _describe(outputs: Outputs, data: bytes) -> Part:
    """Return the manifest's entry for a part."""
    models = outputs.models
    return Part(
        key=keys.part(outputs.run, models.start, models.stop),
        first=models.start,
        last=models.stop,
        rows=len(outputs.model_index),
        failed=tuple(outputs.failed.items()),
        sha256=hashlib.sha256(data).hexdigest(),
        bytes=len(data),
    )
