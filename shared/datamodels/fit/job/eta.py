"""How long some work will still take, judged by the pace of late."""

from __future__ import annotations

import collections

SURE = 0.01
"""Share of the work to be done before anything is said."""
MARK = 0.002
"""Share of the work between two looks at the clock that are remembered."""


class Eta:
    """Tell it how far the work is, now and then; it answers with the seconds that are left.

    The pace is that of the later half of what was seen done. What was done before the first call does not count: a fit
    that goes on from a checkpoint has not done that work today. Work that stands still makes the answer grow.
    """

    def __init__(self) -> None:
        self._marks: collections.deque[tuple[float, float]] = collections.deque()
        self._start = 0.0

    def reach(self, fraction: float, at: float) -> float | None:
        """Seconds left once `fraction` of the work, 0 to 1, is done at a time in seconds; None while it cannot tell."""
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
