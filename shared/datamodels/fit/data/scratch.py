"""Manage the local disk that a fit works on. It holds shards, sums and checkpoints, all of which can be made again."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from datamodels.errors import SettingsError, StoreFullError
from datamodels.settings import FitterSettings
from datamodels.storage import disk

_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST}

LOCK_SECONDS = 0.2
"""Seconds between checks of a lock that another process holds."""


@contextlib.contextmanager
def room(folder: Path) -> Iterator[None]:
    """Raise StoreFullError if the disk is full, SettingsError if the folder cannot be written to."""
    try:
        yield
    except OSError as error:
        if error.errno in disk.FULL:
            raise StoreFullError(f"{folder}: {error.strerror}; free some space, nothing committed is lost") from error
        if error.errno in _REFUSED:
            raise SettingsError(
                f"{folder}: {error.strerror}; set {FitterSettings.prefix}_SCRATCH to a folder to write to"
            ) from error
        raise


@contextlib.contextmanager
def alone(folder: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Lock a folder against other processes while the body runs. If a process dies, its lock is released.

    `waiting` is called from time to time while another process holds the lock; what it raises ends the wait.
    """
    with room(folder):
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _require_own(folder.parent)
        lock = open(folder.with_name(f"{folder.name}.lock"), "wb")  # noqa: SIM115 - closed below
    with lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                waiting()
                time.sleep(LOCK_SECONDS)
        yield


def _require_own(folder: Path) -> None:
    """Raise SettingsError if another user made the folder where anyone can, as in /tmp: they could alter its files."""
    anyone = folder.parent.stat().st_mode & stat.S_IWOTH
    if anyone and folder.stat().st_uid not in (0, os.getuid()):
        raise SettingsError(
            f"{folder}: belongs to another user, who could alter fits; set {FitterSettings.prefix}_SCRATCH to a folder "
            "of your own"
        )


def mapped(folder: Path, shape: tuple[int, int], dtype: np.dtype) -> np.ndarray:
    """Return zeros in an unnamed file of the folder, which is made if needed: the system may swap them out to it.

    The file is removed with the array. All of its space is allocated at once, so that a full disk raises StoreFullError
    here and not a memory fault later.
    """
    size = int(np.prod(shape)) * dtype.itemsize
    if not size:
        return np.zeros(shape, dtype=dtype)
    with room(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            os.posix_fallocate(file.fileno(), 0, size)
            return np.asarray(np.memmap(file, dtype=dtype, mode="r+", shape=shape))


def shrink(root: Path, most: int, ours: Path) -> None:
    """Remove folders of runs, those that were used longest ago first, until all take at most `most` bytes.

    `ours` is locked by the caller, and is removed last. Folders that other processes have locked stay.
    """
    found = sorted((path for path in root.iterdir() if path.is_dir() and path != ours), key=_used)
    sizes = {path: size(path) for path in [*found, ours]}
    for path in [*found, ours]:
        if sum(sizes.values()) <= most:
            return
        if path == ours:
            shutil.rmtree(path, ignore_errors=True)
            return
        with contextlib.suppress(_Busy), alone(path, _leave):
            shutil.rmtree(path, ignore_errors=True)
            del sizes[path]


class _Busy(Exception):
    pass


def _leave() -> None:
    raise _Busy


def _used(path: Path) -> float:
    with contextlib.suppress(FileNotFoundError):  # another fitter may shrink the folder as well
        return path.stat().st_mtime
    return 0.0


def size(path: Path) -> int:
    """Return the bytes of all files below a folder; 0 if it does not exist."""
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += os.stat(os.path.join(folder, name)).st_size
    return total
