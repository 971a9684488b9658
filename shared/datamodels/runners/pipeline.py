"""Run the whole pipeline: sample -> train -> aggregate -> fit -> query. It is the same for every runner.

Each stage asks the one before what is committed and does the rest, so a pipeline that was stopped anywhere continues
when it runs again.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator

import numpy as np

from datamodels.aggregate import manifest
from datamodels.analyze.quality import evaluate, stopping
from datamodels.analyze.quality import unseen as quality
from datamodels.analyze.quality.evaluate import Evaluation
from datamodels.analyze.quality.interim import InterimEvaluations
from datamodels.analyze.quality.trend import Point
from datamodels.analyze.quality.unseen import Unseen
from datamodels.analyze.quality.verdict import Verdict, of_evaluation
from datamodels.display import stored
from datamodels.errors import ConfigError, DeadlineError, StageError, UnavailableError
from datamodels.fit.data import examples, problem
from datamodels.fit.job import fits
from datamodels.query import pages
from datamodels.rpc.clients.fitter import FitProgress, FitState, FitterClient
from datamodels.rpc.clients.query import QueryClient
from datamodels.rpc.clients.services import Services, connect_services
from datamodels.run import runs
from datamodels.run.dataset import Dataset
from datamodels.run.runs import Run
from datamodels.run.specs import RunSpec
from datamodels.runners import gradients
from datamodels.runners.base import Runner
from datamodels.runners.view import Bar, View
from datamodels.settings import ClientSettings
from datamodels.storage import ObjectStore
from datamodels.telemetry import bound, tracing
from datamodels.train.contract import resolve
from datamodels.v1 import query_pb2

FIT_SEEN_SECONDS = 60.0
"""Seconds in which the query service finds a new fit; it looks for one every few seconds."""

STAGES = {"sample": "run", "train": "models", "aggregate": "models", "fit": "targets", "query": "targets"}
"""The stages in order, and what each counts."""


@dataclasses.dataclass
class Result:
    """Result of a pipeline run.

    seconds     of each stage, this time; "start" is the start of the services
    trained     models committed this time
    committed   all committed models
    failed      models of the run that could not be trained
    stopped     decision that ended training before all models were trained; see `quality.stopping`
    fit         number of the newest fit
    fitted      models that it used
    chosen      what cross-validation chose for it, see `FitRecord.chosen`; empty if nothing
    statuses    number of targets by status
    evaluation  None if the spec asks for none
    influences  of some targets, from the worst mean output to the best
    """

    run: Run
    dataset: Dataset
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)
    trained: int = 0
    committed: int = 0
    failed: int = 0
    stopped: stopping.Stop | None = None
    fit: int | None = None
    fitted: int = 0
    chosen: str = ""
    statuses: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    evaluation: Evaluation | None = None
    influences: list[query_pb2.TopInfluencesResponse] = dataclasses.field(default_factory=list)

    @property
    def verdict(self) -> Verdict | None:
        """Judge the evaluation; None if there is none."""
        return None if self.evaluation is None else of_evaluation(self.evaluation, self.fitted)

    @contextlib.contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[stage] = time.perf_counter() - started


def run(
    spec: RunSpec, *, runner: Runner, store: ObjectStore, view: View, until: str = "query", shown: int = 3, top: int = 5
) -> Result:
    """Run the pipeline up to and including the stage `until`.

    The last stage, "query", asks the query service for the `top` influences of `shown` targets. Raises the errors of
    every stage.
    """
    dataset = runs.load_dataset(spec)
    result = Result(resolve(spec, dataset), dataset)
    for text in dataset.doubts(spec.targets):
        view.doubt(text)
    if not runner.trains_here:
        gradients.require_stored(result.run, store)
    name = result.run.name
    with bound(run=name), tracing.root(name), contextlib.ExitStack() as stack:
        with result.timed("start"), tracing.span("start services"):
            names = needed(spec, until)
            addresses = stack.enter_context(runner.services(names))
            services = stack.enter_context(connect_services(addresses, names))
        stages = _Stages(result, runner, addresses, services, store, view)
        for stage, unit in STAGES.items():
            with view.stage(stage, unit) as bar, result.timed(stage), tracing.span(stage):
                getattr(stages, stage)(bar)
            if stage == until:
                break
        if until == "query":
            result.influences = [
                stages.query_client().top(result.run.name, target, top) for target in stages.targets_to_show(shown)
            ]
    return result


def needed(spec: RunSpec, until: str) -> tuple[str, ...]:
    """Return the services that the stages up to and including `until` call."""
    stages = list(STAGES)[: list(STAGES).index(until) + 1]
    # Decisions to end training are made on fits.
    fitter = "fit" in stages or ("train" in stages and spec.until is not None)
    return ("sampler", "aggregator", *(["fitter"] if fitter else []), *(["query"] if "query" in stages else []))


class _Stages:
    """One method per stage."""

    def __init__(
        self,
        result: Result,
        runner: Runner,
        addresses: ClientSettings,
        services: Services,
        store: ObjectStore,
        view: View,
    ):
        self._result = result
        self._run = result.run
        self._runner = runner
        self._addresses = addresses
        self._services = services
        self._store = store
        self._view = view
        self._unseen: Unseen | None = None

    def query_client(self) -> QueryClient:
        """Return the client of the query service, which the last stage calls."""
        assert self._services.query is not None, "the stage `query` is among the stages"
        return self._services.query

    def sample(self, bar: Bar) -> None:
        self._services.aggregator.create_run(self._run)
        stored.write(self._store, self._run, self._result.dataset)
        # What outputs mean may have been declared before, and be declared by neither spec nor trainer now.
        self._run = self._result.run = self._run.as_declared(runs.read(self._store, self._run.name))
        bar.reach(1, self._services.sampler.describe(self._run.design).summary)

    def train(self, bar: Bar) -> None:
        spec, aggregator = self._run.spec, self._services.aggregator
        before = aggregator.progress(self._run.name)
        bar.expect(spec.models, before.committed)
        chunks = [c for c in range(spec.chunks) if not before.covers(spec.chunk_range(c))]
        interim = None
        if spec.until is not None:
            self._take_gradients(bar, before.committed)  # for the fits during training
            interim = InterimEvaluations(self._run, self._store, self._fit_committed, self._report)
            self._result.stopped = interim.decided()
            # Chunks with unseen subsets come first, since decisions need them.
            chunks.sort(key=lambda c: spec.chunk_range(c).stop <= spec.m)

        def tick() -> bool:
            progress = aggregator.progress(self._run.name)
            bar.reach(progress.committed, f"{progress.failed} failed" if progress.failed else "")
            if interim is not None and self._result.stopped is None:
                self._result.stopped = interim.poll(progress)
            return self._result.stopped is not None

        if chunks and not self._result.stopped:
            with contextlib.closing(interim) if interim else contextlib.nullcontext():
                self._runner.train(self._run, chunks, self._addresses, tick)
        after = aggregator.progress(self._run.name)
        bar.reach(after.committed)
        self._result.trained = after.committed - before.committed
        self._result.committed = after.committed
        self._result.failed = after.failed
        if after.committed < spec.models and not self._result.stopped:
            raise StageError(
                f"run {self._run.name}: {spec.models - after.committed:,} of {spec.models:,} models are not committed "
                "though every trainer ended; run the same command again to train them; if it ends so again, something "
                "ends the trainers with exit code 0, such as os._exit(0) or a library that the trainer calls"
            )

    def aggregate(self, bar: Bar) -> None:
        version = self._services.aggregator.publish(self._run.name)
        snapshot = manifest.read(self._store, self._run.name, version)
        if not snapshot.rows:
            model, reason = next(iter(snapshot.failed.items()))
            raise ConfigError(
                f"run {self._run.name}: all {snapshot.committed} models failed, model {model} because: {reason}; fix "
                "the trainer and give the spec another name, for a model that failed with both its seeds stays failed"
            )
        bar.expect(self._result.committed, 0)
        bar.reach(snapshot.committed, f"manifest {version}")

    def fit(self, bar: Bar) -> None:
        bar.expect(self._run.n, 0)
        self._take_gradients(bar, 0)
        self._result.fit = self._fit(lambda p: bar.reach(round(p.fraction * self._run.n), p.stage, p.remaining))
        bar.reach(self._run.n)

    def _take_gradients(self, bar: Bar, done: int) -> None:
        """Compute the scores by gradients that fits use, if models may be trained here, while no trainer runs.

        done  what the bar shows of its stage meanwhile
        """
        if self._runner.trains_here:
            gradients.ensure(
                self._run,
                lambda: self._result.dataset,
                self._store,
                lambda models, of: bar.reach(done, f"gradients of {models} of {of} models"),
            )

    def _fit(self, tell: Callable[[FitProgress], None]) -> int:
        """Fit the newest manifest. Returns the number of the fit."""
        examples.write(self._store, self._run, self._result.dataset)
        with (
            self._runner.fitter(self._run, self._addresses) as there,
            FitterClient(there.fitter, there) as fitter,
        ):
            return self._fitted(fitter, tell)

    def _fitted(self, fitter: FitterClient, tell: Callable[[FitProgress], None]) -> int:
        progress = fitter.fit(self._run.name, self._run.spec.fit)
        digest = progress.digest
        while progress.state is not FitState.DONE:
            with contextlib.suppress(DeadlineError):  # a server ends every call at some time, and the fit goes on
                for progress in fitter.watch(self._run.name, digest):
                    if progress.state is FitState.FAILED:
                        raise StageError(f"fit of run {self._run.name}: {progress.error}", progress.exit_code)
                    tell(progress)
        return progress.fit

    def _fit_committed(self) -> int:
        self._services.aggregator.publish(self._run.name)
        return self._fit(lambda progress: None)

    def _report(self, point: Point) -> None:
        self._view.evaluated(point.models, point.lds, point.interval)

    def query(self, bar: Bar) -> None:
        bar.expect(self._run.n, 0)
        spec, number = self._run.spec, self._result.fit
        assert number is not None, "the stage before it has fitted"
        self._await_fit(number)
        statuses = [target.status for target in self.query_client().targets(self._run.name, pages.MAX_SIZE)]
        self._result.statuses = collections.Counter(statuses)
        record = fits.read_fit(self._store, self._run.name, number)
        self._result.fitted, self._result.chosen = record.rows, record.chosen
        if spec.evaluate.subsets:
            snapshot = manifest.read_newest(self._store, self._run.name)
            self._unseen = Unseen.read(self._run, snapshot, self._store)
            self._result.evaluation = found = self._evaluate(self._unseen, problem.modelled(statuses))
            self._view.evaluated(self._result.fitted, found.lds, found.interval)
        bar.reach(self._run.n)

    def _await_fit(self, number: int) -> None:
        """Wait until the query service answers from our fit, not from one made while models were still trained."""
        deadline = time.monotonic() + FIT_SEEN_SECONDS
        while self.query_client().run(self._run.name).fits <= number:
            if time.monotonic() > deadline:
                raise UnavailableError(f"run {self._run.name}: the query service does not find fit {number}")
            time.sleep(0.1)

    def _evaluate(self, unseen: Unseen, modelled: np.ndarray) -> Evaluation:
        """Evaluate what the query service predicts, and record the evaluation of the fit that it answers from."""
        answer = self.query_client().predict(self._run.name, unseen.masks)
        found = unseen.with_predictions(answer.predictions, modelled).evaluate()
        evaluate.record(self._store, self._run.name, answer.provenance.fit, found)
        return found

    def targets_to_show(self, count: int) -> list[int]:
        """Choose targets to show: spread evenly from the worst mean output on unseen subsets to the best."""
        return quality.targets_to_show(self._run, None if self._unseen is None else self._unseen.outputs, count)
