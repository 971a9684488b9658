"""Hours and money, by arithmetic."""

from __future__ import annotations

import dataclasses

from datamodels.run.specs import RunSpec

HOUR = 3600.0


@dataclasses.dataclass(frozen=True)
class Speed:
    """How fast one device trains.

    each      seconds for one model, of the device: two processes that take 2 s each side by side make it 1 s
    start     seconds of a trainer before its first model is in training
    trainers  processes side by side on the device
    """

    each: float
    start: float = 0.0
    trainers: int = 1


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What training takes.

    models   trained in all
    busy     seconds of devices, starts included
    wall     seconds from the first start to the last commit
    starts   of trainers
    """

    models: int
    busy: float
    wall: float
    starts: int

    @property
    def hours(self) -> float:
        """Device-hours: what is paid for."""
        return self.busy / HOUR

    def cost(self, price: float, spot_discount: float = 0.0) -> float:
        """Money at a price per device-hour, less the discount of 0 to 1 for capacity that may be taken away."""
        return self.hours * price * (1 - spot_discount)


def shortened(seconds: float, share: float) -> float:
    """Seconds of a training on a share of the examples: proportional, for epochs are passes over them."""
    return seconds * share


def on_this_machine(spec: RunSpec, speed: Speed) -> Estimate:
    """By the local runner: its trainers share the chunks out once, and each starts once."""
    workers = min(speed.trainers, spec.chunks)
    shares = [sum(len(spec.chunk_range(c)) for c in range(w, spec.chunks, workers)) for w in range(workers)]
    wall = speed.start + max(shares) * speed.each * speed.trainers
    return Estimate(spec.models, wall, wall, workers)


def on_pods(spec: RunSpec, speed: Speed, pods: int) -> Estimate:
    """By an Indexed Job with so many pods at once, each with a device of its own: every chunk starts anew."""
    busy = spec.chunks * speed.start + spec.models * speed.each
    waves = -(-spec.chunks // pods)
    alone = spec.chunks % pods == 1 or pods == 1  # the last chunk, which may be shorter, in the last wave
    last = spec.chunk_range(spec.chunks - 1 if alone else 0)
    models = (waves - 1) * spec.chunk + len(last)
    return Estimate(spec.models, busy, waves * speed.start + models * speed.each, spec.chunks)


@dataclasses.dataclass(frozen=True)
class Fewer:
    """A run with fewer columns, as many models for each column as before.

    columns   d of that run
    m         models that its fit uses
    saving    share of the device-seconds that it saves
    """

    columns: int
    m: int
    saving: float


def grouped(spec: RunSpec, columns: int, size: int) -> Fewer:
    """Groups of `size` examples as columns: fewer models, each as long as before."""
    return _fewer(spec, columns, max(2, columns // size), 1.0)


def selected(spec: RunSpec, columns: int, share: float) -> Fewer:
    """A share of the pool, chosen by a small proxy model (Coleman et al. 2020): fewer models, each shorter.

    The proxy's own training is not counted: it is one, where a run has thousands.
    """
    return _fewer(spec, columns, max(2, round(columns * share)), share)


def _fewer(spec: RunSpec, columns: int, kept: int, length: float) -> Fewer:
    m = max(10, round(spec.m * kept / columns))
    unseen = spec.models - spec.m
    return Fewer(kept, m, 1 - shortened(m + unseen, length) / spec.models)
