"""Serve the aggregator: decode requests, call the committer, and encode its answers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

from datamodels.aggregate import metrics
from datamodels.aggregate.committer import Committer
from datamodels.aggregate.part import Assembly
from datamodels.aggregate.progress import CommittedModels
from datamodels.errors import InputError, SpecError, UnavailableError
from datamodels.rpc import codec, run_codec
from datamodels.rpc.context import CallContext
from datamodels.rpc.serve import MAX_ANSWER_BYTES, Service
from datamodels.run import precision
from datamodels.v1 import aggregator_pb2, aggregator_pb2_grpc


class Aggregator(aggregator_pb2_grpc.AggregatorServiceServicer):
    """Serves at most `watches` calls of WatchRun at a time, because each holds a thread that commits need."""

    def __init__(self, committer: Committer, watches: int):
        self._committer = committer
        self._watches = threading.BoundedSemaphore(watches)

    def CreateRun(
        self, request: aggregator_pb2.CreateRunRequest, context: CallContext
    ) -> aggregator_pb2.CreateRunResponse:
        run = run_codec.from_run_record(request.record)
        size = request.record.ByteSize() + 64
        if size > MAX_ANSWER_BYTES:
            raise SpecError(
                f"run {run.name}: its record takes {size} bytes, and trainers can receive at most {MAX_ANSWER_BYTES}; "
                "use fewer examples or targets, or leave out the labels"
            )
        return aggregator_pb2.CreateRunResponse(created=self._committer.create(run))

    def GetRunRecord(
        self, request: aggregator_pb2.GetRunRecordRequest, context: CallContext
    ) -> aggregator_pb2.GetRunRecordResponse:
        return aggregator_pb2.GetRunRecordResponse(record=run_codec.to_run_record(self._committer.run(request.run)))

    def PutOutputs(
        self, request_iterator: Iterator[aggregator_pb2.PutOutputsRequest], context: CallContext
    ) -> aggregator_pb2.PutOutputsResponse:
        header = next(request_iterator, aggregator_pb2.PutOutputsRequest())
        if header.WhichOneof("message") != "header":
            raise InputError("PutOutputs: the first message must be the header")
        run = self._committer.run(header.header.run)
        models = range(header.header.first, header.header.last)
        assembly = Assembly(run, models, header.header.seconds)  # takes no memory before rows are added
        known = self._committer.part(run.name, models)
        if known is not None:
            metrics.PARTS.labels("dropped").inc()
            return aggregator_pb2.PutOutputsResponse(committed=False, rows=known.rows_of(models))
        with self._committer.reserved(run, models):
            for message in request_iterator:
                if message.WhichOneof("message") != "rows":
                    raise InputError("PutOutputs: every message after the first must have rows")
                _add(assembly, message.rows, run.n)
            committed = self._committer.put(assembly.finish())
        part = self._committer.part(run.name, models)
        assert part is not None, "the committer knows the part after `put`, whoever committed it"
        return aggregator_pb2.PutOutputsResponse(committed=committed, rows=part.rows_of(models))

    def GetProgress(
        self, request: aggregator_pb2.GetProgressRequest, context: CallContext
    ) -> aggregator_pb2.GetProgressResponse:
        return aggregator_pb2.GetProgressResponse(progress=_progress(self._committer.progress(request.run)))

    def WatchRun(
        self, request: aggregator_pb2.WatchRunRequest, context: CallContext
    ) -> Iterator[aggregator_pb2.WatchRunResponse]:
        if not self._watches.acquire(blocking=False):
            raise UnavailableError(f"run {request.run!r}: too many watches of this service; ask GetProgress instead")
        try:
            context.watch(self._committer.wake)
            for progress in self._committer.watch(request.run, context.is_active):
                yield aggregator_pb2.WatchRunResponse(progress=_progress(progress))
        finally:
            self._watches.release()

    def PublishManifest(
        self, request: aggregator_pb2.PublishManifestRequest, context: CallContext
    ) -> aggregator_pb2.PublishManifestResponse:
        return aggregator_pb2.PublishManifestResponse(manifest_version=self._committer.publish(request.run))


def _add(assembly: Assembly, rows: aggregator_pb2.PutOutputsRequest.Rows, n: int) -> None:
    failed = {}
    for model in rows.failed:
        if model.model_index in failed:
            raise InputError(f"failed: model {model.model_index} occurs twice")
        failed[model.model_index] = model.reason
    index = codec.from_tensor(rows.model_index, "model_index", dtypes=("int32",), shape=(None,))
    outputs = codec.from_tensor(rows.outputs, "outputs", dtypes=precision.GIVEN, shape=(len(index), n))
    assembly.add(index, outputs, failed, rows.retried)


def _progress(progress: CommittedModels) -> aggregator_pb2.Progress:
    return aggregator_pb2.Progress(
        run=progress.run,
        models=progress.models,
        committed=progress.committed,
        failed=progress.failed,
        ranges=[aggregator_pb2.IndexRange(first=r.start, last=r.stop) for r in progress.ranges],
        manifest_version=progress.manifest_version,
    )


def _run_of(request: Any) -> str:
    match request:
        case aggregator_pb2.CreateRunRequest():
            return request.record.run
        case aggregator_pb2.PutOutputsRequest():
            return request.header.run
    return request.run


def service(committer: Committer, watches: int = 8) -> Service:
    """Return the service, which closes the committer when the server stops."""
    return Service(
        descriptor=aggregator_pb2.DESCRIPTOR.services_by_name["AggregatorService"],
        add=aggregator_pb2_grpc.add_AggregatorServiceServicer_to_server,
        servicer=Aggregator(committer, watches),
        close=committer.close,
        run_of=_run_of,
        check=committer.store.ping,
        reads=frozenset({"GetRunRecord", "GetProgress", "WatchRun"}),
    )
