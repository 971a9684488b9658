"""The rule `until`: when training may end before all m models are trained.

Models on unseen subsets are trained first. Committed models are fitted and evaluated while training goes on: first when
there is a model for every eight columns and enough to hold ten out, then whenever their number has grown by a quarter.
Training ends

- under `until: {lds: 0.9}` once the lower end of the interval of LDS is at least 0.9. LDS itself would not do: the rule
  looks many times, and would stop at the first LDS that is high by chance;
- under `until: {slope: 0.005}` once twice as many models would raise LDS by at most 0.005, by the upper end of the
  interval that `analyze.curve` estimates.

A decision is a numbered record in the store, created once. A later pipeline run under the same rule finds it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Self

from datamodels import keys, records
from datamodels.aggregate import manifest
from datamodels.aggregate.progress import Progress
from datamodels.analyze.curve import Point, trend
from datamodels.analyze.interval import Estimate
from datamodels.analyze.quality import Unseen
from datamodels.errors import CorruptObjectError, NotReadyError
from datamodels.fit import store as fits
from datamodels.run import Run
from datamodels.spec import UntilSpec
from datamodels.storage import ObjectStore

FIRST_SHARE = 8
"""The first look is at d / 8 models, since far fewer tell next to nothing."""
FIRST_HELD_OUT = 10
"""Held-out models that the first look needs."""
GROWTH = 1.25
"""Growth of the number of models from one look to the next."""
RESAMPLES = 300
"""Resamples of unseen subsets at a look, few to keep it short."""
USED = 8
"""Fits of at least an eighth of the models tell the slope."""


@dataclasses.dataclass(frozen=True)
class Stop:
    """A decision to end training.

    rule      the `until` that it follows, as JSON values
    fit       number of the fit that it rests on
    models    models of that fit
    lds       its LDS, and the interval of it
    gain      by how much twice as many models would raise LDS; None if the rule is about LDS
    """

    rule: dict[str, Any]
    fit: int
    models: int
    lds: float
    interval: tuple[float, float]
    gain: Estimate | None = None

    def document(self) -> dict[str, Any]:
        """Return the decision as JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Self:
        """Read back what `document` returns."""
        gain = document["gain"] and Estimate(**document["gain"])
        return cls(**document | {"interval": tuple(document["interval"]), "gain": gain})

    def __str__(self) -> str:
        low, high = self.interval
        found = f"LDS {self.lds:.3f} ({low:.3f} to {high:.3f}) of {self.models:,} models"
        if self.gain is None:
            return f"{found} is at least {self.rule['lds']:g}"
        return (
            f"{found}; twice as many would bring {self.gain.value:.4f} ({self.gain.low:.4f} to {self.gain.high:.4f}), "
            f"at most {self.rule['slope']:g}"
        )


def decide(rule: UntilSpec, points: Sequence[Point], fit: int) -> Stop | None:
    """Decide whether training may end at the last of these points, that of fit number `fit`; None if it goes on."""
    last = points[-1]
    stop = Stop(rule.model_dump(mode="json"), fit, last.models, last.lds, last.interval)
    if rule.lds is not None:
        return stop if last.interval[0] >= rule.lds else None
    known = trend(points)
    gain = known and known.gain(last.models)
    return dataclasses.replace(stop, gain=gain) if gain and gain.high <= rule.slope else None


def recorded(store: ObjectStore, run: str) -> list[Stop]:
    """Return every decision about a run, under any rule. Raises CorruptObjectError."""
    found = []
    for number in range(store.newest(lambda n: keys.stop(run, n), -1) + 1):
        try:
            found.append(Stop.from_document(records.read(store, keys.stop(run, number))))
        except (TypeError, KeyError) as error:
            raise CorruptObjectError(
                f"{store.url}/{keys.stop(run, number)}: is no decision; restore it from a copy"
            ) from error
    return found


def find(store: ObjectStore, run: str, rule: UntilSpec) -> Stop | None:
    """Return the decision under this rule; None if there is none."""
    mine = rule.model_dump(mode="json")
    return next((stop for stop in recorded(store, run) if stop.rule == mine), None)


def record(store: ObjectStore, run: str, stop: Stop) -> Stop:
    """Record a decision. Returns the one that holds: that of another driver if it was first."""
    while True:
        known = recorded(store, run)
        for earlier in known:
            if earlier.rule == stop.rule:
                return earlier
        if records.create(store, keys.stop(run, len(known)), stop.document()):
            return stop


class Looks:
    """Fits and evaluates while training goes on, and says when it may end. Not for several threads."""

    def __init__(self, run: Run, store: ObjectStore, fit: Callable[[], int], tell: Callable[[Point], None]):
        """Take two functions to call in another thread.

        fit   publishes a manifest, fits it, and returns the number of the fit
        tell  receives what each look finds
        """
        self._run, self._store, self._fit, self._tell = run, store, fit, tell
        self._due = max(run.design.columns / FIRST_SHARE, FIRST_HELD_OUT / run.spec.fit.holdout)
        self._looking: Future[Stop | None] | None = None
        self._unseen: Unseen | None = None
        self._points: dict[int, Point] = {}
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="look")

    def decided(self) -> Stop | None:
        """Return what was decided before, by any process."""
        return find(self._store, self._run.name, self._run.spec.until)

    def look(self, progress: Progress) -> Stop | None:
        """Start a look if one is due, and return at once: the decision if there is one. Raises what the fit raised."""
        if self._looking is not None:
            if not self._looking.done():
                return None
            stop, self._looking = self._looking.result(), None
            if stop is not None:
                return record(self._store, self._run.name, stop)
        spec = self._run.spec
        models = sum(min(found.stop, spec.m) - found.start for found in progress.ranges if found.start < spec.m)
        if models >= self._due and models < spec.m and progress.covers(range(spec.m, spec.models)):
            self._due = GROWTH * models
            self._looking = self._pool.submit(self._decide)
        return None

    def close(self) -> None:
        """Return without waiting: a look that is going on ends by itself, and changes nothing."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _decide(self) -> Stop | None:
        number = self._fit()
        try:
            points = self._evaluated(number)
        except NotReadyError:  # hardly any unseen model could be trained; the end of the pipeline says so
            return None
        self._tell(points[-1])
        return decide(self._run.spec.until, points, number)

    def _evaluated(self, newest: int) -> list[Point]:
        """Return the points that the rule needs, ascending, with those of fits by earlier drivers."""
        name, store = self._run.name, self._store
        unseen = self._unseen = self._unseen or Unseen.read(self._run, manifest.read_newest(store, name), store)
        most = fits.read_fit(store, name, newest).rows
        for number in [newest] if self._run.spec.until.slope is None else range(newest + 1):
            fit = None if number in self._points else fits.read_fit(store, name, number)
            if fit is not None and fit.rows * USED >= most:
                found = unseen.predicted_by(fits.load(store, fit)).evaluate(resamples=RESAMPLES)
                self._points[number] = Point.of(fit.rows, found)
        return [self._points[number] for number in sorted(self._points) if number <= newest]
