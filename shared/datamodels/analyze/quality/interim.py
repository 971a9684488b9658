"""Fit and evaluate the committed models while others are trained, and end training by the rule of `stopping`."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from datamodels.aggregate import manifest
from datamodels.aggregate.progress import CommittedModels
from datamodels.analyze.quality import evaluate, stopping
from datamodels.analyze.quality.evaluate import Evaluation
from datamodels.analyze.quality.stopping import Stop
from datamodels.analyze.quality.trend import Point
from datamodels.analyze.quality.unseen import Unseen
from datamodels.errors import NotReadyError
from datamodels.fit.job import finished, fits
from datamodels.run.estimators import ESTIMATORS
from datamodels.run.runs import Run
from datamodels.storage import ObjectStore
from datamodels.telemetry import carried

FIRST_SHARE = 8
"""The first evaluation is at d / 8 models: with far fewer, weights are mostly noise. A prior is good before."""
FIRST_HELD_OUT = 10
"""Held-out models that the first evaluation needs."""
GROWTH = 1.25
"""Growth of the number of models from one evaluation to the next."""
EARLY_GROWTH = 2.0
"""The same below d / 8 models: there a prior hardly gets better, and each fit takes about as long as the next."""
RESAMPLES = 300
"""Resamples of the unseen subsets in each evaluation; few, to keep it short."""
USED = 8
"""The slope uses fits of at least an eighth of the models."""


class InterimEvaluations:
    """Fits and evaluates in a thread of its own while training goes on, and decides when training may end.

    Call it from one thread.
    """

    def __init__(self, run: Run, store: ObjectStore, fit: Callable[[], int], report: Callable[[Point], None]):
        """Take two functions, which are called in another thread.

        fit     publishes a manifest, fits it, and returns the number of the fit
        report  receives the result of each evaluation
        """
        assert run.spec.until is not None, "a spec without `until` has no rule"
        self._rule = run.spec.until
        self._run, self._store, self._fit, self._report = run, store, fit, report
        self._many = max(run.design.columns / FIRST_SHARE, FIRST_HELD_OUT / run.spec.fit.holdout)
        known = ESTIMATORS[run.spec.fit.estimator]
        self._due = FIRST_HELD_OUT / run.spec.fit.holdout if known.folds and known.prior else self._many
        self._running: Future[Stop | None] | None = None
        self._unseen: Unseen | None = None
        self._found: dict[int, tuple[Point, Evaluation]] = {}
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="interim")

    def decided(self) -> Stop | None:
        """Return an earlier decision, by any process; None if there is none."""
        return stopping.find(self._store, self._run.name, self._rule)

    def poll(self, progress: CommittedModels) -> Stop | None:
        """Start an evaluation if one is due. Return the decision of the last one at once; None if there is none.

        Raises what the fit raised.
        """
        if self._running is not None:
            if not self._running.done():
                return None
            stop, self._running = self._running.result(), None
            if stop is not None:
                return stopping.record(self._store, self._run.name, stop)
        spec = self._run.spec
        models = sum(min(found.stop, spec.m) - found.start for found in progress.ranges if found.start < spec.m)
        if models >= self._due and models < spec.m and progress.covers(range(spec.m, spec.models)):
            self._due = models * (GROWTH if models >= self._many else EARLY_GROWTH)
            self._running = self._pool.submit(carried(self._decide))
        return None

    def close(self) -> None:
        """Return without waiting: an evaluation that is going on ends by itself, and changes nothing."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _decide(self) -> Stop | None:
        number = self._fit()
        try:
            points = self._evaluated(number)
        except NotReadyError:  # hardly any unseen model could be trained; the end of the pipeline says so
            return None
        self._report(points[-1])
        stop = stopping.decide(self._rule, points, number)
        if stop is None:  # else the fit is the last, and evaluated with more resamples
            evaluate.record(self._store, self._run.name, number, self._found[number][1])
        return stop

    def _evaluated(self, newest: int) -> list[Point]:
        """Return the points that the rule needs, by ascending number of models, including fits of earlier drivers."""
        name, store = self._run.name, self._store
        unseen = self._unseen = self._unseen or Unseen.read(self._run, manifest.read_newest(store, name), store)
        most = fits.read_fit(store, name, newest).rows
        earlier = [] if self._rule.slope is None else [n for n in finished.numbers(store, name) if n < newest]
        for number in [*earlier, newest]:
            fit = None if number in self._found else fits.read_fit(store, name, number)
            if fit is not None and fit.rows * USED >= most:
                found = unseen.predicted_by(fits.load(store, fit)).evaluate(resamples=RESAMPLES)
                self._found[number] = Point.of(fit.rows, found), found
        return [self._found[number][0] for number in sorted(self._found) if number <= newest]
