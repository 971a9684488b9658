"""Serve the fitter: decode requests, call the fitter, and encode its answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

from datamodels.errors import SpecError, UnavailableError
from datamodels.fit.job.fitter import Fitter
from datamodels.fit.job.progress import FitProgress, FitState
from datamodels.rpc.context import CallContext
from datamodels.rpc.serve import Service
from datamodels.v1 import fitter_pb2, fitter_pb2_grpc

_STATES = {state: f"STATE_{state.name}" for state in FitState}


class FitterService(fitter_pb2_grpc.FitterServiceServicer):
    """Serves at most `watches` calls of WatchFit at a time, because each holds a thread that Fit needs."""

    def __init__(self, fitter: Fitter, watches: int):
        self._fitter = fitter
        self._watches = threading.BoundedSemaphore(watches)

    def Fit(self, request: fitter_pb2.FitRequest, context: CallContext) -> fitter_pb2.FitResponse:
        settings = _settings(request.settings) if request.HasField("settings") else None
        return fitter_pb2.FitResponse(progress=_progress(self._fitter.fit(request.run, settings)))

    def WatchFit(
        self, request: fitter_pb2.WatchFitRequest, context: CallContext
    ) -> Iterator[fitter_pb2.WatchFitResponse]:
        if not self._watches.acquire(blocking=False):
            raise UnavailableError(f"run {request.run!r}: too many watches of this service; ask Fit instead")
        try:
            context.watch(self._fitter.wake)
            for progress in self._fitter.watch(request.run, request.digest, context.is_active):
                yield fitter_pb2.WatchFitResponse(progress=_progress(progress))
        finally:
            self._watches.release()


def _settings(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SpecError(f"settings = {text[:100]!r}: is not JSON, or is nested too deeply: {error}") from None


def _progress(progress: FitProgress) -> fitter_pb2.FitProgress:
    return fitter_pb2.FitProgress(
        run=progress.run,
        digest=progress.digest,
        state=_STATES[progress.state],
        targets=progress.targets,
        targets_done=progress.targets_done,
        fraction=progress.fraction,
        seconds=progress.seconds,
        fit=max(progress.fit, 0),
        stage=progress.stage,
        error=progress.error,
        exit_code=progress.exit_code,
        remaining=progress.remaining,
    )


def service(fitter: Fitter, watches: int = 8) -> Service:
    """Return the service, which closes the fitter when the server stops."""
    return Service(
        descriptor=fitter_pb2.DESCRIPTOR.services_by_name["FitterService"],
        add=fitter_pb2_grpc.add_FitterServiceServicer_to_server,
        servicer=FitterService(fitter, watches),
        close=fitter.close,
        run_of=lambda request: request.run,
        check=fitter.ping,
        reads=frozenset({"WatchFit"}),
    )
