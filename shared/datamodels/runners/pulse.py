"""Detect whether a running process still makes progress, by the file that it touches with every step."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path


class Pulse:
    """The heartbeat of one process, watched from the creation of this object.

    path   file that the process touches; it need not exist yet
    limit  seconds without a beat, counted from the start, after which the process counts as silent

    A beat is a change of the file's modification time. The time since a beat is measured by this process's monotonic
    clock. That clock stops while the machine sleeps, so a laptop that wakes up does not lose its trainers.
    """

    def __init__(self, path: Path, limit: float, clock: Callable[[], float] = time.monotonic):
        self.path = path
        self.limit = limit
        self._clock = clock
        self._last = self._beat()
        self._since = clock()

    def silent(self) -> bool:
        """Return whether the last beat is longer ago than the limit. Call it often: it dates beats by its own calls."""
        last = self._beat()
        if last != self._last:
            self._last, self._since = last, self._clock()
        return self._clock() - self._since > self.limit

    def _beat(self) -> int:
        try:
            return self.path.stat().st_mtime_ns
        except OSError:
            return 0
