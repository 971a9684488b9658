"""Fit one share of a run's targets in one process: for Indexed Jobs, and for several processes on one machine."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from datamodels.errors import DatamodelsError, ExitCode, SettingsError
from datamodels.fit.job.job import FitJob, Share
from datamodels.fit.solve import array_module
from datamodels.rpc.serve import Server
from datamodels.settings import FitterSettings, IndexedJobSettings, ServeSettings, StoreSettings, TelemetrySettings
from datamodels.storage import open_store
from datamodels.telemetry import configure_logging, logger, of_process, start, tracing

log = logger(__name__)

LOG_STEP = 0.1
"""Fraction of the work between two log lines about progress."""


def main(arguments: Sequence[str]) -> int:
    """Solve and commit the remaining blocks of a share of a fit. Returns the exit code of the process."""
    options = _parser().parse_args(arguments)
    configure_logging(TelemetrySettings(), "fitter")  # so that an error in the settings is logged, too
    try:
        start(TelemetrySettings.load(), "fitter")
        of_process(run=options.run)
        settings = FitterSettings.load()
        index = IndexedJobSettings.load() if options.block is None else IndexedJobSettings()
        share = chosen_share(options.block, options.blocks, index)
        array_module(settings.device)  # refuses an unavailable device at once, as a wrong setting
        with Server(ServeSettings.load(), name="fitter") as server:
            server.handle_signals()
            log.info("started", run=options.run, block=share.index, blocks=share.of, metrics=server.metrics_address)
            job = FitJob(open_store(StoreSettings.load()), options.run, options.settings)
            with tracing.span(f"fit share {share.index} of {share.of}", run=options.run):
                record = job.solve(settings, progress=_Log(options.run), stop=server.stopping, share=share)
        if record is None:
            log.info("share done; other processes are not done yet", run=options.run)
        else:
            log.info("share done; the fit is complete", run=options.run, fit=record.number)
        return int(ExitCode.DONE)
    except DatamodelsError as error:
        log.error(str(error), error=type(error).__name__, run=options.run)
        return int(error.exit_code)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m datamodels.services.fitter", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("--run", required=True, help="the run's name")
    parser.add_argument(
        "--settings",
        type=json.loads,
        help="the fit section of a spec, as JSON (default: the run's own)",
    )
    parser.add_argument("--block", type=int, help="index of the share, from 0 (default: index of the Kubernetes Job)")
    parser.add_argument("--blocks", type=int, default=1, help="number of processes that share the fit (default: 1)")
    return parser


def chosen_share(block: int | None, blocks: int, job: IndexedJobSettings) -> Share:
    """Return the share to solve. Raises SettingsError if the share is not given or does not exist."""
    if block is not None:
        return Share(block, blocks)
    if job.completion_index >= 0:
        return Share(job.completion_index, blocks)
    if blocks == 1:
        return Share()
    raise SettingsError(
        f"--blocks {blocks}: needs --block, 0 to {blocks - 1}, unless run in an Indexed Job (JOB_COMPLETION_INDEX)"
    )


class _Log:
    """Logs the progress of a fit."""

    def __init__(self, run: str):
        self._run = run
        self._logged = 0.0

    def __call__(self, fraction: float, done: int, stage: str, remaining: float | None) -> None:
        if fraction >= self._logged + LOG_STEP:
            self._logged = fraction
            left = None if remaining is None else round(remaining, 1)
            log.info(
                "fitting", run=self._run, fraction=round(fraction, 3), targets_done=done, stage=stage, remaining=left
            )
