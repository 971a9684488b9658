"""What a row of the torture is: something done many times, and what went wrong."""

from __future__ import annotations

import collections
import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

GRPC_FAULTS = ("UNKNOWN", "INTERNAL")
"""Codes that no call may end with: they mean that nobody has thought of the case."""


class Budget:
    """How long a row lasts: for some seconds, or for a number of rounds. Without seconds it is reproducible."""

    def __init__(self, seconds: float = float("inf"), rounds: int | None = None):
        self._ends = time.monotonic() + seconds
        self._rounds = rounds
        self.done = 0

    def __iter__(self):
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


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of the report.

    what  one line for the report
    run   does it in a folder, from a seed, until the budget is spent
    """

    what: str
    run: Callable[[Path, int, Budget], Result]
