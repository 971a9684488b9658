"""Long analyses: each computed once at a time, watched by whoever asked, stopped when nobody does, kept when final.

An operation is named by the object key of its answer. Asked for again, it answers from the store; while it is being
computed, the new caller joins; after a crash it is computed anew. Replicas of a service may compute the same answer
side by side: the first to write it wins, and both answers are good.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from prometheus_client import Counter

from datamodels.errors import CorruptObjectError, DatamodelsError, ObjectNotFoundError, UnavailableError
from datamodels.storage import ObjectStore, records
from datamodels.telemetry import logger
from datamodels.telemetry.metrics import start_at_zero

log = logger(__name__)

TELL_SECONDS = 0.1
"""Least time between two messages to one caller."""

OPERATIONS = Counter(
    "datamodels_query_operations_total",
    "Long analyses, by result: computed, read (from the store), cancelled or failed.",
    ["result"],
)
start_at_zero(OPERATIONS, "computed", "read", "cancelled", "failed")

Tell = Callable[[str, float], None]
"""Called between the steps of a computation with what is being done and the share that is done; what it raises stops
the computation."""


@dataclasses.dataclass(frozen=True)
class Progress:
    """
    stage     what is being done
    fraction  of the whole, 0 to 1
    """

    stage: str
    fraction: float


class _CancelledError(Exception):
    """Nobody waits for the answer any more."""


@dataclasses.dataclass(eq=False)
class _Operation:
    waiting: int = 0
    progress: Progress = Progress("waiting", 0.0)
    ended: bool = False
    answer: bytes = b""
    error: Exception | None = None


class Operations:
    """Computes answers in the background, at most `workers` at a time. Safe to use from any thread. `close` it."""

    def __init__(self, store: ObjectStore, *, workers: int = 1):
        self._store = store
        self._changed = threading.Condition()
        self._running: dict[str, _Operation] = {}
        self._closed = False
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="operation")

    def ask(
        self,
        key: str,
        compute: Callable[[Tell], bytes],
        *,
        final: bool,
        active: Callable[[], bool] = lambda: True,
    ) -> Iterator[Progress | bytes]:
        """How far the computation is, whenever that changes, and at last the answer.

        key     of the answer in the store
        final   whether the answer is kept, since it will always be the same
        active  asked on every change, and on `wake`; once it is false the iterator ends without an answer

        Closing the iterator leaves the operation; the last to leave cancels it at its next step. Raises what `compute`
        raises, UnavailableError once closed, CorruptObjectError for an answer in the store that was altered.
        """
        kept = self._kept(key)
        if kept is not None:
            OPERATIONS.labels("read").inc()
            yield kept
            return
        operation = self._join(key, compute, final)
        told = None
        try:
            while active() and not operation.ended:
                if operation.progress != told:
                    yield (told := operation.progress)
                    time.sleep(TELL_SECONDS)
                with self._changed:
                    self._changed.wait_for(
                        lambda: operation.ended or operation.progress != told or not active(), timeout=60
                    )
        finally:
            with self._changed:
                operation.waiting -= 1
                ended = operation.ended
        if not ended:
            return
        if operation.error is not None:
            raise operation.error
        yield operation.answer

    def wake(self) -> None:
        """Makes all callers ask whether they are still active."""
        with self._changed:
            self._changed.notify_all()

    def close(self) -> None:
        """Cancels what is being computed, and waits until it has stopped."""
        with self._changed:
            self._closed = True
        self._pool.shutdown(wait=True)

    def _kept(self, key: str) -> bytes | None:
        with contextlib.suppress(ObjectNotFoundError):
            body = records.read(self._store, key)
            try:
                return base64.b64decode(body["answer"], validate=True)
            except (TypeError, KeyError, ValueError) as error:
                raise CorruptObjectError(
                    f"{self._store.url}/{key}: is no answer of an analysis; delete it, it is computed again"
                ) from error
        return None

    def _join(self, key: str, compute: Callable[[Tell], bytes], final: bool) -> _Operation:
        with self._changed:
            if self._closed:
                raise UnavailableError("the service is stopping; ask again")
            operation = self._running.get(key)
            if operation is None:
                operation = self._running[key] = _Operation()
                self._pool.submit(self._work, key, operation, compute, final)
            operation.waiting += 1
            return operation

    def _work(self, key: str, operation: _Operation, compute: Callable[[Tell], bytes], final: bool):
        def tell(stage: str, fraction: float) -> None:
            with self._changed:
                if self._closed or not operation.waiting:
                    operation.error = UnavailableError("the service is stopping; ask again")
                    self._end(key, operation)  # whoever asks from now on starts anew
                    raise _CancelledError
                operation.progress = Progress(stage, fraction)
                self._changed.notify_all()

        started, result = time.monotonic(), "computed"
        try:
            tell("reading", 0.0)
            operation.answer = compute(tell)
            if final:
                records.create(self._store, key, {"answer": base64.b64encode(operation.answer).decode()})
        except _CancelledError:
            result = "cancelled"
        except Exception as error:  # noqa: BLE001 - whoever waits raises it
            operation.error, result = error, "failed"
        OPERATIONS.labels(result).inc()
        said = str(operation.error) if isinstance(operation.error, DatamodelsError) else None
        log.info("analysis ended", key=key, result=result, seconds=round(time.monotonic() - started, 3), error=said)
        with self._changed:
            self._end(key, operation)

    def _end(self, key: str, operation: _Operation) -> None:
        """With `_changed` held."""
        operation.ended = True
        if self._running.get(key) is operation:
            del self._running[key]
        self._changed.notify_all()
