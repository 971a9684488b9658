"""Define recipes of trainings on images: their numbers, and the learning rate of each step."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal, Protocol

import numpy as np

from datamodels.train import options


@dataclasses.dataclass(frozen=True)
class ImageRecipe:
    """The numbers of a training.

    The learning rate rises linearly from 0 to `learning_rate` over the fraction `peak` of the training, then falls
    linearly to 0. With nesterov, `weight_decay` applies to all parameters. Muon keeps the norm of filters fixed and
    decays nothing.

    Raises SpecError with one line per fault.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    peak: float
    momentum: float
    weight_decay: float
    label_smoothing: float  # fraction of the label that is spread over all classes
    flip: Literal["none", "random", "alternate"]  # never, at random in each epoch, or in every other epoch
    translate: int  # most pixels that an image is moved by, each way; reflected at the border
    cutout: int  # side of the blank square, in pixels; 0 for none
    optimiser: Literal["nesterov", "muon"]

    def __post_init__(self) -> None:
        rules = {
            "epochs": (self.epochs >= 1, "at least 1"),
            "batch_size": (self.batch_size >= 1, "at least 1"),
            "learning_rate": (0 < self.learning_rate < math.inf, "greater than 0"),
            "peak": (0 <= self.peak <= 1, "0 to 1"),
            "momentum": (0 <= self.momentum < 1, "at least 0 and less than 1"),
            "weight_decay": (0 <= self.weight_decay < math.inf, "at least 0"),
            "label_smoothing": (0 <= self.label_smoothing < 1, "at least 0 and less than 1"),
            "flip": (self.flip in ("none", "random", "alternate"), "none, random or alternate"),
            "translate": (self.translate >= 0, "at least 0"),
            "cutout": (self.cutout >= 0, "at least 0"),
        }
        options.check(vars(self), rules)


PAPER = ImageRecipe(
    epochs=24,
    batch_size=512,
    learning_rate=0.5,
    peak=5 / 24,
    momentum=0.9,
    weight_decay=5e-4,
    label_smoothing=0.1,
    flip="random",
    translate=2,
    cutout=4,
    optimiser="nesterov",
)
"""ResNet-9 on CIFAR-10, after Ilyas et al. 2022, appendix, and the example of FFCV that they used."""

FAST = dataclasses.replace(
    PAPER,
    epochs=10,
    learning_rate=0.2,
    peak=0.1,
    momentum=0.6,
    weight_decay=0.0,
    label_smoothing=0.2,
    flip="alternate",
    optimiser="muon",
)
"""Fewer epochs, by the means of public CIFAR-10 speed records: a whitening first layer, filters that start as the
identity, mirroring in every other epoch (Jordan 2024, arXiv 2404.00498), orthogonalised updates (Jordan et al. 2024,
Muon)."""

SATELLITE = dataclasses.replace(
    PAPER, epochs=15, learning_rate=0.4, peak=6 / 15, weight_decay=1e-3, label_smoothing=0.0
)
"""ResNet-18 on FMoW, after Ilyas et al. 2022, appendix."""


def rates(recipe: ImageRecipe, steps: int) -> np.ndarray:
    """Return the learning rate at the middle of each step, float32[steps]."""
    done = (np.arange(steps) + 0.5) / steps
    rising = np.minimum(1, done / recipe.peak) if recipe.peak else np.ones(steps)
    falling = np.minimum(1, (1 - done) / (1 - recipe.peak)) if recipe.peak < 1 else np.ones(steps)
    return (recipe.learning_rate * np.minimum(rising, falling)).astype(np.float32)


class Sizes(Protocol):
    """The fields of a recipe that `steps` needs."""

    @property
    def epochs(self) -> int: ...

    @property
    def batch_size(self) -> int: ...


def steps(recipe: Sizes, members: int) -> tuple[int, int]:
    """Return the number of steps of a training on `members` examples, and the number of examples in each.

    Epochs follow each other without a gap: a minibatch may end one epoch and begin the next. So no image is left out of
    an epoch, however few images there are. Only images that do not fill the last minibatch of the training are left
    out.
    """
    rows = min(recipe.batch_size, members)
    return recipe.epochs * members // rows, rows
