"""Estimate how long work will still take, from its recent pace."""

from __future__ import annotations

import collections

SURE = 0.01
"""Fraction of the work that has to be done before there is an estimate."""
MARK = 0.002
"""Fraction of the work between two times that are remembered."""


class Eta:
    """Estimates the seconds that are left from reports of the fraction that is done.

    The pace is that of the later half of the work since the first call. Work before that call does not count, because a
    fit that resumes from a checkpoint did it earlier. The estimate grows while no progress is reported.
    """

    def __init__(self) -> None:
        self._marks: collections.deque[tuple[float, float]] = collections.deque()
        self._start = 0.0

    def reach(self, fraction: float, at: float) -> float | None:
        """Return the seconds left if this fraction of the work, 0 to 1, is done at a time in seconds; None at first."""
        if not self._marks:
            self._start = fraction
        if not self._marks or fraction >= self._marks[-1][0] + MARK:
            self._marks.append((fraction, at))
        middle = (self._start + fraction) / 2
        while len(self._marks) > 1 and self._marks[1][0] <= middle:
            self._marks.popleft()
        since, then = self._marks[0]
        if fraction - self._start < SURE or fraction <= since or at <= then:
            return None
        return (1 - fraction) * (at - then) / (fraction - since)
