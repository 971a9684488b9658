"""Call the fitter."""

from __future__ import annotations

from collections.abc import Iterator

import grpc

from datamodels.fit.job.progress import FitProgress, FitState
from datamodels.rpc.clients.base import Client
from datamodels.run.specs import FitSpec
from datamodels.settings import ClientSettings
from datamodels.v1 import fitter_pb2, fitter_pb2_grpc

__all__ = ["FitProgress", "FitState", "FitterClient"]


class FitterClient(Client):
    """Starts fits and reports their progress. Raises the errors of the service, e.g. RunNotFoundError."""

    with_token = True

    def __init__(self, to: str | grpc.Channel, settings: ClientSettings | None = None):
        super().__init__(to, settings)
        self._stub = fitter_pb2_grpc.FitterServiceStub(self._channel)

    def fit(self, run: str, settings: FitSpec | None = None) -> FitProgress:
        """Start a fit, or continue one that was stopped, and return its progress at once. Idempotent.

        settings  by default those that the run was created with

        Raises RunNotFoundError, SpecError if the run cannot be fitted with these settings, and NotReadyError if no
        models are committed yet.
        """
        given = None if settings is None else settings.model_dump_json()
        return _progress(self._stub.Fit(fitter_pb2.FitRequest(run=run, settings=given)).progress)

    def watch(self, run: str, digest: str = "", timeout: float | None = None) -> Iterator[FitProgress]:
        """Yield progress at once and then on every change, until the fit is done or has failed.

        digest  of the fit, as `fit` returned it; by default the fit of the run that was requested last

        Raises RunNotFoundError, NotReadyError if no fit was requested, DeadlineError after `timeout` seconds, and
        UnavailableError if the service stops.
        """
        for response in self._stub.WatchFit(fitter_pb2.WatchFitRequest(run=run, digest=digest), timeout=timeout):
            yield _progress(response.progress)


def _progress(message: fitter_pb2.FitProgress) -> FitProgress:
    return FitProgress(
        run=message.run,
        digest=message.digest,
        state=FitState[fitter_pb2.FitProgress.State.Name(message.state).removeprefix("STATE_")],
        targets=message.targets,
        targets_done=message.targets_done,
        fraction=message.fraction,
        seconds=message.seconds,
        fit=message.fit if message.state == fitter_pb2.FitProgress.STATE_DONE else -1,
        stage=message.stage,
        error=message.error,
        exit_code=message.exit_code,
        remaining=message.remaining if message.HasField("remaining") else None,
    )
