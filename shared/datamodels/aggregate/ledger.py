"""Keep the state of a run in one aggregator: its committed parts, and which of them the newest manifest lists."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable

from datamodels.aggregate import manifest, metrics, part
from datamodels.aggregate.manifest import Part, Snapshot, merged
from datamodels.aggregate.part import Outputs
from datamodels.aggregate.progress import CommittedModels
from datamodels.errors import CorruptObjectError, RunNotFoundError
from datamodels.run.runs import Run
from datamodels.storage import ObjectStore, keys
from datamodels.telemetry import logger

log = logger(__name__)

WHOLE_SECONDS = 3600.0
"""After this time a manifest lists all parts again. A rule of a bucket that removes manifests after a day or later then
removes none that the newest builds on."""
STALE_SECONDS = 60.0
"""A put looks for a newer manifest if the last look is this long ago: it may have retired or merged parts."""


class Ledger:
    """Collects the committed parts of a run, and drops only those that a newer manifest retires. Safe in any thread.

    Every part in a ledger is durable, so it may be acknowledged and listed. `refresh` and `recover` find the parts that
    other aggregators, or this one before a crash, have committed.
    """

    def __init__(self, store: ObjectStore, run: Run):
        """Read the newest manifest and find the parts that it does not list. Raises StoreError."""
        self.run = run
        self._changed = threading.Condition()
        self._store = store
        self._publishing = threading.Lock()
        self._snapshot = Snapshot(run.name, manifest.NONE, ())
        self._unlisted: dict[int, Part] = {}
        self._refreshed = float("-inf")
        self._whole = float("-inf")
        self.recover()

    def get(self, models: range) -> Part | None:
        """Return the committed part that has a sub-chunk, or None if none is known."""
        with self._changed:
            return self._unlisted.get(models.start) or self._snapshot.find(models.start)

    def put(self, outputs: Outputs) -> tuple[Part, bool]:
        """Commit a sub-chunk. Returns its durable part, and whether this call wrote it. Raises StoreError."""
        self.refresh(older_than=STALE_SECONDS)
        known = self.get(outputs.models)
        if known is not None:
            return known, False
        data = part.encode(outputs)
        while True:
            with self._changed:
                key = self._snapshot.key(outputs.models)
            committed = manifest.describe(outputs, key, data)
            created = self._store.create(key, data)
            if not created:
                committed = self._read(outputs.models, key)
            self._add([committed])
            if self.get(outputs.models) is not None:  # else the part was retired meanwhile
                return committed, created

    def refresh(self, older_than: float = 0.0) -> None:
        """Take over the newest manifest of other aggregators.

        Does nothing if the last refresh was less than `older_than` seconds ago. Raises StoreError, and RunNotFoundError
        if the run was deleted. If it was created anew since, or all of its manifests are gone, the ledger begins anew.
        """
        now = time.monotonic()
        with self._changed:
            if now - self._refreshed < older_than:
                return
            self._refreshed = now
        known, name = self.version, self.run.name
        newest = self._store.newest(keys.manifests(name), known)
        if newest > known:
            self._follow(manifest.read_newest(self._store, name, known, partial=True))
        elif newest < known:
            with self._changed:
                self._snapshot, self._unlisted = Snapshot(name, manifest.NONE, ()), {}
            self._require_run()
            self.recover()

    def recover(self) -> None:
        """Add all parts in the store, whether a manifest lists them or not. Raises StoreError."""
        self.refresh()
        name, spec = self.run.name, self.run.spec
        with self._changed:
            complete = self._snapshot.complete
            known = {part.key for part in (*self._snapshot.parts, *self._unlisted.values())}
        if not complete or not known:
            self._recover_merged()
        present = set(self._store.list(keys.parts(name))) - known
        if not present:
            return
        # Compares with the keys of all sub-chunks instead of parsing keys, so that no foreign object counts as a part.
        sub_chunks = [models for c in range(spec.chunks) for models in spec.sub_chunks(spec.chunk_range(c))]
        with self._changed:
            wanted = {self._snapshot.key(models): models for models in sub_chunks if not self.get(models)}
        orphans = [key for key in wanted if key in present]
        for key in orphans:
            self._add([self._read(wanted[key], key)])
        if orphans:
            metrics.RECOVERED.inc(len(orphans))
            log.info("recovered parts", run=name, parts=len(orphans), foreign_objects=len(present) - len(orphans))

    def publish(self, *, whole: bool = False) -> int:
        """Write a manifest that lists every part of the ledger, unless the newest does. Returns its version.

        whole  write one too if the newest is not whole: it then needs no earlier manifest

        If another aggregator writes that version first, its parts are merged into the next version. So no version loses
        a part of an earlier one. Raises StoreError.
        """
        with self._publishing:
            while True:
                self.refresh()
                with self._changed:
                    known, parts = self._snapshot, tuple(self._unlisted.values())
                    all_of_them = whole or self.complete or time.monotonic() - self._whole > WHOLE_SECONDS
                if not parts and known.complete and not (whole and len(known.segments) > 1):
                    return known.version
                if known.version == manifest.NONE:
                    self._require_run()
                following = known.followed(parts, whole=all_of_them)
                with metrics.PUBLISH_SECONDS.time():
                    created = manifest.create(self._store, following)
                if not created:
                    continue
                metrics.MANIFESTS.inc()
                if len(following.segments) == 1:
                    self._whole = time.monotonic()
                self._follow(following)

    @property
    def version(self) -> int:
        """Version of the newest known manifest, or `manifest.NONE`."""
        with self._changed:
            return self._snapshot.version

    @property
    def unlisted(self) -> bool:
        """Whether the ledger has a part that the newest known manifest does not list."""
        with self._changed:
            return bool(self._unlisted) or not self._snapshot.complete

    @property
    def complete(self) -> bool:
        """Whether all models of the run are committed."""
        with self._changed:
            return self._committed == self.run.spec.models

    @property
    def _committed(self) -> int:
        return self._snapshot.committed + sum(len(part.models) for part in self._unlisted.values())

    def progress(self) -> CommittedModels:
        with self._changed:
            unlisted = self._unlisted.values()
            return CommittedModels(
                run=self.run.name,
                models=self.run.spec.models,
                committed=self._committed,
                failed=len(self._snapshot.failed) + sum(len(part.failed) for part in unlisted),
                ranges=merged([*self._snapshot.ranges, *(part.models for part in unlisted)]),
                manifest_version=self._snapshot.version,
            )

    def wait(self, seen: CommittedModels, active: Callable[[], bool], timeout: float) -> None:
        """Wait until progress differs from `seen`, `active` returns False, or `timeout` seconds have passed."""
        then = (seen.committed, seen.manifest_version)
        with self._changed:
            self._changed.wait_for(lambda: (self._committed, self._snapshot.version) != then or not active(), timeout)

    def wake(self) -> None:
        """Make all calls of `wait` call their `active` again."""
        with self._changed:
            self._changed.notify_all()

    def _read(self, models: range, key: str) -> Part:
        """Read the part that another writer committed. No manifest lists its checksum yet."""
        data = self._store.read_twice(key)
        try:
            outputs = part.decode(data, f"{self._store.url}/{key}", run=self.run.name, models=models, n=self.run.n)
        except CorruptObjectError as error:
            raise CorruptObjectError(
                f"{error}, or train its models again with `datamodels repair {self.run.name} --damaged`"
            ) from error
        return manifest.describe(outputs, key, data)

    def _require_run(self) -> None:
        """Raise RunNotFoundError if the run was deleted, and its parts with it."""
        if not self._store.exists(keys.run(self.run.name)):
            with self._changed:
                self._unlisted = {}
            raise RunNotFoundError(f"run {self.run.name}: was deleted from {self._store.url}")

    def _recover_merged(self) -> None:
        """Add merged parts that no manifest lists anymore, because manifests are gone: the largest first."""
        name = self.run.name
        pairs = ((key, keys.models_of(name, key)) for key in self._store.list(keys.merges(name)))
        found = [(key, models) for key, models in pairs if models is not None]
        for key, models in sorted(found, key=lambda pair: -len(pair[1])):
            with self._changed:
                taken = [*self._snapshot.parts, *self._unlisted.values()]
                retired = self._snapshot.retired
            overlaps = any(part.first < models.stop and models.start < part.last for part in taken)
            if not overlaps and not any(first in models for first in retired):
                self._add([self._read(models, key)])

    def _follow(self, snapshot: Snapshot) -> None:
        """Take over a newer manifest. It may retire parts, or list them as merged."""
        with self._changed:
            if snapshot.version <= self._snapshot.version:
                return
            self._snapshot = snapshot
            self._unlisted = {
                first: found
                for first, found in self._unlisted.items()
                if snapshot.find(first) is None and not self._is_retired(found)
            }
            self._changed.notify_all()

    def _is_retired(self, found: Part) -> bool:
        return not found.merged and found.key != self._snapshot.key(found.models)

    def _add(self, parts: Iterable[Part]) -> None:
        with self._changed:
            for found in parts:
                if self.get(found.models) is None and not self._is_retired(found):
                    self._unlisted[found.first] = found
            self._changed.notify_all()
