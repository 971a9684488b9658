"""Check a trainer: does it keep the contract, how fast is it, and how noisy are its outputs?"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable

import numpy as np

from datamodels.errors import SpecError
from datamodels.run import designs, precision
from datamodels.run.designs import Design
from datamodels.run.runs import Run
from datamodels.train.batches import Batches, next_batch, unusable
from datamodels.train.contract import OneByOne, models_at_once
from datamodels.train.observer import Observer
from datamodels.train.protocols import BatchTrainer
from datamodels.train.snr import NEAR, Additive, SignalToNoise, additive, signal_to_noise

SMALL_SHARE = 0.1
"""Fraction of a run's subset that the checks of the contract train on."""
SMALL_EXAMPLES = 64
"""The least examples that they train on."""
SEEDS = 4
"""Models that are trained on each subset to measure the SNR."""
NEAR_SEEDS = 2
"""Models that are trained on a subset near to each of these, to see whether effects of examples add up."""
MIN_SUBSETS, MAX_SUBSETS = 8, 100
"""Bounds on the number of subsets for the SNR; time decides between them."""

ROUNDING = 1e-13
"""Outputs that differ by less, as a fraction of the largest, differ by some roundings of float64."""
WORTH_SAYING = 1.2
"""How many times as fast another number of models at once must be to be advised; less may be noise."""


@dataclasses.dataclass(frozen=True)
class Pace:
    """How fast models train in this process.

    first           seconds of the first batch, which may compile code
    each            seconds per model afterwards
    models_at_once  models of one batch
    """

    first: float
    each: float
    models_at_once: int


