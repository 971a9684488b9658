"""Store objects in a local folder.

An object is written to a temporary file, flushed to the disk, and then linked to its name. `link` fails if the name is
taken, so exactly one of many writers wins, and a name never refers to a partial object.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from datamodels.errors import (
    NotFoundError,
    ObjectNotFoundError,
    SettingsError,
    StoreError,
    StoreFullError,
    StoreUnavailableError,
    StoreUnsafeError,
)
from datamodels.storage import disk
from datamodels.storage.base import Entry, ObjectStore, check_key

_ABSENT = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR}
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
_FULL_SYNC = getattr(fcntl, "F_FULLFSYNC", None)
"""Used instead of fsync on macOS, whose fsync leaves data in the drive's cache."""


class LocalStore(ObjectStore):
    """Stores objects as files below a folder. Any number of processes may share it.

    folder  where the files are
    create  create the folder if it does not exist; readers say False, so that a mistyped path creates nothing

    Raises NotFoundError if the folder does not exist and may not be created, SettingsError if it cannot be used.
    """

    YOUNG = 60
    """Seconds since the last write to a temporary file during which it is never removed."""
    STALE = 24 * 3600
    """Seconds after which a temporary file is removed if the file system has no locks to tell if its writer lives."""
    SWEEP_SECONDS = 3600
    """Seconds between two searches for temporary files of writers that were killed."""

    def __init__(self, folder: str | os.PathLike[str], *, create: bool = True):
        self._root = Path(folder).absolute()
        self._temporary = self._root / ".tmp"  # no key has a hidden part
        self._durable: set[Path] = set()
        self._swept = float("-inf")
        self.url = f"file://{self._root}"
        try:
            if create:
                self._temporary.mkdir(parents=True, exist_ok=True)
                self._sweep()
            # A store that was copied without its hidden folder can be read, too.
            self._mark = self._temporary if self._temporary.is_dir() else self._root
            found = self._mark.is_dir()
        except OSError as error:
            raise SettingsError(f"{self.url}: cannot be used as a store: {error.strerror}") from error
        if not found:
            raise NotFoundError(f"{self.url}: no such folder, so no runs; `datamodels run` creates a store")

    def is_same(self, other: ObjectStore) -> bool:
        return isinstance(other, LocalStore) and os.path.samefile(self._root, other._root)  # by whatever name

    def create(self, key: str, data: bytes) -> bool:
        path = self._path(key)
        temporary = self._temporary / uuid.uuid4().hex
        try:
            try:
                if self._mark == self._root:
                    self._temporary.mkdir(exist_ok=True)
                self._make_folder(path.parent)
                if time.monotonic() - self._swept > self.SWEEP_SECONDS:
                    self._sweep()
                _write(temporary, data)
                created = self._link(temporary, path)
                # The loser flushes too, because its caller may rely on the object being durable.
                disk.flush(path.parent)
            finally:
                temporary.unlink(missing_ok=True)
        except OSError as error:
            self._durable.clear()
            raise self._translated(error, key) from error
        return created

    def _link(self, temporary: Path, path: Path) -> bool:
        try:
            os.link(temporary, path)
        except FileExistsError:
            # A network file system may create the link, lose its answer and repeat the request, which then fails.
            return os.path.samefile(temporary, path)
        except OSError as error:
            if error.errno in _NO_LINKS:
                raise StoreUnsafeError(
                    f"{self.url}: its file system has no hard links ({error.strerror}), without which two writers "
                    "could both win; use a folder on another file system"
                ) from error
            raise
        return True

    def read(self, key: str) -> bytes:
        path = self._path(key)
        try:
            return path.read_bytes()
        except OSError as error:
            if error.errno not in _ABSENT:
                raise self._translated(error, key) from error
            self._check_root()
            raise ObjectNotFoundError(f"{self.url}/{key}: the object does not exist") from None

    def reread(self, key: str) -> bytes:
        """Return what the disk has, not what the system keeps of it in memory, as far as the system can be told."""
        if hasattr(os, "posix_fadvise"):
            with contextlib.suppress(OSError), self._path(key).open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return self.read(key)

    def exists(self, key: str) -> bool:
        path = self._path(key)
        try:
            return stat.S_ISREG(path.stat().st_mode)
        except OSError as error:
            if error.errno not in _ABSENT:
                raise self._translated(error, key) from error
            self._check_root()
            return False

    def entries(self, prefix: str, *, after: str = "", deep: bool = True) -> Iterator[Entry]:
        folder = prefix.rpartition("/")[0]
        start = self._path(folder) if folder else self._root
        self._check_root()
        for key, path in self._walk(start, f"{folder}/" if folder else "", prefix, after, deep):
            try:
                found = path.stat()
            except OSError as error:
                if error.errno not in _ABSENT:
                    raise self._translated(error, key) from error
                continue  # deleted since
            yield Entry(key, found.st_size, found.st_mtime)

    def list(self, prefix: str, *, after: str = "", deep: bool = True) -> Iterator[str]:
        folder = prefix.rpartition("/")[0]
        start = self._path(folder) if folder else self._root
        self._check_root()
        return (key for key, _ in self._walk(start, f"{folder}/" if folder else "", prefix, after, deep))

    def _walk(self, folder: Path, base: str, prefix: str, after: str, deep: bool) -> Iterator[tuple[str, Path]]:
        """Yield (key, path) of the files below a folder, ascending. A folder sorts as its name with a slash.

        base  what the keys of its files begin with
        """
        try:
            with os.scandir(folder) as entries:
                found = [base + e.name + "/" * e.is_dir() for e in entries if not e.name.startswith(".")]
        except OSError as error:
            if error.errno in _ABSENT:
                return
            raise self._translated(error, base) from error
        for name in sorted(found):
            if name.endswith("/"):
                if deep and name.startswith(prefix[: len(name)]) and (name > after or after.startswith(name)):
                    yield from self._walk(self._root / name, name, prefix, after, deep)
            elif name.startswith(prefix) and name > after:
                yield name, self._root / name

    def delete(self, key: str) -> None:
        path = self._path(key)
        try:
            path.unlink()
            disk.flush(path.parent)
        except OSError as error:
            if error.errno not in _ABSENT:
                raise self._translated(error, key) from error
            self._check_root()

    def _path(self, key: str) -> Path:
        return self._root / check_key(key)

    def _make_folder(self, folder: Path) -> None:
        """Create a folder and its parents, durably. Never creates the root, because its disk may be unmounted."""
        if folder in self._durable:
            return
        if folder == self._root:
            for above in folder.parents:  # the store's own folder, and those above, may be as new as the object
                with contextlib.suppress(OSError):  # others' folders, which this process may not open
                    disk.flush(above)
        else:
            self._make_folder(folder.parent)
            folder.mkdir(exist_ok=True)
            disk.flush(folder.parent)  # even if another writer created it: that writer may not have flushed yet
        self._durable.add(folder)

    def _sweep(self) -> None:
        """Remove the temporary files of writers that were killed. Living writers hold a lock on theirs."""
        self._swept, now = time.monotonic(), time.time()
        with os.scandir(self._temporary) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):  # its writer has just removed it
                    age = now - entry.stat(follow_symlinks=False).st_mtime
                    if age > self.YOUNG and _is_dead(entry.path, without_locks=age > self.STALE):
                        os.unlink(entry.path)

    def _check_root(self) -> None:
        if not self._mark.is_dir():
            raise StoreUnavailableError(f"{self.url}: the folder is gone; mount or restore it")

    def _translated(self, error: OSError, key: str) -> StoreError:
        if error.errno in disk.FULL:
            return StoreFullError(f"{self.url}/{key}: {error.strerror}; free some space, nothing of it was kept")
        return StoreUnavailableError(f"{self.url}/{key}: {error.strerror}")


def _write(path: Path, data: bytes) -> None:
    """Write a new file and flush it to the disk. It is locked meanwhile, if the file system has locks."""
    with path.open("xb") as file:
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        file.write(data)
        file.flush()
        _sync(file.fileno())


def _is_dead(path: str, *, without_locks: bool) -> bool:
    """Return whether no writer has a file locked; `without_locks` if the file system has no locks."""
    with open(path, "r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            return without_locks
    return True


def _sync(descriptor: int) -> None:
    if _FULL_SYNC is None:
        os.fsync(descriptor)
    else:
        fcntl.fcntl(descriptor, _FULL_SYNC)
