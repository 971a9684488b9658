"""What a servicer is given for a call: gRPC's own context, and the server's limits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn

import grpc

from datamodels.errors import DeadlineError, UnavailableError


class Watches:
    """The calls that last until something ends them, so that a server that stops can."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wakes: set[Callable[[], None]] = set()
        self.ended = False

    def add(self, wake: Callable[[], None]) -> None:
        with self._lock:
            self._wakes.add(wake)
            ended = self.ended
        if ended:
            wake()

    def remove(self, wake: Callable[[], None]) -> None:
        with self._lock:
            self._wakes.discard(wake)

    def end(self) -> None:
        with self._lock:
            self.ended = True
            wakes = list(self._wakes)
        for wake in wakes:
            wake()


class CallContext:
    """A grpc.ServicerContext whose deadline is never later than the server allows.

    A servicer that streams until something changes calls `watch` first. One that works for long asks `is_active` now
    and then, and returns when it is false.
    """

    def __init__(self, context: grpc.ServicerContext, limit: float, watches: Watches):
        """`limit` is in seconds from now."""
        self._context = context
        self._ends = time.monotonic() + limit
        remaining = context.time_remaining()
        # A caller whose deadline passes cancels the call, a moment before the deadline passes here: gRPC rounds it up
        # on its way, by at most 1%.
        self._late = None if remaining is None else time.monotonic() + 0.99 * remaining - 0.05
        self._watches = watches
        self._stopped = False
        self.aborted: grpc.StatusCode | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def time_remaining(self) -> float:
        """Seconds until the deadline, the caller's or the server's, whichever is sooner."""
        remaining = self._context.time_remaining()
        limit = max(0.0, self._ends - time.monotonic())
        return limit if remaining is None else min(remaining, limit)

    def is_active(self) -> bool:
        """False once the caller is gone or the deadline has passed; for a watch, also once the server stops."""
        return self._context.is_active() and time.monotonic() < self._ends and not self._stopped

    def watch(self, wake: Callable[[], None]) -> None:
        """Makes this call a watch: `wake` is called from another thread whenever `is_active` may have become false.

        `wake` must be quick: an Event's `set`, or a Condition's `notify_all` with its lock held shortly.
        """

        def stop() -> None:
            self._stopped = True
            wake()

        timer = threading.Timer(self.time_remaining(), wake)
        timer.daemon = True
        timer.start()

        def release() -> None:
            timer.cancel()
            self._watches.remove(stop)
            wake()

        self._watches.add(stop)
        if not self._context.add_callback(release):  # it has ended already
            release()

    def ending(self) -> grpc.StatusCode | None:
        """CANCELLED or DEADLINE_EXCEEDED where the caller has ended this call, else None."""
        if self._context.is_active():
            return None
        late = self._late is not None and time.monotonic() >= self._late
        return grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.CANCELLED

    def check(self) -> None:
        """Raises DeadlineError or UnavailableError where the server has ended this call."""
        if time.monotonic() >= self._ends:
            raise DeadlineError("the call took longer than the server allows; ask for less, or give it a deadline")
        if self._stopped:
            raise UnavailableError("the server is stopping; call again")

    def abort(self, code: grpc.StatusCode, details: str) -> NoReturn:
        self.aborted = code
        self._context.abort(code, details)

    def abort_with_status(self, status: grpc.Status) -> NoReturn:
        self.aborted = status.code
        self._context.abort_with_status(status)
