"""Say which chunks of a Job a trainer takes: its index's share, and then what is left of the shares of others."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable

from datamodels.errors import SettingsError
from datamodels.settings import IndexedJobSettings


@dataclasses.dataclass(frozen=True)
class Shares:
    """Chunks that the indexes of a Job share. Each share is contiguous, and is trained from its front.

    chunks   in order
    indexes  how many share them
    index    whose trainer asks; one at or beyond `indexes` has no share of its own, and only helps
    """

    chunks: list[int]
    indexes: int = 1
    index: int = 0

    def own(self) -> list[int]:
        return self._of(self.index)

    def of_others(self, committed: Callable[[int], bool]) -> int | None:
        """Return a chunk from the share of another index, which that index will not reach soon; None if there is none.

        The larger what is left of a share, the likelier it is chosen, and then a chunk of its second half. The first
        chunk that is left is never chosen: its own trainer is at work on it, or is being started again.

        committed  returns whether a chunk is committed
        """
        left = [[c for c in self._of(i) if not committed(c)] for i in range(self.indexes) if i != self.index]
        left = [share for share in left if len(share) > 1]
        if not left:
            return None
        (share,) = random.choices(left, weights=[len(share) - 1 for share in left])
        return random.choice(share[(len(share) + 1) // 2 :])

    def _of(self, index: int) -> list[int]:
        total = len(self.chunks)
        return self.chunks[total * index // self.indexes : total * (index + 1) // self.indexes]


def parse(text: str | None, indexes: int, job: IndexedJobSettings, helps: bool = False) -> Shares:
    """Return the chunks that the arguments and the Job's index name. Raises SettingsError for none.

    text     chunks, such as "0-3,7"; None for the chunk that has the number of the index
    indexes  how many indexes of the Job share the chunks; 0 if they are all for this trainer
    helps    those indexes are another Job's, and this trainer only takes what they leave
    """
    index = job.completion_index
    if text is None or indexes:
        if index < 0:
            raise SettingsError("no chunks: give --chunks 0,1,2, or run in an Indexed Job (JOB_COMPLETION_INDEX)")
        if text is None:
            return Shares([index])
    chunks: list[int] = []
    for piece in text.split(","):
        first, dash, last = piece.partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise SettingsError(
                f"--chunks {text!r:.100}: must be numbers and ranges with commas between, such as 0-3,7"
            )
        chunks += range(int(first), int(last if dash else first) + 1)
    return Shares(chunks, indexes, index + indexes * helps) if indexes else Shares(chunks)
