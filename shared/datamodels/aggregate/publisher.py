"""Publish manifests in a thread of its own, so that commits need not wait for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable

from datamodels.aggregate import metrics
from datamodels.aggregate.ledger import Ledger
from datamodels.errors import DatamodelsError
from datamodels.telemetry import logger

log = logger(__name__)


class Publisher:
    """Publishes each run at most once per `interval` seconds, and at once when it is complete.

    `ledgers` returns the ledgers of all open runs. Call `wake` after one of them may have changed.
    """

    def __init__(self, ledgers: Callable[[], Iterable[Ledger]], interval: float):
        self._ledgers = ledgers
        self._interval = interval
        self._tried: dict[str, float] = {}
        self._changed = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        self._changed.set()

    def close(self) -> None:
        """Publish what is left and end the thread."""
        self._closing = True
        self._changed.set()
        self._thread.join()

    def _run(self) -> None:
        wait = None
        while not self._closing:
            self._changed.wait(wait)
            self._changed.clear()
            wait = self._publish_due()

    def _publish_due(self) -> float | None:
        """Publish all runs that are due. Returns the seconds until the next is due, or None if none is waiting."""
        waits = []
        for ledger in [ledger for ledger in self._ledgers() if ledger.unlisted]:
            due = self._tried.get(ledger.run.name, float("-inf")) + self._interval - time.monotonic()
            if due > 0 and not ledger.complete and not self._closing:
                waits.append(due)
            elif not self._publish(ledger):
                waits.append(max(self._interval, 0.1))
        return min(waits, default=None)

    def _publish(self, ledger: Ledger) -> bool:
        self._tried[ledger.run.name] = time.monotonic()
        try:
            ledger.publish()
        except DatamodelsError as error:
            # The parts are durable, and the next manifest lists them.
            metrics.PUBLISH_FAILURES.inc()
            log.warning("manifest not published", run=ledger.run.name, reason=str(error))
            return False
        return True
