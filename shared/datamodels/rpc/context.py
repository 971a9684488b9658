"""Extend the context that servicers get for each call by the server's limits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn

import grpc

from datamodels.errors import DeadlineError, UnavailableError
from datamodels.rpc.access import Entry


class Watches:
    """Calls that run until something ends them. A server that stops ends them all."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wakes: set[Callable[[], None]] = set()
        self.ended = False

    def add(self, wake: Callable[[], None]) -> None:
        """Register the function that wakes a call. Calls it at once if the server has stopped."""
        with self._lock:
            self._wakes.add(wake)
            ended = self.ended
        if ended:
            wake()

    def remove(self, wake: Callable[[], None]) -> None:
        with self._lock:
            self._wakes.discard(wake)

    def end(self) -> None:
        """Wake all registered calls, and those that are registered later."""
        with self._lock:
            self.ended = True
            wakes = list(self._wakes)
        for wake in wakes:
            wake()


class CallContext:
    """Wraps a grpc.ServicerContext and limits its deadline to what the server allows.

    A servicer that streams changes as they happen calls `watch` first. A servicer that works for a long time calls
    `is_active` regularly, and returns when it is False.
    """

    def __init__(self, context: grpc.ServicerContext, limit: float, watches: Watches):
        """Set the deadline to `limit` seconds from now, or to that of `context` if it is sooner."""
        self._context = context
        self._ends = time.monotonic() + limit
        remaining = context.time_remaining()
        # A caller cancels its call when its deadline passes. That is shortly before the deadline passes here, because
        # gRPC rounds the transmitted deadline up, by at most 1%.
        self._late = None if remaining is None else time.monotonic() + 0.99 * remaining - 0.05
        self._watches = watches
        self._stopped = False
        self._idle_since: float | None = None
        self._expired = False
        self.aborted: grpc.StatusCode | None = None
        self.entry: Entry | None = None
        """Who makes this call, if that is checked or recorded."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def time_remaining(self) -> float:
        """Return the seconds until the deadline of the caller or of the server, whichever is sooner."""
        remaining = self._context.time_remaining()
        limit = max(0.0, self._ends - time.monotonic())
        return limit if remaining is None else min(remaining, limit)

    def is_active(self) -> bool:
        """Return False once the caller is gone, the deadline has passed, or, for a watch, the server stops."""
        return self._context.is_active() and time.monotonic() < self._ends and not self._stopped

    def watch(self, wake: Callable[[], None]) -> None:
        """Make this call a watch: another thread calls `wake` whenever `is_active` may have become False.

        `wake` must return quickly, such as an Event's `set`, or a Condition's `notify_all` if its lock is never held
        for long.
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
        if not self._context.add_callback(release):  # the call has already ended
            release()

    def await_caller(self) -> None:
        """Note that the call now waits for its caller: to send a message, or to take one."""
        self._idle_since = time.monotonic()

    def resume(self) -> None:
        """Note that the caller has done its part."""
        self._idle_since = None

    def idle_seconds(self) -> float:
        """Return for how long the call has been waiting for its caller; 0 if it does not wait."""
        since = self._idle_since
        return 0.0 if since is None else time.monotonic() - since

    def late(self) -> bool:
        """Return whether the deadline of the server has passed."""
        return time.monotonic() >= self._ends

    def expire(self) -> None:
        """End a call whose caller is idle, from any thread.

        The caller sees CANCELLED: gRPC sends another status only from the call's own thread, which is waiting.
        """
        self._expired = True
        self._context.cancel()

    def ending(self) -> grpc.StatusCode | None:
        """Return CANCELLED or DEADLINE_EXCEEDED if the call has been ended from outside, else None."""
        if self._expired:
            return grpc.StatusCode.DEADLINE_EXCEEDED
        if self._context.is_active():
            return None
        late = self._late is not None and time.monotonic() >= self._late
        return grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.CANCELLED

    def check(self) -> None:
        """Raise DeadlineError or UnavailableError if the server has ended this call."""
        if self.late():
            raise DeadlineError("the call took longer than the server allows; ask for less, or give it a deadline")
        if self._stopped:
            raise UnavailableError("the server is stopping; call again")

    def abort(self, code: grpc.StatusCode, details: str) -> NoReturn:
        self.aborted = code
        self._context.abort(code, details)

    def abort_with_status(self, status: grpc.Status) -> NoReturn:
        self.aborted = status.code
        self._context.abort_with_status(status)
