"""Call the aggregator: create runs, commit outputs, read progress."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import grpc
import numpy as np

from datamodels.aggregate.part import LONGEST_REASON
from datamodels.aggregate.progress import CommittedModels
from datamodels.errors import OutputsError
from datamodels.rpc import codec, run_codec
from datamodels.rpc.clients.base import Client
from datamodels.run import precision
from datamodels.run.runs import Run
from datamodels.settings import ClientSettings
from datamodels.v1 import aggregator_pb2, aggregator_pb2_grpc

MESSAGE_BYTES = 1_000_000 - 1_000
"""Most bytes of rows in one message, so that the whole message stays within 1 MB."""

MESSAGE_FAILED = 500
"""Most failed models in one message, for the same reason."""


class AggregatorClient(Client):
    """Creates runs, commits outputs and reports progress. Raises the errors of the service, e.g. RunNotFoundError."""

    with_token = True

    def __init__(self, to: str | grpc.Channel, settings: ClientSettings | None = None):
        super().__init__(to, settings)
        self._stub = aggregator_pb2_grpc.AggregatorServiceStub(self._channel)

    def create_run(self, run: Run) -> bool:
        """Create a run. Returns False if it exists already.

        Raises ConflictError if its data set has changed since it was created, SpecError if it is too large.
        """
        request = aggregator_pb2.CreateRunRequest(record=run_codec.to_run_record(run))
        return self._stub.CreateRun(request).created

    def run(self, name: str) -> Run:
        """Return a run. Raises RunNotFoundError."""
        return run_codec.from_run_record(self._stub.GetRunRecord(aggregator_pb2.GetRunRecordRequest(run=name)).record)

    def put(
        self,
        run: str,
        models: range,
        model_index: np.ndarray,
        outputs: np.ndarray,
        failed: Mapping[int, str] | None = None,
        retried: Sequence[int] = (),
        seconds: float = 0.0,
    ) -> bool:
        """Commit one sub-chunk. Returns False, and drops these outputs, if it was committed before.

        models       the sub-chunk, first <= index < last
        model_index  int[r]; the models that have outputs
        outputs      float[r, n]
        failed       {model: reason} of the other models
        retried      models in model_index that were trained with their second seed
        seconds      that were needed for the models; 0 if that is not known

        On return the sub-chunk is durable. While the service or its store is unavailable, the sub-chunk is sent again,
        at most `settings.attempts` times in all; that is safe, because commits are idempotent.

        Raises OutputsError if the service refuses the outputs, RunNotFoundError, StoreFullError, StoreUnavailableError,
        UnavailableError, DeadlineError.
        """
        header = aggregator_pb2.PutOutputsRequest.Header(run=run, first=models.start, last=models.stop, seconds=seconds)
        messages = list(_messages(header, np.asarray(model_index), np.asarray(outputs), failed or {}, retried))
        return self._repeat(lambda: self._stub.PutOutputs(iter(messages)).committed)

    def progress(self, run: str) -> CommittedModels:
        """Return which models are committed. Raises RunNotFoundError."""
        return _progress(self._stub.GetProgress(aggregator_pb2.GetProgressRequest(run=run)).progress)

    def watch(self, run: str, timeout: float | None = None) -> Iterator[CommittedModels]:
        """Yield progress at once and then on every change, until the run is complete.

        Raises RunNotFoundError, DeadlineError after `timeout` seconds, UnavailableError if the service stops.
        """
        for response in self._stub.WatchRun(aggregator_pb2.WatchRunRequest(run=run), timeout=timeout):
            yield _progress(response.progress)

    def publish(self, run: str) -> int:
        """Make every committed part visible to readers. Returns the version of the newest manifest."""
        return self._stub.PublishManifest(aggregator_pb2.PublishManifestRequest(run=run)).manifest_version


def _messages(
    header: aggregator_pb2.PutOutputsRequest.Header,
    model_index: np.ndarray,
    outputs: np.ndarray,
    failed: Mapping[int, str],
    retried: Sequence[int],
) -> Iterator[aggregator_pb2.PutOutputsRequest]:
    yield aggregator_pb2.PutOutputsRequest(header=header)
    model_index, outputs = _int32(model_index), _narrowed(outputs)
    rows = max(1, MESSAGE_BYTES // (outputs[:1].nbytes + 4))
    for first in range(0, max(len(model_index), len(outputs)), rows):
        yield _rows(model_index[first : first + rows], outputs[first : first + rows])
    reasons = list(failed.items())
    for first in range(0, len(reasons), MESSAGE_FAILED):
        yield _rows(model_index[:0], outputs[:0], reasons[first : first + MESSAGE_FAILED])
    if retried:
        last = aggregator_pb2.PutOutputsRequest.Rows(
            model_index=codec.to_tensor(model_index[:0]), outputs=codec.to_tensor(outputs[:0]), retried=retried
        )
        yield aggregator_pb2.PutOutputsRequest(rows=last)


def _int32(model_index: np.ndarray) -> np.ndarray:
    narrow = model_index.astype(np.int32)
    if model_index.ndim != 1 or (narrow != model_index).any():
        raise OutputsError(f"model_index {model_index!r:.100}: must be a list of int32")
    return narrow


def _narrowed(outputs: np.ndarray) -> np.ndarray:
    """Convert outputs to the type to send: float32, unless a value would become infinite."""
    if outputs.ndim != 2 or outputs.dtype.name not in precision.GIVEN:
        raise OutputsError(
            f"outputs have shape {outputs.shape} and type {outputs.dtype}: must be models by targets, of type "
            f"{' or '.join(precision.GIVEN)}"
        )
    narrow = precision.stored(outputs, "float32")
    # The service refuses outputs that are not finite. Its message can name the value only if it receives it.
    return narrow if precision.finite(narrow) else outputs


def _rows(
    model_index: np.ndarray, outputs: np.ndarray, failed: Sequence[tuple[int, str]] = ()
) -> aggregator_pb2.PutOutputsRequest:
    request = aggregator_pb2.PutOutputsRequest()
    codec.fill_tensor(request.rows.model_index, model_index)
    codec.fill_tensor(request.rows.outputs, outputs)
    for model, why in failed:
        request.rows.failed.add(model_index=model, reason=why[:LONGEST_REASON])
    return request


def _progress(message: aggregator_pb2.Progress) -> CommittedModels:
    return CommittedModels(
        run=message.run,
        models=message.models,
        committed=message.committed,
        failed=message.failed,
        ranges=[range(r.first, r.last) for r in message.ranges],
        manifest_version=message.manifest_version,
    )
