"""Decide by the rule `until` when training may end before all m models are trained.

Models on unseen subsets are trained first. Committed models are fitted and evaluated while training goes on: first when
there is one model for every eight columns and at least ten held-out models, then each time that their number has grown
by a quarter. With a prior, ten held-out models are enough, and until there is one for every eight columns, their number
has to double.
Training ends

- under `until: {lds: 0.9}` once the lower end of the interval of LDS is at least 0.9. The rule does not
  use LDS itself: it evaluates many times, and would stop at the first LDS that is high by chance;
- under `until: {slope: 0.005}` once twice as many models would raise LDS by at most 0.005, by the upper end of the
  interval that `quality.trend` estimates.

A decision is a numbered record in the store, created once. A later pipeline run under the same rule finds it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Self

from datamodels.analyze.quality.interval import Estimate
from datamodels.analyze.quality.trend import Point, trend
from datamodels.run.specs import UntilSpec
from datamodels.storage import ObjectStore, decode, keys, records


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
        return decode.build(cls, document)

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
    assert rule.slope is not None, "a rule has one of the two"
    known = trend(points)
    gain = known and known.gain(last.models)
    return dataclasses.replace(stop, gain=gain) if gain and gain.high <= rule.slope else None


def recorded(store: ObjectStore, run: str) -> list[Stop]:
    """Return every decision about a run, under any rule. Raises CorruptObjectError."""
    found = []
    for number in store.numbers(keys.stops(run)):
        key = keys.stop(run, number)
        body = records.read(store, key)
        with decode.decoding(f"{store.url}/{key}", "a decision to end training"):
            found.append(Stop.from_document(body))
    return found


def find(store: ObjectStore, run: str, rule: UntilSpec) -> Stop | None:
    """Return the decision under this rule; None if there is none."""
    mine = rule.model_dump(mode="json")
    return next((stop for stop in recorded(store, run) if stop.rule == mine), None)


def record(store: ObjectStore, run: str, stop: Stop) -> Stop:
    """Record a decision. Returns the one that holds: that of another driver if it was first."""
    while True:
        newest = store.newest(keys.stops(run))
        for earlier in recorded(store, run):
            if earlier.rule == stop.rule:
                return earlier
        if records.create(store, keys.stop(run, newest + 1), stop.document()):
            return stop
