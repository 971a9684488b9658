"""Whether a process that runs still makes progress, by the file that it touches with every step."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path


class Pulse:
    """The heartbeat of one process, from the moment this is made.

    path   the file; it need not be there yet
    limit  seconds without a beat after which the process counts as silent, its start included

    Beats are told apart by the file's time of change, and their age is measured by this process's own clock, which
    stands still while the machine sleeps: a laptop that wakes has not lost its trainers.
    """

    def __init__(self, path: Path, limit: float, clock: Callable[[], float] = time.monotonic):
        self.path = path
        self.limit = limit
        self._clock = clock
        self._last = self._beat()
        self._since = clock()

    def silent(self) -> bool:
        """Whether the last beat is longer ago than the limit. To be asked often."""
        last = self._beat()
        if last != self._last:
            self._last, self._since = last, self._clock()
        return self._clock() - self._since > self.limit

    def _beat(self) -> int:
        try:
            return self.path.stat().st_mtime_ns
        except OSError:
            return 0
