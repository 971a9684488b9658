"""The local disk that a fit works on: shards and checkpoints, all of which can be made again."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from datamodels import disk
from datamodels.errors import SettingsError, StoreFullError
from datamodels.settings import FitterSettings

_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST}

LOCK_SECONDS = 0.2
"""Between looks at a lock that another process holds."""


@contextlib.contextmanager
def room(folder: Path) -> Iterator[None]:
    """Raises StoreFullError where the disk is full, SettingsError where the folder cannot be written to."""
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
    """Keeps other processes out of a folder while the body runs; one that dies keeps nobody out.

    `waiting` is called now and then while another one is in there; what it raises ends the wait.
    """
    with room(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
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
