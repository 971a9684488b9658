"""The long calls of the query service: ask for an operation, stream how far it is, then its answer."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any

from google.protobuf.message import Message

from datamodels import keys, records
from datamodels.aggregate import manifest
from datamodels.analyze import agreement
from datamodels.errors import InputError, UnavailableError
from datamodels.operations import Operations, Progress, Tell
from datamodels.query import MAX_ANSWER_BYTES, Fitted
from datamodels.rpc import messages
from datamodels.rpc.context import CallContext
from datamodels.v1 import query_pb2, types_pb2

Compute = Callable[[Callable[[float], None]], Any]


class LongCalls:
    """`streams` at most, since each holds a thread that short calls need too."""

    def __init__(self, operations: Operations, streams: int = 8):
        self._operations = operations
        self._streams = threading.BoundedSemaphore(streams)

    def evaluate(
        self, fitted: Fitted, provenance: types_pb2.Provenance, context: CallContext
    ) -> Iterator[query_pb2.EvaluateResponse]:
        def compute(tell):
            snapshot = manifest.read_newest(fitted.store, fitted.run.name)
            return agreement.of_fit(fitted.run, snapshot, fitted.store, fitted.solution, progress=tell)

        response = functools.partial(query_pb2.EvaluateResponse, provenance=provenance)
        return self._stream(fitted, context, response, "quality", {}, compute)

    def _stream(
        self,
        fitted: Fitted,
        context: CallContext,
        response: Callable[..., Message],
        field: str,
        asked: dict[str, Any],
        compute: Compute,
    ) -> Iterator[Any]:
        """Messages with progress, then one with the answer in `field`.

        asked    the parameters that the answer depends on, beside the fit
        compute  gives the dataclass that the answer's message mirrors; see `rpc.messages`
        """
        key = keys.analysis(fitted.run.name, fitted.record.number, field, records.digest(asked)[:16])

        def encoded(tell: Tell) -> bytes:
            found = compute(lambda fraction: tell("computing", fraction))
            answer = messages.fill(getattr(response(), field), found).SerializeToString()
            if len(answer) > MAX_ANSWER_BYTES:
                raise InputError(
                    f"{field} of run {fitted.run.name}: takes {len(answer)} bytes, more than fit one message; ask for "
                    "less, or run fewer targets"
                )
            return answer

        if not self._streams.acquire(blocking=False):
            raise UnavailableError("too many long analyses are being watched; ask again later")
        try:
            final = fitted.final()
            context.watch(self._operations.wake)
            for found in self._operations.ask(key, encoded, final=final, active=context.is_active):
                if isinstance(found, Progress):
                    told = query_pb2.AnalysisProgress(stage=found.stage, fraction=found.fraction)
                    yield response(progress=told)
                else:
                    answer = response()
                    answer.provenance.partial |= not final
                    getattr(answer, field).MergeFromString(found)
                    yield answer
        finally:
            self._streams.release()
