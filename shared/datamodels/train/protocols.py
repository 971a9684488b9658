"""Define the protocols of trainers. `contract` says what their methods take and return.

The module needs NumPy alone, so that programs of users import it without the packages that runs need.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np


class Trainer(Protocol):
    """The contract for one model at a time."""

    def train(self, subset: np.ndarray, seed: int) -> Any: ...

    def outputs(self, model: Any) -> np.ndarray: ...


class BatchTrainer(Protocol):
    """A trainer of many models at once. `load_trainer` turns a trainer of single models into one.

    models_at_once  the most models that `train_many` is given; smaller after memory has run out
    """

    models_at_once: int

    def train_many(self, subsets: Sequence[np.ndarray], seeds: Sequence[int]) -> Any: ...

    def outputs_many(self, models: Any) -> np.ndarray: ...
