"""Say how far a run is, from what the store has committed."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

from datamodels.aggregate import manifest
from datamodels.analyze.quality import evaluate, stopping, trend
from datamodels.errors import ObjectNotFoundError
from datamodels.fit.job.finished import read_fit
from datamodels.query.weights import WeightStore
from datamodels.storage import ObjectStore

OBSERVED = 600.0
"""Seconds over which the rate of training is measured."""

Measured = tuple[int, float, float, float]
"""Models of a fit, its LDS, and the lower and the upper end of its interval."""


@dataclasses.dataclass(frozen=True)
class RunProgress:
    """How far a run is.

    models, committed, failed  models of the run, committed ones, and those of them that failed
    usable     committed models that a fit can use: those that did not fail, without those for evaluation
    stopped    why training ended early; empty if it did not
    fits       number of finished fits
    fitted     models of the newest fit; 0 without one
    lds        (LDS, lower, upper end of its interval) of the newest fit; None if it is not measured yet
    evaluated  whether the run measures an LDS at all
    curve      each size that was measured, ascending: of fits, and of the learning curve up to the newest one
    pace       seconds that a trainer takes for a model, on average; None if that is unknown
    rate       models per second, as observed; None if nothing was observed
    remaining  seconds until all models are committed, at this rate; None if unknown
    """

    models: int
    committed: int
    failed: int
    usable: int
    stopped: tuple[str, ...]
    fits: int
    fitted: int
    lds: tuple[float, float, float] | None
    evaluated: bool
    curve: tuple[Measured, ...]
    pace: float | None = None
    rate: float | None = None
    remaining: float | None = None

    @property
    def trained(self) -> bool:
        """Whether all models are there, or training was stopped."""
        return self.committed >= self.models or bool(self.stopped)

    @property
    def ended(self) -> bool:
        """Whether training has ended, a fit has used its models, and the LDS of that fit is measured."""
        fitted = self.fits > 0 and self.fitted >= self.usable
        return self.trained and fitted and (self.lds is not None or not self.evaluated)


def read(weights: WeightStore, name: str, known: dict[int, Measured | None] | None = None) -> RunProgress:
    """Return how far a run is.

    known  what was read of earlier fits, by their numbers; None for those that are not measured or gone. It is filled
           in, so that the next call reads less

    Raises RunNotFoundError, CorruptObjectError.
    """
    run, store = weights.run(name), weights.store
    snapshot = manifest.read_newest(store, name)
    fits, known = weights.fits(name), {} if known is None else known
    for number in range(fits):
        if number not in known or (known[number] is None and number == fits - 1):  # it may be measured by now
            known[number] = _measured(store, name, number)
    newest = read_fit(store, name, fits - 1) if fits else None
    points = {point[0]: point for number in range(fits) if (point := known[number])}
    if newest is not None:
        of_curve = trend.recorded(store, name, newest.number) or []
        points |= {point.models: (point.models, point.lds, *point.interval) for point in of_curve}
    measured = known[fits - 1] if fits else None
    return RunProgress(
        models=run.spec.models,
        committed=snapshot.committed,
        failed=len(snapshot.failed),
        usable=snapshot.rows_below(run.spec.m),
        stopped=tuple(map(str, stopping.recorded(store, name))),
        fits=fits,
        fitted=0 if newest is None else newest.rows,
        lds=None if measured is None else measured[1:],
        evaluated=run.spec.evaluate.subsets > 0,
        curve=tuple(points[models] for models in sorted(points)),
        pace=snapshot.pace,
    )


def _measured(store: ObjectStore, run: str, number: int) -> Measured | None:
    """Return the LDS of a fit; None if it is not measured, or was pruned."""
    found = evaluate.recorded(store, run, number)
    if found is None:
        return None
    try:
        return read_fit(store, run, number).rows, found.lds, *found.interval
    except ObjectNotFoundError:
        return None


class Observer:
    """Measures the rate of a run from one look to the next."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._seen: list[tuple[float, int]] = []

    def see(self, found: RunProgress) -> RunProgress:
        """Return the progress with the rate since at most OBSERVED seconds, and the time that is left."""
        now = self._clock()
        self._seen = [(when, count) for when, count in self._seen if now - when <= OBSERVED]
        self._seen.append((now, found.committed))
        (first, before), seconds = self._seen[0], now - self._seen[0][0]
        if seconds <= 0 or found.committed <= before or first == now:
            return found
        rate = (found.committed - before) / seconds
        return dataclasses.replace(found, rate=rate, remaining=max(0, found.models - found.committed) / rate)
