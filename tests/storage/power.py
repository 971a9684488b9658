"""A disk that loses power: it keeps what was flushed, and of everything else what chance decides.

As POSIX has it, flushing a file keeps its bytes, but not its name: names are kept by flushing the folder that has them,
and the folder's own name by flushing the one above.
"""

import contextlib
import os
import random
import stat
import tempfile
from pathlib import Path

import pytest

from datamodels.aggregate.committer import Committer
from datamodels.storage import disk as flushing
from datamodels.storage import keys, local
from datamodels.storage.local import LocalStore
from tests.helpers.protocol import check_invariants, make_run, outputs_maker, sub_chunks_of


class PowerLoss(BaseException):
    """The power fails. It is no Exception, so that no code handles it."""


class Disk:
    """Remembers what below a folder was flushed. The folder itself is there in any case.

    calls  how many calls of fsync succeed before the power fails at the next one; None if it does not fail in them
    """

    def __init__(self, top: Path, calls=None):
        self.top, self.calls = top, calls
        self._bytes: dict[int, bytes] = {}
        self._names: dict[int, dict[str, tuple[int, bool]]] = {}
        self._held: list[int] = []  # so that no number of a file is used again

    @contextlib.contextmanager
    def attached(self, patch):
        patch.setattr(os, "fsync", self.fsync)
        try:
            yield self
        finally:
            patch.undo()

    def fsync(self, descriptor):
        if self.calls == 0:
            raise PowerLoss
        self.calls = None if self.calls is None else self.calls - 1
        found = os.fstat(descriptor)
        self._held.append(os.dup(descriptor))
        if stat.S_ISDIR(found.st_mode):
            self._names[found.st_ino] = {e.name: (e.inode(), e.is_dir()) for e in os.scandir(descriptor)}
        else:
            self._bytes[found.st_ino] = Path(f"/proc/self/fd/{descriptor}").read_bytes()

    def restart(self, to: Path, chance):
        """Write to a folder what is on the disk when the power is back. `chance(n)` returns a number below n."""
        self._restore_folder(self.top, self.top.stat().st_ino, to, chance)
        for descriptor in self._held:
            os.close(descriptor)

    def _restore_folder(self, now, number, to, chance):
        kept = self._names.get(number, {})
        present = {} if now is None else {e.name: (e.inode(), e.is_dir()) for e in os.scandir(now)}
        for name in sorted(kept | present):
            states = [kept.get(name), present.get(name)]
            found = states[0] if states[0] == states[1] else states[chance(2)]
            if found is None:
                continue
            path = now / name if now is not None and found == present.get(name) else None
            if found[1]:
                (to / name).mkdir()
                self._restore_folder(path, found[0], to / name, chance)
            else:
                (to / name).write_bytes(self._restored(path, found[0], chance))

    def _restored(self, now, number, chance):
        kept = self._bytes.get(number)
        present = kept if now is None else now.read_bytes()
        if kept == present:
            return kept or b""
        return [kept or b"", present, present[: len(present) // 2], bytes(len(present))][chance(4)]


KEYS = ["a", "b/c", "b/d", "b/e/f", "g/h/i/j"]
ACTIONS = ["create", "create", "create", "delete", "open"]
MOST = 12
"""Most writes before the power fails."""


def lose(writes, calls, chance):
    """Write to a store until the power fails. Fails if the store is not as it must be when the power is back.

    writes  (action, key) in order; two processes share the store and take turns
    calls   as of `Disk`
    """
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        before, after = Path(folder, "before"), Path(folder, "after")
        before.mkdir()
        after.mkdir()
        disk, place = Disk(before, calls), Path("made", "store")
        told, unsure = dict.fromkeys(KEYS), []
        with disk.attached(patch):
            try:
                stores = [LocalStore(before / place) for _ in range(2)]
                for i, (action, key) in enumerate(writes):
                    data = b"object %d, " % i * 50
                    if action == "open":
                        stores[i % 2] = LocalStore(before / place)
                    elif action == "create":
                        unsure = [key, data] if told[key] is None else []
                        stores[i % 2].create(key, data)
                        told[key] = told[key] or data
                    else:
                        unsure = [key, None]
                        stores[i % 2].delete(key)
                        told[key] = None
                    unsure = []
            except PowerLoss:
                pass
        disk.restart(after, chance.randrange)
        store = LocalStore(after / place)
        for key, data in told.items():
            found = store.read(key) if store.exists(key) else None
            assert found == data or [key, found] == unsure, f"{key} was {data}, is {found}"
            assert store.create(key, b"later") is (found is None)


def once(chance: random.Random) -> None:
    """Lose power at a random time of random writes."""
    writes = [(chance.choice(ACTIONS), chance.choice(KEYS)) for _ in range(chance.randint(1, MOST))]
    lose(writes, chance.choice([None, *range(40)]), chance)


def commit_without_power(chance: random.Random) -> None:
    """Lose power at a random time while outputs are committed and published. All invariants must hold afterwards."""
    run, made = make_run(), []
    outputs = outputs_maker(run)
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        before, after = Path(folder, "before"), Path(folder, "after")
        before.mkdir()
        after.mkdir()
        disk, exists = Disk(before, chance.choice([None, *range(50)])), False
        with disk.attached(patch):
            try:
                committers = [Committer(LocalStore(before / "store")) for _ in range(2)]  # two processes take turns
                committers[0].create(run)
                exists = True
                for writer, models in enumerate(chance.choices(sub_chunks_of(run), k=10)):
                    sent = outputs(models, writer, failed=(models.start,) if chance.random() < 0.3 else ())
                    made.append((sent, committers[writer % 2].put(sent)))
                    if chance.random() < 0.3:
                        committers[writer % 2].publish(run.name)
            except PowerLoss:
                pass
        disk.restart(after, chance.randrange)
        store = LocalStore(after / "store")
        if exists or store.exists(keys.run(run.name)):
            Committer(store).publish(run.name)
            check_invariants(store, run, made)


def without_flushing_folders(patch):
    patch.setattr(flushing, "flush", lambda folder: None)


def without_flushing_bytes(patch):
    patch.setattr(local, "_sync", lambda descriptor: None)


def in_place(patch):
    patch.setattr(LocalStore, "_link", lambda self, temporary, path: not path.write_bytes(temporary.read_bytes()))


CONTROLS = {
    "does not flush folders": without_flushing_folders,
    "does not flush bytes": without_flushing_bytes,
    "writes in place": in_place,
}
"""Stores that lose what they acknowledged."""
