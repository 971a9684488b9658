"""Count the subsets whose models fail, or whose outputs are all the same, and stop a run that is hopeless.

A few failed models are normal: they are recorded and left out. If the first models all fail, or too many to be chance,
the trainer is at fault, and to go on only costs time. The same is true if no target's output differs between the first
models, or only in digits that storage rounds away. `FirstLook` finds, for the price of a model, outputs that cannot be
repeated. Small models tell whether whole numbers are the same by chance.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Container, Sequence
from typing import Protocol

import numpy as np

from datamodels.errors import ConfigError, SettingsError
from datamodels.run import precision
from datamodels.run.runs import Run
from datamodels.settings import TrainerSettings
from datamodels.train.contract import model_seed

SETTING = f"{TrainerSettings.prefix}_TOLERATED_FAILURES"
DIFFERENCE = f"{TrainerSettings.prefix}_TOLERATED_DIFFERENCE"
GO_ON = f"To train all models nevertheless, set {SETTING}=1"
ENOUGH = TrainerSettings.tolerated_failures
"""Rounding is judged after as many subsets as must fail at this tolerated rate."""
CHANCE = 1e-6
"""Training stops if so many failures are less likely than this at the tolerated rate."""
SAME, SAME_WHOLE = 0.5, 0.9
"""Fraction of the models that may have the same outputs on all targets, and if these are whole numbers: hits and ranks
seldom differ on a few easy targets. So training stops after 20, or after 132, equal models. Hits of models that see
only SMALL_SHARE of a subset do differ, so 20 of these are enough besides the first 20."""
SMALL_SHARE, SMALLEST, SMALL_MODELS = 0.1, 8, 20
"""Fraction of a subset that such models see, the least examples, and how many of them are trained."""
LOOK_AFTER = 4
"""Models whose outputs show how large a difference is."""


class Failures:
    """Counts the subsets that one process trains models on, and those that failed.

    Models of one subset fail together if the subset is to blame, so the first model of each subset counts.

    tolerated  fraction of the subsets that may fail, 0 to 1; with 1, training never stops, whatever the outputs are
    difference most by which outputs of a repeated training may differ, as a fraction of their deviation over models
    looks      whether `look` trains models, to see what outputs follow from

    Raises SettingsError for another fraction or difference.
    """

    def __init__(
        self,
        run: Run,
        tolerated: float = TrainerSettings.tolerated_failures,
        difference: float = TrainerSettings.tolerated_difference,
        *,
        looks: bool = False,
    ):
        if not 0 <= tolerated <= 1:
            raise SettingsError(f"{SETTING}={tolerated}: must be 0 to 1")
        if not difference >= 0:
            raise SettingsError(f"{DIFFERENCE}={difference}: must be a fraction of the spread of outputs, 0 or more")
        self._first_look = FirstLook(run, difference) if looks and tolerated < 1 else None
        self._doubt = Doubt.NONE
        self._run, self._tolerated = run, tolerated
        self._tried = self._failed = 0
        self._last = -1
        self._spread: precision.Spread | None = precision.Spread(run.n, run.dtype) if tolerated < 1 else None
        self._seen: set[int] = set()

    def too_many(self, models: Sequence[int], failed: Container[int]) -> bool:
        """Return whether too many would have failed, if these models were counted, too."""
        return unlikely(*self._with(models, failed), self._tolerated)

    def add(self, models: Sequence[int], failed: dict[int, str]) -> None:
        """Count models in ascending order, and the reasons of the failed ones. Raises ConfigError if it is too many."""
        tried, lost = self._with(models, failed)
        if unlikely(tried, lost, self._tolerated):
            reason = next(iter(failed.values()))
            raise ConfigError(
                f"{self._run.spec.trainer.cls}: models on {lost} of the {tried} subsets so far failed, too many to be "
                f"chance; {reason}. Correct the trainer; or set {SETTING} to the "
                f"fraction that may fail, now {self._tolerated:g}"
            )
        self._tried, self._failed, self._last = tried, lost, self._run.spec.subset_index(models[-1])

    def saw(self, models: Sequence[int], outputs: np.ndarray) -> None:
        """Take outputs float[r, n], as the trainer returned them. Raises ConfigError if no example has any effect."""
        if self._spread is None:
            return
        found = self._spread.add(outputs)
        usable = np.isfinite(precision.stored(outputs, self._run.dtype)).all(axis=1)
        self._seen |= {self._run.spec.subset_index(models[row]) for row in np.flatnonzero(usable).tolist()}
        tried, constant = len(self._seen), found.constant
        where = f"{self._run.spec.trainer.cls}: models on the first {tried} subsets"
        if not constant.all():
            if found.lost and unlikely(tried, tried, ENOUGH):
                raise ConfigError(f"{where}: {found.how_lost}. {GO_ON}")
            if unlikely(tried, tried, SAME):
                self._spread = None  # enough was seen
        elif unlikely(tried, tried, SAME_WHOLE if found.whole else SAME):
            raise ConfigError(f"{where}: {precision.same(self._run.n)}. {GO_ON}")
        elif self._doubt is Doubt.NONE and unlikely(tried, tried, SAME):
            self._doubt = Doubt.OPEN

    def look(self, batches: Trains, models: Sequence[int], subsets: Sequence[np.ndarray], outputs: np.ndarray) -> bool:
        """Train further models if outputs that were seen leave a doubt; return whether it did.

        Takes a trained batch: models, their subsets, and outputs float[r, n].

        Raises ConfigError with the reason to stop, and what training raises.
        """
        if self._first_look is None:
            return False
        looked = self._first_look.after(batches, models, subsets, outputs)
        if self._doubt is not Doubt.OPEN or not np.isfinite(outputs[-1]).all():
            return looked
        self._doubt = Doubt.SETTLED
        self._require_effect(batches, models[-1], subsets[-1], outputs[-1])
        return True

    def _require_effect(self, batches: Trains, model: int, subset: np.ndarray, outputs: np.ndarray) -> None:
        """Train models on small parts of a subset. Raises ConfigError if these have the outputs of all others, too."""
        size, rng = max(SMALLEST, round(SMALL_SHARE * len(subset))), np.random.default_rng(self._run.spec.seed)
        if 2 * size > len(subset):
            return
        alike = 0
        for _ in range(SMALL_MODELS):
            small = batches.again(model, np.sort(rng.choice(subset, size, replace=False)))
            if np.isfinite(small).all():  # so few examples may have one class, on which a trainer may raise
                if (small != outputs).any():
                    return
                alike += 1
        if unlikely(alike, alike, SAME):
            raise ConfigError(
                f"{self._run.spec.trainer.cls}: models on the first {len(self._seen)} subsets, and {alike} on only "
                f"{size} examples each: {precision.same(self._run.n)}. {GO_ON}"
            )

    def _with(self, models: Sequence[int], failed: Container[int]) -> tuple[int, int]:
        """Return the numbers of subsets tried and failed, these models included."""
        tried, lost, last = self._tried, self._failed, self._last
        for model in models:
            subset = self._run.spec.subset_index(model)
            if subset != last:
                tried, lost, last = tried + 1, lost + (model in failed), subset
        return tried, lost


class Doubt(enum.Enum):
    """Whether whole numbers that are the same for all models call for a look at small models."""

    NONE, OPEN, SETTLED = range(3)


class Trains(Protocol):
    """Trains one model; `train.batches` has it."""

    def again(self, model: int, subset: np.ndarray) -> np.ndarray: ...


class FirstLook:
    """Trains the first model of a run once more, and stops a run whose models do not follow from seed and subset.

    The outputs must be the same, or chance does not come from the seed, or something is kept from model to model. Only
    the process that trains the first model looks, once, so a run takes one model more, or three if the first leaves a
    doubt. Whether examples have an effect is not judged here: a few models may have the same outputs by chance.

    difference  as `Failures` takes it
    """

    def __init__(self, run: Run, difference: float = TrainerSettings.tolerated_difference):
        self._run, self._difference = run, difference
        self._firsts = (0, run.spec.m) if run.spec.until else (0,)  # with a rule `until`, models after m are first
        self._spread = precision.Spread(run.n, run.dtype)
        self._known: tuple[int, np.ndarray, np.ndarray] | None = None
        self._done = False

    def after(self, batches: Trains, models: Sequence[int], subsets: Sequence[np.ndarray], outputs: np.ndarray) -> bool:
        """Take a batch as `Failures.look` does. Looks as soon as enough are known, and returns whether it did.

        Raises ConfigError with the reason to stop, and what training raises.
        """
        if self._done:
            return False
        for first in set(self._firsts) & set(models):
            row = list(models).index(first)
            if np.isfinite(outputs[row]).all():
                self._known = first, subsets[row].copy(), outputs[row].astype(np.float64)
        if self._known is not None and self._spread.add(outputs).models >= LOOK_AFTER:
            self._done = True
            self._look(batches, *self._known)
        return self._done

    def _look(self, batches: Trains, model: int, subset: np.ndarray, outputs: np.ndarray) -> None:
        again = batches.again(model, subset)
        if self._apart(again, outputs) <= self._difference:
            return
        # It was trained with other models before, which may round in another order. So compare what was trained alone.
        off = self._apart(batches.again(model, subset), again)
        if off > self._difference:
            by = f", which differ by {off:.2g} of their spread" if math.isfinite(off) else ""
            allowed = f"more than {off:.2g}, now {self._difference:g}" if math.isfinite(off) else "inf"
            who = f"{self._run.spec.trainer.cls}: model {model} (seed {model_seed(self._run.spec.seed, model)})"
            raise ConfigError(
                f"{who}, trained again on its subset with its seed, has other outputs{by}; draw all randomness from "
                "the seed, and keep nothing from one model to the next; `datamodels trainer check` says more. If no "
                f"seed controls it, as the order of sums on a GPU, set {DIFFERENCE} to {allowed}: it is noise"
            )

    def _apart(self, one: np.ndarray, other: np.ndarray) -> float:
        """Return the root mean square difference of outputs, in deviations of outputs over models; 0 for failures."""
        if not (np.isfinite(one).all() and np.isfinite(other).all()):
            return 0.0
        apart = float(np.sqrt(np.square(one.astype(np.float64) - other).mean()))
        return apart / self._spread.deviation if self._spread.deviation else math.inf if apart else 0.0


def unlikely(tried: int, failed: int, rate: float) -> bool:
    """Return whether at least `failed` of `tried` fail with a probability of at most CHANCE, if each does at `rate`.

    By the bound of Chernoff (1952): the probability is at most exp(-tried * D), with D the relative entropy of the
    fraction that failed and the rate. If all fail, it is exactly that.
    """
    share = failed / tried if tried else 0.0
    if share <= rate:
        return False
    if rate == 0:
        return True
    entropy = share * math.log(share / rate)
    if share < 1:
        entropy += (1 - share) * math.log((1 - share) / (1 - rate))
    return tried * entropy >= -math.log(CHANCE) - 1e-9
