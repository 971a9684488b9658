"""Run fits in the background: start, watch and stop them."""

from __future__ import annotations

import dataclasses
import functools
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from datamodels.errors import DatamodelsError, ExitCode, NotReadyError, UnavailableError
from datamodels.fit.job import fits, metrics
from datamodels.fit.job.finished import FitRecord
from datamodels.fit.job.job import FitJob
from datamodels.fit.job.progress import FitProgress, FitState
from datamodels.run import runs
from datamodels.settings import FitterSettings
from datamodels.storage import ObjectStore
from datamodels.telemetry import carried, logger, tracing

log = logger(__name__)

TELL_SECONDS = 0.1
"""Shortest time between two messages of one watch."""


class Fitter:
    """Runs one fit at a time; others wait for their turn. It may be used from any thread. `close` it at the end."""

    def __init__(self, store: ObjectStore, settings: FitterSettings):
        self._store = store
        self._settings = settings
        self._stop = threading.Event()
        self._changed = threading.Condition()
        self._progress: dict[tuple[str, str], FitProgress] = {}  # by run and digest
        self._newest: dict[str, str] = {}  # digest of the fit of each run that was asked for last
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="fitter")

    def fit(self, run: str, settings: dict[str, Any] | None = None) -> FitProgress:
        """Start or resume a fit of the run's newest manifest; return its progress at once.

        Idempotent: does nothing if the fit is running or done. `settings` are as in FitJob. Raises RunNotFoundError,
        SpecError, NotReadyError if no outputs are committed, UnavailableError after `close`, StoreError.
        """
        job = FitJob(self._store, run, settings)
        record = job.finished()
        with self._changed:
            if self._stop.is_set():
                raise UnavailableError("the fitter is stopping; call again")
            self._newest[run] = job.digest
            known = self._progress.get((run, job.digest))
            if known is not None and known.state is FitState.RUNNING:
                return known
            if record is not None:
                return self._set(_done(record))
            started = time.monotonic()
            progress = self._set(FitProgress(run, job.digest, FitState.RUNNING, job.run.n, stage="waiting"))
            self._pool.submit(carried(self._solve), job, started).add_done_callback(
                carried(lambda future: self._ended(job, started, future))
            )
            return progress

    def progress(self, run: str, digest: str = "") -> FitProgress:
        """Return the progress of a fit of a run; by default of the one that was asked for last.

        Raises RunNotFoundError, NotReadyError if none was asked for.
        """
        with self._changed:
            known = self._progress.get((run, digest or self._newest.get(run, "")))
        if known is not None:
            return known
        runs.read(self._store, run)
        record = fits.read_newest_fit(self._store, run)
        if record is None or digest not in ("", record.digest):
            raise NotReadyError(f"run {run}: no fit was asked for since this fitter started; call Fit first")
        return _done(record)

    def watch(self, run: str, digest: str = "", active: Callable[[], bool] = lambda: True) -> Iterator[FitProgress]:
        """Yield the progress at once and after every change, until the fit is done or has failed, or `active` is false.

        One item may stand for several changes. `active` is called after every change and on `wake`. Raises the errors
        of `progress`.
        """
        seen = None
        while active():
            progress = self.progress(run, digest)
            digest = progress.digest
            if progress != seen:
                yield progress
                seen = progress
            if progress.state is not FitState.RUNNING:
                return
            time.sleep(TELL_SECONDS)
            with self._changed:
                self._changed.wait_for(functools.partial(self._is_news, progress, active), timeout=60)

    def _is_news(self, seen: FitProgress, active: Callable[[], bool]) -> bool:
        return self._progress.get((seen.run, seen.digest)) != seen or not active()

    def ping(self) -> None:
        """Raise StoreUnavailableError if the store does not answer."""
        self._store.ping()

    def wake(self) -> None:
        """Make all watches call their `active` again."""
        with self._changed:
            self._changed.notify_all()

    def close(self) -> None:
        """Stop the running fit at a checkpoint, and wait for it."""
        self._stop.set()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _solve(self, job: FitJob, started: float) -> FitRecord:
        key = job.run.name, job.digest
        log.info("fit started", run=job.run.name, digest=job.digest)

        def report(fraction: float, done: int, stage: str, remaining: float | None) -> None:
            with self._changed:
                self._set(
                    dataclasses.replace(
                        self._progress[key],
                        fraction=fraction,
                        targets_done=done,
                        stage=stage,
                        seconds=time.monotonic() - started,
                        remaining=remaining,
                    )
                )

        with tracing.span("fit", run=job.run.name, digest=job.digest):
            record = job.solve(self._settings, progress=report, stop=self._stop)
        assert record is not None, "a whole fit leaves no block to others"
        return record

    def _ended(self, job: FitJob, started: float, future: Future[FitRecord]) -> None:
        run = job.run.name
        seconds = time.monotonic() - started
        if future.cancelled():
            message = "the fitter was stopped; ask for the fit again"
            return self._failed(job, message, ExitCode.TRANSIENT, seconds, "stopped")
        error = future.exception()
        if error is None:
            record = future.result()
            metrics.FITS.labels("done").inc()
            log.info("fit done", run=run, fit=record.number, seconds=round(seconds, 3))
            with self._changed:
                self._set(_done(record))
            return None
        if isinstance(error, DatamodelsError):
            stopped = getattr(error, "exit_code", None) == ExitCode.TERMINATED
            code = ExitCode.TRANSIENT if stopped else error.exit_code
            return self._failed(job, str(error), code, seconds, "stopped" if stopped else "failed")
        log.error("fit ended by a fault of its own", run=run, exc_info=error)
        message = f"{type(error).__name__}: {error}; see the fitter's log"
        return self._failed(job, message, ExitCode.FAILED, seconds, "failed")

    def _failed(self, job: FitJob, message: str, code: ExitCode, seconds: float, result: str) -> None:
        metrics.FITS.labels(result).inc()
        log.warning("fit ended early", run=job.run.name, result=result, error=message)
        with self._changed:
            self._set(
                dataclasses.replace(
                    self._progress[job.run.name, job.digest],
                    state=FitState.FAILED,
                    error=message,
                    exit_code=code,
                    seconds=seconds,
                    stage=result,
                    remaining=None,
                )
            )

    def _set(self, progress: FitProgress) -> FitProgress:
        """Store progress and notify the watches. The caller holds `_changed`."""
        self._progress[progress.run, progress.digest] = progress
        self._changed.notify_all()
        return progress


def _done(record: FitRecord) -> FitProgress:
    return FitProgress(
        run=record.run,
        digest=record.digest,
        state=FitState.DONE,
        targets=record.targets,
        targets_done=record.targets,
        fraction=1.0,
        seconds=record.seconds,
        fit=record.number,
        stage="done",
        remaining=0.0,
    )
