"""Admit outputs only while there is memory for them, so that the aggregator is never killed for what it accepts."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

from datamodels import machine
from datamodels.aggregate import metrics
from datamodels.errors import BusyError

FACTOR = 2.5
"""Memory of a sub-chunk from its first row to its commit, over the size of its outputs: the outputs, the encoded part,
and what encoding needs. Measured: 2.4 at 120 MiB, 2.1 at 460 MiB (tests/services/aggregator/test_memory.py)."""
UNCHECKED = 64 * 2**20
"""Bytes that are admitted in any case, so that small parts do not ask the system for its memory."""


class Room:
    """The memory that the outputs of sub-chunks take while they arrive and are committed. Safe to use from any thread.

    free  returns the bytes that this process may still take
    """

    def __init__(self, free: Callable[[], int] = machine.free_memory):
        self._free = free
        self._lock = threading.Lock()
        self._taken = 0

    @contextlib.contextmanager
    def reserved(self, run: str, models: range, size: int) -> Iterator[None]:
        """Hold room for outputs of `size` bytes while the body runs. Raises BusyError if there is not enough memory."""
        need = round(FACTOR * size)
        with self._lock:
            # Outputs that have arrived count twice, as taken and as not free: that errs on the safe side.
            if self._taken + need > UNCHECKED:
                free = self._free() - self._taken
                if need > free:
                    metrics.REFUSED.inc()
                    raise BusyError(
                        f"run {run}: models {models.start} to {models.stop} need {need / 2**20:.0f} MiB of memory, and "
                        f"the aggregator has {max(free, 0) / 2**20:.0f} MiB for them now; wait and send them again, or "
                        "give it more memory"
                    )
            self._taken += need
        try:
            yield
        finally:
            with self._lock:
                self._taken -= need
