"""Say how far a run is, from what the store has committed."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

from datamodels.aggregate import manifest
from datamodels.analyze.quality import evaluate, stopping, trend
from datamodels.fit.job.finished import read_newest_fit
from datamodels.query.weights import WeightStore

OBSERVED = 600.0
"""Seconds over which the rate of training is measured."""


@dataclasses.dataclass(frozen=True)
class RunProgress:
    """How far a run is.

    models, committed, failed  models of the run, committed ones, and those of them that failed
    stopped    why training ended early; empty if it did not
    fits       number of finished fits
    fitted     models of the newest fit; 0 without one
    lds        (LDS, lower, upper end of its interval) of the newest fit, if it was measured
    curve      (models, LDS, lower, upper end) at each size that was measured
    rate       models per second, as observed; None if nothing was observed
    remaining  seconds until all models are committed, at this rate; None if unknown
    """

    models: int
    committed: int
    failed: int
    stopped: tuple[str, ...]
    fits: int
    fitted: int
    lds: tuple[float, float, float] | None
    curve: tuple[tuple[int, float, float, float], ...]
    rate: float | None = None
    remaining: float | None = None

    @property
    def ended(self) -> bool:
        """Whether all models are there, or training was stopped, and a fit has used them."""
        trained = self.committed >= self.models or bool(self.stopped)
        return trained and self.fits > 0 and self.fitted > 0


def read(weights: WeightStore, name: str) -> RunProgress:
    """Return how far a run is. Raises RunNotFoundError, CorruptObjectError."""
    run, store = weights.run(name), weights.store
    snapshot = manifest.read_newest(store, name)
    record = read_newest_fit(store, name)
    measured = None if record is None else evaluate.recorded(store, name, record.number)
    points = (None if record is None else trend.recorded(store, name, record.number)) or []
    return RunProgress(
        models=run.spec.models,
        committed=snapshot.committed,
        failed=len(snapshot.failed),
        stopped=tuple(map(str, stopping.recorded(store, name))),
        fits=0 if record is None else record.number + 1,
        fitted=0 if record is None else record.rows,
        lds=None if measured is None else (measured.lds, *measured.interval),
        curve=tuple((point.models, point.lds, *point.interval) for point in points),
    )


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
