"""What a row of the torture is: something done many times, and what went wrong."""

from __future__ import annotations

import collections
import dataclasses
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

GRPC_FAULTS = ("UNKNOWN", "INTERNAL")
"""Codes that no call may end with: they mean that nobody has thought of the case."""


class Budget:
    """How long a row lasts: for some seconds, or for a number of rounds. Without seconds it is reproducible.

    done  rounds that have begun, among them those of an earlier process; see `Result.resume`
    """

    def __init__(self, seconds: float = float("inf"), rounds: int | None = None):
        self._ends = time.monotonic() + seconds
        self._rounds = rounds
        self.done = 0

    def __iter__(self) -> Iterator[int]:
        while time.monotonic() < self._ends and (self._rounds is None or self.done < self._rounds):
            self.done += 1
            yield self.done


@dataclasses.dataclass
class Result:
    """What a row has done and found.

    outcomes  how often each thing happened
    faults    what must not happen, with all that is needed to repeat it
    figures   measured values, such as memory
    """

    outcomes: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    faults: list[str] = dataclasses.field(default_factory=list)
    figures: dict[str, str] = dataclasses.field(default_factory=dict)

    @classmethod
    def resume(cls, folder: Path, seed: int, budget: Budget) -> Self:
        """Return what an earlier process has kept in a folder, and let the budget go on from there."""
        file = folder / f"result-{seed}.json"
        if not file.exists():
            return cls()
        kept = json.loads(file.read_text())
        budget.done = kept["done"]
        return cls(collections.Counter(kept["outcomes"]), kept["faults"])

    def keep(self, folder: Path, seed: int, budget: Budget) -> None:
        """Keep the result of all rounds so far in a folder, for `resume`."""
        file = folder / f"result-{seed}.json"
        kept: dict[str, Any] = {"done": budget.done, "outcomes": self.outcomes, "faults": self.faults}
        file.with_suffix(".new").write_text(json.dumps(kept))
        os.replace(file.with_suffix(".new"), file)


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of the report.

    what  one line for the report
    run   does it in a folder, from a seed, until the budget is spent
    """

    what: str
    run: Callable[[Path, int, Budget], Result]
