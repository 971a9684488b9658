"""Compute long analyses in the background, share them between callers, and store them if they are final.

An operation is identified by the object key of its answer. If the store has the answer, it is read from there. If the
operation is running, a new caller joins it. Otherwise the operation starts, also after a crash. It is cancelled when
its last caller leaves. Replicas of a service may compute the same answer at the same time: the first to write it wins,
and both answers are valid.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import ThreadPoolExecutor

from prometheus_client import Counter

from datamodels.errors import CorruptObjectError, DatamodelsError, ObjectNotFoundError, UnavailableError
from datamodels.query.cache import Cache
from datamodels.storage import ObjectStore, records
from datamodels.telemetry import carried, logger
from datamodels.telemetry.metrics import start_at_zero

log = logger(__name__)

TELL_SECONDS = 0.1
"""Shortest time between two messages to one caller, in seconds."""

OPERATIONS = Counter(
    "datamodels_query_operations_total",
    "Long analyses, by result: computed, read (from the store or memory), cancelled or failed.",
    ["result"],
)
start_at_zero(OPERATIONS, "computed", "read", "cancelled", "failed")

MEMORY_BYTES = 64 * 2**20
"""Size of the answers that are kept in memory: a map of 60,000 targets takes .5 MB."""

Tell = Callable[[str, float], None]
"""A computation calls this between its steps with the current stage and the fraction that is done, 0 to 1. An error
that it raises stops the computation."""


@dataclasses.dataclass(frozen=True)
class OperationProgress:
    """Progress of an operation.

    stage     name of the current stage
    fraction  of the work that is done, 0 to 1
    """

    stage: str
    fraction: float


class _CancelledError(Exception):
    """Nobody waits for the answer anymore."""


@dataclasses.dataclass(eq=False)
class _Operation:
    waiting: int = 0
    progress: OperationProgress = OperationProgress("waiting", 0.0)
    ended: bool = False
    answer: bytes = b""
    error: Exception | None = None


class Operations:
    """Computes answers in the background, at most `workers` at a time. Safe to use from any thread.

    Call `close` at the end.
    """

    def __init__(self, store: ObjectStore, *, workers: int = 1):
        self._store = store
        self._changed = threading.Condition()
        self._running: dict[str, _Operation] = {}
        self._memory: Cache[tuple[str, Hashable], bytes] = Cache(MEMORY_BYTES)
        self._closed = False
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="operation")

    def ask(
        self,
        key: str,
        compute: Callable[[Tell], bytes],
        *,
        final: bool,
        basis: Hashable = None,
        active: Callable[[], bool] = lambda: True,
    ) -> Iterator[OperationProgress | bytes]:
        """Yield the progress of an operation whenever it changes, and finally the answer.

        key      of the answer in the store
        compute  computes the answer; called only if the store has no answer and the operation is not running
        final    whether to store the answer, because it will never change
        basis    what the answer follows from, if that is known: then one that is not stored is kept in memory
        active   called on every change, and on `wake`; if it returns False, the iterator ends without an answer

        To leave the operation, close the iterator. When the last caller leaves, the operation is cancelled at its next
        step. Raises the errors of `compute`, UnavailableError after `close`, and CorruptObjectError if the answer in
        the store was altered.
        """
        with self._changed:
            kept = self._memory.get((key, basis))
        kept = kept or self._kept(key)
        if kept is not None:
            OPERATIONS.labels("read").inc()
            yield kept
            return
        operation = self._join(key, compute, final)
        sent = None
        try:
            while active() and not operation.ended:
                if operation.progress != sent:
                    yield (sent := operation.progress)
                    time.sleep(TELL_SECONDS)
                with self._changed:
                    self._changed.wait_for(
                        lambda: operation.ended or operation.progress != sent or not active(), timeout=60
                    )
        finally:
            with self._changed:
                operation.waiting -= 1
                ended = operation.ended
        if not ended:
            return
        if operation.error is not None:
            raise operation.error
        if basis is not None and not final:
            with self._changed:
                self._memory.put((key, basis), operation.answer, len(operation.answer))
        yield operation.answer

    def wake(self) -> None:
        """Make all iterators call their `active` again."""
        with self._changed:
            self._changed.notify_all()

    def close(self) -> None:
        """Cancel the running operations, and wait until they have stopped."""
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
                    f"{self._store.url}/{key}: is not the result of an analysis; delete it, and it is computed again"
                ) from error
        return None

    def _join(self, key: str, compute: Callable[[Tell], bytes], final: bool) -> _Operation:
        with self._changed:
            if self._closed:
                raise UnavailableError("the service is stopping; ask again")
            operation = self._running.get(key)
            if operation is None:
                operation = self._running[key] = _Operation()
                self._pool.submit(carried(self._work), key, operation, compute, final)
            operation.waiting += 1
            return operation

    def _work(self, key: str, operation: _Operation, compute: Callable[[Tell], bytes], final: bool):
        def tell(stage: str, fraction: float) -> None:
            with self._changed:
                if self._closed or not operation.waiting:
                    operation.error = UnavailableError("the service is stopping; ask again")
                    self._end(key, operation)  # the next caller starts a new operation
                    raise _CancelledError
                operation.progress = OperationProgress(stage, fraction)
                self._changed.notify_all()

        started, result = time.monotonic(), "computed"
        try:
            tell("reading", 0.0)
            operation.answer = compute(tell)
            if final:
                records.create(self._store, key, {"answer": base64.b64encode(operation.answer).decode()})
        except _CancelledError:
            result = "cancelled"
        except Exception as error:  # noqa: BLE001 - `ask` raises it to the callers
            operation.error, result = error, "failed"
        OPERATIONS.labels(result).inc()
        message = str(operation.error) if isinstance(operation.error, DatamodelsError) else None
        log.info("analysis ended", key=key, result=result, seconds=round(time.monotonic() - started, 3), error=message)
        with self._changed:
            self._end(key, operation)

    def _end(self, key: str, operation: _Operation) -> None:
        """Mark an operation as ended. The caller holds `_changed`."""
        operation.ended = True
        if self._running.get(key) is operation:
            del self._running[key]
        self._changed.notify_all()
