"""Define the numbers of a training, and the learning rate of each step."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np

from datamodels.train import options

Schedule = Callable[[float], float]
"""Returns the factor of the learning rate after a fraction, 0 to 1, of the training without its warm-up."""

SCHEDULES: dict[str, Schedule] = {
    "constant": lambda done: 1.0,
    "linear": lambda done: 1 - done,
    "cosine": lambda done: (1 + math.cos(math.pi * done)) / 2,
}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """The numbers of a training. Raises SpecError with one line per fault."""

    epochs: int
    batch_size: int  # examples in a minibatch
    learning_rate: float
    schedule: Schedule
    warmup: float  # fraction of the training in which the learning rate rises from 0
    momentum: float  # of sgd
    weight_decay: float
    clip: float | None  # the largest norm of a model's gradient; longer ones are shortened to it

    def __post_init__(self) -> None:
        rules = {
            "epochs": (self.epochs >= 1, "at least 1"),
            "batch_size": (self.batch_size >= 1, "at least 1"),
            "learning_rate": (0 < self.learning_rate < math.inf, "greater than 0"),
            "warmup": (0 <= self.warmup <= 1, "0 to 1"),
            "momentum": (0 <= self.momentum < 1, "at least 0 and less than 1"),
            "weight_decay": (0 <= self.weight_decay < math.inf, "at least 0"),
            "clip": (self.clip is None or 0 < self.clip < math.inf, "greater than 0, or left out"),
        }
        options.check(vars(self), rules)


def rates(recipe: Recipe, steps: int) -> np.ndarray:
    """Return the learning rate at the middle of each step, float32[steps]."""
    done = (np.arange(steps) + 0.5) / steps
    rising = np.minimum(1, done / recipe.warmup) if recipe.warmup else np.ones(steps)
    after = np.maximum(0, done - recipe.warmup) / max(1 - recipe.warmup, 1 / steps)
    return (recipe.learning_rate * rising * [recipe.schedule(fraction) for fraction in after]).astype(np.float32)
