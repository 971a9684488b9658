"""How far a run's training has come."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Progress:
    """Which models of a run are committed.

    models            of the run, to train in all
    committed         the failed ones included
    ranges            committed models: ascending ranges, merged
    manifest_version  the newest manifest, -1 where there is none
    """

    run: str
    models: int
    committed: int
    failed: int
    ranges: list[range]
    manifest_version: int

    @property
    def complete(self) -> bool:
        return self.committed == self.models

    def covers(self, models: range) -> bool:
        """Whether all of these models are committed."""
        return any(r.start <= models.start and models.stop <= r.stop for r in self.ranges)
