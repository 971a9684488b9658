"""Remember in a local file what a long command has done, so that it resumes there if it is killed."""

from __future__ import annotations

import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from datamodels.storage.records import digest


class Journal:
    """Remembers keys in a file: one line each. Safe to use from any thread.

    of  what the command works on; another command has another file

    A line that was cut off counts for nothing. Leaving without an error removes the file.
    """

    def __init__(self, folder: Path, of: object):
        self._path = folder / f"{digest(of)[:16]}.txt"
        self._lock = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)
        text = self._path.read_text(encoding="utf-8") if self._path.exists() else ""
        self.done = set(text.split("\n")[:-1])
        self._file = self._path.open("a", encoding="utf-8")
        if text and not text.endswith("\n"):
            self._file.write("\n")

    def add(self, key: str) -> int:
        """Remember a key, and return the number of keys."""
        with self._lock:
            self.done.add(key)
            self._file.write(f"{key}\n")
            self._file.flush()
            return len(self.done)

    def forget(self) -> None:
        """Begin anew."""
        with self._lock:
            self.done.clear()
            self._file.truncate(0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()
        if kind is None:
            self._path.unlink(missing_ok=True)
