"""Read and write rows that lie side by side in several files, with checksums.

The checksum is CRC-32: zlib computes it as fast as a disk reads (3 GB/s on one core), so that it can stay on. It finds
all errors of up to 32 neighbouring bits, and others but for one in 4 billion.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Self

PIECE = 2**20
"""Bytes that are read and checked at a time: what stays in the caches of a core."""


def checksums(contents: Sequence[bytes]) -> tuple[int, ...]:
    """Return the checksums of the bytes of some rows in each file, as `RowFiles.checksums` returns them."""
    return tuple(map(zlib.crc32, contents))


class RowFiles:
    """Open files of a folder that hold rows side by side, to read and write some of the rows.

    row_bytes  bytes of a row in the file of each name; files that do not exist are made
    """

    def __init__(self, folder: Path, row_bytes: Mapping[str, int]):
        self._row_bytes = tuple(row_bytes.values())
        self._names = tuple(row_bytes)
        self._files: list[int] = []
        try:
            for name in row_bytes:
                self._files.append(os.open(folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666))
        except BaseException:
            self._close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._close()

    def _close(self) -> None:
        for file in self._files:
            os.close(file)

    def write(self, first: int, contents: Sequence[bytes]) -> None:
        """Write rows from row `first` on: their bytes in each file."""
        for file, width, data in zip(self._files, self._row_bytes, contents, strict=True):
            view, place = memoryview(data), first * width
            while view:
                done = os.pwrite(file, view, place)
                view, place = view[done:], place + done

    def end(self, count: int) -> None:
        """Cut off whatever follows the first `count` rows, and make these durable."""
        for file, width in zip(self._files, self._row_bytes, strict=True):
            os.ftruncate(file, count * width)
            os.fsync(file)

    def checksums(self, first: int, count: int, names: Collection[str] | None = None) -> tuple[int, ...]:
        """Return the checksums of `count` rows from row `first` on, as the disk has them; () if it cannot read them.

        names  only of the files with these names; None for all
        """
        try:
            found = []
            for name, file, width in zip(self._names, self._files, self._row_bytes, strict=True):
                if names is None or name in names:
                    found.append(_checksum(file, first * width, (first + count) * width))
            return tuple(found)
        except OSError:
            return ()


def _checksum(file: int, start: int, stop: int) -> int:
    """Return the checksum of some bytes of a file; of fewer if the file is shorter."""
    buffer = memoryview(bytearray(min(PIECE, stop - start)))
    crc = 0
    while start < stop:
        done = os.preadv(file, [buffer[: stop - start]], start)
        if not done:
            break
        crc = zlib.crc32(buffer[:done], crc)
        start += done
    return crc
