"""Compute the time and the cost of training from the speed of a device."""

from __future__ import annotations

import dataclasses

from datamodels.run.specs import RunSpec

HOUR = 3600.0


@dataclasses.dataclass(frozen=True)
class Speed:
    """Speed of training on one device.

    each      seconds of the device per model: if two processes take 2 s per model each, it is 1 s
    start     seconds from the start of a trainer to its first model
    trainers  number of processes in parallel on the device
    """

    each: float
    start: float = 0.0
    trainers: int = 1


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Time that training takes.

    models   number of models
    busy     seconds of all devices together, including the starts of trainers
    wall     seconds from the first start to the last commit
    starts   number of starts of trainers
    """

    models: int
    busy: float
    wall: float
    starts: int

    @property
    def hours(self) -> float:
        """Device-hours: hours of all devices together, on which the cost depends."""
        return self.busy / HOUR

    def cost(self, price: float, spot_discount: float = 0.0) -> float:
        """Return the cost at a price per device-hour, less the discount, 0 to 1, of spot capacity."""
        return self.hours * price * (1 - spot_discount)


def shortened(seconds: float, share: float) -> float:
    """Return the seconds of a training on a share of the examples: proportional, since epochs are passes over them."""
    return seconds * share


def on_this_machine(spec: RunSpec, speed: Speed) -> Estimate:
    """Estimate training by the local runner. Each of its trainers starts once, and gets a fixed share of the chunks."""
    workers = min(speed.trainers, spec.chunks)
    shares = [sum(len(spec.chunk_range(c)) for c in range(w, spec.chunks, workers)) for w in range(workers)]
    wall = speed.start + max(shares) * speed.each * speed.trainers
    return Estimate(spec.models, wall, wall, workers)


def on_pods(spec: RunSpec, speed: Speed, pods: int) -> Estimate:
    """Estimate training by an Indexed Job with `pods` in parallel, each with its own device. Each chunk is a start."""
    busy = spec.chunks * speed.start + spec.models * speed.each
    waves = -(-spec.chunks // pods)
    alone = spec.chunks % pods == 1 or pods == 1  # the last wave has only the last chunk, which may be shorter
    last = spec.chunk_range(spec.chunks - 1 if alone else 0)
    models = (waves - 1) * spec.chunk + len(last)
    return Estimate(spec.models, busy, waves * speed.start + models * speed.each, spec.chunks)


@dataclasses.dataclass(frozen=True)
class Fewer:
    """A run with fewer columns, but as many models per column.

    columns   d of that run
    m         models that its fit uses
    saving    share of the device-seconds that it saves
    """

    columns: int
    m: int
    saving: float


def grouped(spec: RunSpec, columns: int, size: int) -> Fewer:
    """Estimate the run with groups of `size` examples as columns: fewer models, which take as long each."""
    return _fewer(spec, columns, max(2, columns // size), 1.0)


def selected(spec: RunSpec, columns: int, share: float) -> Fewer:
    """Estimate the run on a share of the pool, chosen by a small proxy model (Coleman et al. 2020).

    It has fewer models, and each takes less time. The training of the proxy is not counted: it is one model, and a run
    has thousands.
    """
    return _fewer(spec, columns, max(2, round(columns * share)), share)


def _fewer(spec: RunSpec, columns: int, kept: int, length: float) -> Fewer:
    m = max(10, round(spec.m * kept / columns))
    unseen = spec.models - spec.m
    return Fewer(kept, m, 1 - shortened(m + unseen, length) / spec.models)
