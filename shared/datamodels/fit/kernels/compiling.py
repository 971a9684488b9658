"""Tell whoever waits for a fit that its loops are being compiled.

numba compiles a loop when it is first called, which takes seconds, and keeps the code on disk. So the first fit of an
installation seems to hang. This module imports no numba: fits that compile nothing do not need it.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

WORDS = "compiling loops, once per installation"
"""What is going on, for people."""

_lock = threading.Lock()
_waiting: list[Callable[[], None]] = []


@contextlib.contextmanager
def announced(tell: Callable[[], None]) -> Iterator[None]:
    """Call `tell` once, from any thread, as soon as a loop is compiled within this context, in whichever thread."""
    with _lock:
        _waiting.append(tell)
    try:
        yield
    finally:
        with _lock, contextlib.suppress(ValueError):
            _waiting.remove(tell)


def begins() -> None:
    """Say that a loop is being compiled."""
    with _lock:
        told, _waiting[:] = list(_waiting), []
    for tell in told:
        tell()
