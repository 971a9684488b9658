"""Run `datamodels drive`, the process of a driver's pod: run the pipeline of the spec in its settings, with Jobs."""

from __future__ import annotations

import argparse
import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path

from datamodels.analyze.findings import gather
from datamodels.cli.common.spec import given_spec
from datamodels.errors import DatamodelsError, ExitCode, SettingsError
from datamodels.exchange import reports
from datamodels.report import page, summary
from datamodels.rpc.serve import Server
from datamodels.run import specs
from datamodels.runners import metrics, pipeline
from datamodels.runners.cluster import templates
from datamodels.runners.cluster.api import connect
from datamodels.runners.cluster.runner import KubernetesRunner
from datamodels.runners.view import Bar, View
from datamodels.settings import ClusterSettings, ServeSettings, StoreSettings, TelemetrySettings
from datamodels.storage import ObjectStore, open_store
from datamodels.telemetry import logger, of_process, start

log = logger(__name__)

TERMINATION_LOG = Path("/dev/termination-log")
"""File whose text Kubernetes keeps in the state of a container that has ended: at most 4096 bytes."""
EVERY = 30.0
"""Seconds between two log lines about one stage."""


def drive(options: argparse.Namespace) -> None:
    """Run the pipeline. Raises what its stages raise; the exit code tells the Job whether to try again."""
    settings = ClusterSettings.load()
    if not settings.spec or not settings.owner:
        raise SettingsError("drive runs in the pod of a driver; use `datamodels submit` from outside the cluster")
    start(TelemetrySettings.load(), "driver")
    chosen = given_spec(specs.parse(_json(settings.spec)))  # whoever may create the driver's Job may run code
    of_process(run=chosen.run)
    with Server(ServeSettings.load(), name="driver") as server, _counted(server, settings.settle):
        runner = KubernetesRunner(connect(settings.namespace), settings, templates.read(Path(settings.templates)))
        store = open_store(StoreSettings.load())
        result = pipeline.run(chosen, runner=runner, store=store, view=WatchedView())
        print(summary.text(result), flush=True)
        _keep_report(store, result)
        if TERMINATION_LOG.exists():
            TERMINATION_LOG.write_text("\n".join(summary.brief(result)), encoding="utf-8")
        log.info("done")


def _keep_report(store: ObjectStore, result: pipeline.Result) -> None:
    """Store the report of the newest fit. The run is done without it, so a fault of it is only logged."""
    if result.fit is None:
        return
    try:
        found = gather(store, result.run, result.dataset)
        new = reports.keep(store, result.run.name, result.fit, page.html(found))
        log.info("report stored" if new else "a report is stored already", fit=result.fit)
    except (DatamodelsError, MemoryError) as error:
        log.warning("the report is not stored", reason=str(error))


@contextlib.contextmanager
def _counted(server: Server, settle: float) -> Iterator[None]:
    """Count how the driver ends. If something reads its metrics, wait `settle` seconds so that it reads the last."""
    try:
        yield
    except Exception as error:
        code = error.exit_code if isinstance(error, DatamodelsError) else ExitCode.FAILED
        metrics.ENDS.labels("failed" if code in (ExitCode.FAILED, ExitCode.CONFIG) else "tried_again").inc()
        server.settle(settle)
        raise
    metrics.ENDS.labels("done").inc()
    server.settle(settle)


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError as error:
        raise SettingsError(f"{ClusterSettings.prefix}_SPEC: is not JSON: {error}") from error


class WatchedView(View):
    """Shows progress as metrics, and every EVERY seconds as a log line."""

    @contextlib.contextmanager
    def stage(self, name: str, unit: str) -> Iterator[Bar]:
        log.info("stage begins", stage=name)
        bar = _WatchedBar(name, unit)
        yield bar
        bar.end()

    def doubt(self, text: str) -> None:
        log.warning(text)

    def evaluated(self, models: int, lds: float, interval: tuple[float, float]) -> None:
        for end, value in zip(("low", "point", "high"), (interval[0], lds, interval[1]), strict=True):
            metrics.LDS.labels(end).set(value)
        metrics.LDS_MODELS.set(models)
        log.info("evaluated", models=models, lds=round(lds, 4), low=round(interval[0], 4), high=round(interval[1], 4))


class _WatchedBar(Bar):
    def __init__(self, stage: str, unit: str):
        self._stage = stage
        self._unit = unit
        self._expected = 1.0
        self._told = 0.0
        self._done = 0.0

    def expect(self, total: float, done: float) -> None:
        self._expected = total
        metrics.EXPECTED.labels(self._stage).set(total)
        self.reach(done)

    def end(self) -> None:
        """Set the expected total to what is done, since a rule may have stopped training early."""
        metrics.EXPECTED.labels(self._stage).set(self._done)

    def reach(self, done: float, note: str = "", remaining: float | None = None) -> None:
        metrics.DONE.labels(self._stage).set(done)
        ends = done == self._expected != self._done
        self._done = done
        if ends or time.monotonic() >= self._told + EVERY:
            self._told = time.monotonic()
            fields = {"stage": self._stage, "done": done, "expected": self._expected, "unit": self._unit}
            seconds = {} if remaining is None else {"remaining": round(remaining)}
            log.info("progress", **fields | seconds | ({"note": note} if note else {}))
