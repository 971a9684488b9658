"""Keep a server answering: threads for each method, an end for idle callers, and a check of what services depend on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent import futures

from datamodels.errors import one_line
from datamodels.rpc.context import CallContext
from datamodels.telemetry import logger

log = logger(__name__)

TICK_SECONDS = 0.25
"""How often the watchdog looks at the calls and checks."""
CROWDED_SECONDS = 5.0
"""How long a caller may be idle if its call is past its deadline, or if other calls wait for its thread."""
MAX_WAITING = 2000
"""Most calls of one method that wait for a thread; more are refused. A commit takes tens of milliseconds, so callers
further back in the queue would give up before their turn."""
CHECK_SECONDS = 5.0
"""Pause between two checks of what a service depends on. Each costs one small request to the store."""
ANSWER_SECONDS = 5.0
"""How long a check may take. Then it counts as failed until it ends."""


class Budget:
    """The threads of one method, and the calls that hold them.

    Each method has threads of its own, so that calls which wait for a store, or for their callers, never take the
    threads of health checks or of other methods.
    """

    def __init__(self, method: str, threads: int):
        self.pool = futures.ThreadPoolExecutor(threads, thread_name_prefix=method)
        self._method = method
        self._threads = threads
        self._lock = threading.Lock()
        self._calls: set[CallContext] = set()
        self._waiting = 0

    def expect(self) -> bool:
        """Count a call that will wait for a thread. Returns False if too many wait already."""
        with self._lock:
            accepted = self._waiting < MAX_WAITING
            self._waiting += accepted
        return accepted

    def begin(self, call: CallContext) -> None:
        """Note that an expected call has got its thread."""
        with self._lock:
            self._waiting -= 1
            self._calls.add(call)

    def end(self, call: CallContext) -> None:
        with self._lock:
            self._calls.discard(call)

    def end_idle(self, limit: float) -> None:
        """End the calls whose callers have been idle for `limit` seconds, or less if other calls need their threads."""
        with self._lock:
            calls = list(self._calls)
            crowded = self._waiting > 0 and len(calls) >= self._threads
        for call in calls:
            idle = call.idle_seconds()
            if idle >= limit or (idle >= CROWDED_SECONDS and (crowded or call.late())):
                log.warning("idle call ended", method=self._method, idle=round(idle, 1), peer=call.peer())
                call.expire()


class Readiness:
    """Checks again and again, in a thread of its own, whether what a service depends on answers.

    check  returns if it answers, and raises an error otherwise
    tell   called with True or False after the first check, and on every change
    pause  seconds between two checks
    limit  seconds after which a check counts as failed until it ends
    """

    def __init__(
        self,
        name: str,
        check: Callable[[], None],
        tell: Callable[[bool], None],
        *,
        pause: float = CHECK_SECONDS,
        limit: float = ANSWER_SECONDS,
    ):
        self._pause = pause
        self._limit = limit
        self._name = name
        self._check = check
        self._tell = tell
        self._lock = threading.Lock()
        self._asked: float | None = None
        self._ready: bool | None = None
        self._stopped = threading.Event()
        # A daemon, because a check of a store that hangs may take minutes.
        threading.Thread(target=self._follow, name="readiness", daemon=True).start()

    def look(self) -> None:
        """Tell that the service is not ready if the running check takes too long."""
        with self._lock:
            if self._asked is not None and time.monotonic() - self._asked >= self._limit:
                self._set(f"no answer within {self._limit:g} s")

    def close(self) -> None:
        self._stopped.set()

    def _follow(self) -> None:
        while not self._stopped.is_set():
            self._asked = time.monotonic()
            reason = ""
            try:
                self._check()
            except Exception as error:  # noqa: BLE001 - whatever it is, the service cannot work
                reason = one_line(error)
            with self._lock:
                self._asked = None
                self._set(reason)
            self._stopped.wait(self._pause)

    def _set(self, reason: str) -> None:
        """Tell about a change. The caller holds `_lock`."""
        ready = not reason
        if ready == self._ready:
            return
        if not ready:
            log.warning("not ready", service=self._name, reason=reason)
        elif self._ready is not None:
            log.info("ready again", service=self._name)
        self._ready = ready
        self._tell(ready)


class Watchdog:
    """One thread that looks at all budgets and checks of a server every TICK_SECONDS, while it is started.

    threads  most threads of each method
    idle     seconds after which an idle caller loses its call
    """

    def __init__(self, threads: int, idle: float):
        self._threads = threads
        self._idle = idle
        self._budgets: list[Budget] = []
        self._checks: list[Readiness] = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def budget(self, method: str) -> Budget:
        """Return new threads for a method."""
        found = Budget(method, self._threads)
        self._budgets.append(found)
        return found

    def follow(self, name: str, check: Callable[[], None], tell: Callable[[bool], None]) -> None:
        """Start to check what a service depends on; see `Readiness`."""
        self._checks.append(Readiness(name, check, tell))

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Stop looking, and let threads end when their calls end."""
        self._stopped.set()
        for check in self._checks:
            check.close()
        for budget in self._budgets:
            budget.pool.shutdown(wait=False)

    def _run(self) -> None:
        while not self._stopped.wait(TICK_SECONDS):
            for check in list(self._checks):
                check.look()
            for budget in list(self._budgets):
                budget.end_idle(self._idle)