class Check:
    """Checks one trainer on the data of a run.

    tolerance  largest difference of outputs that counts as equal, as a fraction of their deviation over models
    say        called with the name and the text of each finding

    Methods raise SpecError for a trainer that breaks the contract, with one line per fault, and what `Batches.train`
    raises.
    """

    def __init__(self, run: Run, trainer: BatchTrainer, *, tolerance: float, say: Callable[[str, str], None]):
        self._run, self._trainer, self._tolerance, self._say = run, trainer, tolerance, say
        self._batches = self._batches_of(trainer)

    def contract(self) -> None:
        """Train small models on three subsets: alone, a second time, with another seed, and together."""
        subsets = [self._small_subset(index) for index in range(3)]
        alone = np.concatenate([self._models(self._batches, [i], [subsets[i]]) for i in range(3)])
        self._say("outputs", f"{self._run.n:,} of each model, one per target, all finite")
        # Within targets: how far the means of targets are apart says nothing about a model.
        self._scale = float(np.sqrt(alone.var(axis=0, dtype=np.float64).mean())) or 1.0
        faults = [
            self._check_repeatable(alone[0], subsets[0]),
            self._check_subset_matters(alone[0], subsets),
        ]
        if models_at_once(self._trainer) > 1:
            faults.append(
                self._check_agreement("together", "trained alone and together", self._batches, alone, subsets)
            )
        if _has_both(self._trainer):
            single = self._batches_of(OneByOne(self._trainer))
            faults.append(self._check_agreement("one by one", "of train and of train_many", single, alone, subsets))
        found = [f"trainer.class = {self._run.spec.trainer.cls!r}: {fault}" for fault in faults if fault]
        if found:
            raise SpecError(found)

    def pace(self, seconds: float) -> Pace:
        """Train batches as a run would for about `seconds`; at least two batches."""
        size = next_batch(min(self._run.spec.sub_chunk, self._run.spec.models), self._batches.models_at_once)
        timed: list[float] = []
        while len(timed) < 2 or sum(timed[1:]) < seconds:
            started = time.perf_counter()
            models = range(len(timed) * size, (len(timed) + 1) * size)
            self._models(self._batches, models, [self._subset(model) for model in models])
            timed.append(time.perf_counter() - started)
        return Pace(timed[0], sum(timed[1:]) / (len(timed) - 1) / size, self._batches.models_at_once)

    def at_once(self, seconds: float) -> None:
        """Say whether another number of models at once would be faster, if the trainer can try it by `paces`.

        The number is an option, and no choice of the trainer, because sums are rounded in another order with it.
        """
        paces = getattr(self._trainer, "paces", None)
        if not callable(paces):
            return
        found = paces(self._subset(0), seconds / 4)
        if len(found) == 1:
            return
        best, current = min(found, key=found.__getitem__), models_at_once(self._trainer)
        nearest = min(found, key=lambda tried: abs(tried - current))
        tried = ", ".join(f"{models}: {seconds:.2g} s" for models, seconds in found.items())
        gain = found[nearest] / found[best]
        advice = f"; models_at_once: {best} is {gain:.2g} times as fast as {nearest}" if gain > WORTH_SAYING else ""
        self._say("at once", f"seconds per model with so many at once: {tried}{advice}")

    def noise(self, seconds: float, each: float) -> tuple[SignalToNoise, Additive]:
        """Return the SNR of stored outputs, and how far effects of examples add up.

        They come from as many models as train in about `seconds` at `each` seconds per model.

        Says how many targets are stored too coarsely.
        """
        subsets = int(np.clip(seconds / (each * (SEEDS + NEAR_SEEDS)), MIN_SUBSETS, MAX_SUBSETS))
        design, generator = self._run.design, np.random.default_rng(self._run.spec.seed)
        columns = [designs.subset(design, index) for index in range(subsets)]
        near = [_near(design, chosen, generator) for chosen in columns]
        subsets_of = [(columns, SEEDS), (near, NEAR_SEEDS)]
        chosen = [design.members(one) for several, seeds in subsets_of for one in several for _ in range(seeds)]
        outputs = self._trained(self._batches, range(len(chosen)), chosen)
        coarse = int(np.count_nonzero(precision.spread(outputs, self._run.dtype).coarse))
        self._say("storage", _storage(coarse, self._run))
        first, other = np.split(precision.stored(outputs, self._run.dtype), [subsets * SEEDS])
        first = first.reshape(subsets, SEEDS, -1)
        return signal_to_noise(first), additive(first, other.reshape(subsets, NEAR_SEEDS, -1))

    def _check_repeatable(self, first: np.ndarray, subset: np.ndarray) -> str | None:
        again = self._distance(first, self._models(self._batches, [0], [subset])[0])
        other = self._distance(first, self._models(self._batches, [3], [subset])[0])
        if again > self._tolerance:
            return (
                f"the same subset and seed give outputs that differ by {again:.2g} of their spread, "
                f"{self._tolerance:g} allowed; draw all randomness from the seed, or allow more with --tolerance"
            )
        self._say("repeatable", f"to {again:.1g} of the outputs' spread, with the same subset and seed")
        known = f"moves outputs by {other:.2g} of their spread" if other > self._tolerance else "changes nothing"
        self._say("seed", f"another one {known}")
        return None

    def _check_subset_matters(self, first: np.ndarray, subsets: list) -> str | None:
        moved = self._distance(first, self._models(self._batches, [0], [subsets[1]])[0])
        if moved <= self._tolerance:
            one, other = (self._trained(self._batches, [0], [subset]) for subset in subsets[:2])
            differ, size = (float(np.abs(part).max()) for part in (one - other, one))
            if 0 < differ < ROUNDING * size:
                return (
                    f"outputs of two subsets differ by {differ / size:.1g} of their size, as rounding does: models do "
                    "not depend on the subset, or fit all examples exactly, so there is nothing to explain"
                )
            if (one != other).any():
                return f"{self._run.dtype} rounds away all that the subset changes in the outputs; {precision.RESCALE}"
            return f"outputs do not depend on the subset; train on the given examples only; {precision.ALIKE}"
        self._say("subset", f"another one moves outputs by {moved:.2g} of their spread")
        return None

    def _check_agreement(self, name: str, what: str, batches: Batches, alone: np.ndarray, subsets: list) -> str | None:
        off = self._distance(alone, self._models(batches, range(3), subsets))
        if off > self._tolerance:
            return (
                f"outputs of models {what} differ by {off:.2g} of their spread, {self._tolerance:g} allowed; a model "
                "may depend only on its own subset and seed"
            )
        self._say(name, f"models {what} agree, to {off:.1g} of the spread")
        return None

    def _distance(self, a: np.ndarray, b: np.ndarray) -> float:
        return float(np.abs(a.astype(np.float64) - b).max()) / self._scale

    def _models(self, batches: Batches, models, subsets) -> np.ndarray:
        """Train models and return their outputs as they come back from storage. Raises SpecError if some cannot be."""
        return precision.stored(self._trained(batches, models, subsets), self._run.dtype)

    def _trained(self, batches: Batches, models, subsets) -> np.ndarray:
        """Train models and return their outputs, float[r, n]. Raises SpecError if some cannot be stored."""
        outputs = batches.train(models, subsets)
        faults = unusable(models, outputs, self._run.dtype) | batches.raised
        if faults:
            model, why = next(iter(faults.items()))
            raise SpecError(
                f"trainer.class = {self._run.spec.trainer.cls!r}: {len(faults)} of {len(models)} models failed, model "
                f"{model} on a subset of {len(subsets[list(models).index(model)])} examples: {why}"
            )
        return outputs

    def _batches_of(self, trainer: BatchTrainer) -> Batches:
        return Batches(self._run, trainer, threading.Event(), Observer())

    def _subset(self, index: int) -> np.ndarray:
        return self._run.design.members(designs.subset(self._run.design, index))

    def _small_subset(self, index: int) -> np.ndarray:
        """Return some members of a subset, evenly spread, so that data sorted by class keeps all classes."""
        members = self._subset(index)
        size = min(len(members), max(SMALL_EXAMPLES, round(SMALL_SHARE * len(members))))
        return members[np.linspace(0, len(members) - 1, size).astype(int)]


def _near(design: Design, columns: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Return a subset, as large in each stratum, whose mask has a correlation of NEAR with that of `columns`."""
    mask = np.zeros(design.columns, dtype=bool)
    mask[columns] = True
    for free, _ in design.strata:
        inside, outside = free[mask[free]], free[~mask[free]]
        exact = (1 - NEAR) * len(inside) * len(outside) / max(1, len(free))
        moved = int(exact + generator.random())  # so that it is exact on average
        mask[generator.choice(inside, moved, replace=False)] = False
        mask[generator.choice(outside, moved, replace=False)] = True
    return np.flatnonzero(mask)


def _storage(coarse: int, run: Run) -> str:
    if not coarse:
        return f"{run.dtype} is exact enough for all {run.n:,} targets"
    return precision.rounded(coarse, run.n, run.dtype)


def _has_both(trainer: object) -> bool:
    return all(callable(getattr(trainer, method, None)) for method in ("train", "outputs", "train_many"))
