"""The local disk that a fit works on: shards and checkpoints, all of which can be made again."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from datamodels.errors import SettingsError, StoreFullError
from datamodels.settings import FitterSettings

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST}


@contextlib.contextmanager
def room(folder: Path) -> Iterator[None]:
    """Raises StoreFullError where the disk is full, SettingsError where the folder cannot be written to."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StoreFullError(f"{folder}: {error.strerror}; free some space, nothing committed is lost") from error
        if error.errno in _REFUSED:
            raise SettingsError(
                f"{folder}: {error.strerror}; set {FitterSettings.prefix}_SCRATCH to a folder to write to"
            ) from error
        raise


def flush(folder: Path) -> None:
    """Makes the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
