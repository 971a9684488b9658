"""FitterClient: fits by gRPC."""

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
    with_token = True

    def __init__(self, to: str | grpc.Channel, settings: ClientSettings | None = None):
        super().__init__(to, settings)
        self._stub = fitter_pb2_grpc.FitterServiceStub(self._channel)

    def fit(self, run: str, settings: FitSpec | None = None) -> FitProgress:
        """Starts a fit, or goes on with one that was stopped; returns at once. Asking again does nothing.

        settings  by default those that the run was created with

        Raises RunNotFoundError, SpecError where the run cannot be fitted with such settings, NotReadyError where
        nothing is committed to fit.
        """
        given = None if settings is None else settings.model_dump_json()
        return _progress(self._stub.Fit(fitter_pb2.FitRequest(run=run, settings=given)).progress)

    def watch(self, run: str, digest: str = "", timeout: float | None = None) -> Iterator[FitProgress]:
        """Progress, at once and then on every change, until the fit is done or failed.

        digest  of the fit, as `fit` returned it; by default the one of the run that was asked for last

        Raises RunNotFoundError, NotReadyError where no fit was asked for, DeadlineError after `timeout` seconds,
        UnavailableError where the service stops.
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
