"""Define the progress of a run's training."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class CommittedModels:
    """The models of a run that are committed.

    models            number of models that the run trains in all
    committed         number of committed models, including failed ones
    failed            number of committed models without outputs
    ranges            committed models, as ascending merged ranges
    manifest_version  version of the newest manifest, -1 if there is none
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
        """Return whether all of these models are committed."""
        return any(r.start <= models.start and models.stop <= r.stop for r in self.ranges)
