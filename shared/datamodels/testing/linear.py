"""Define a data set and trainers whose outputs are linear in the subset, so that datamodels are exact.

Specs name them as `datamodels.testing.linear:load` and `datamodels.testing.linear:Linear`. They import little, so that
processes start fast.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from datamodels.run import runs, specs
from datamodels.run.dataset import Dataset, Targets
from datamodels.run.runs import Run
from datamodels.storage.local import LocalStore
from datamodels.testing import fitted

D, N = 40, 6
"""Training examples and, by default, test examples."""

Models = Sequence[tuple[np.ndarray, int]]
"""Trained models: the subset and the seed of each."""


def load(targets: int = N) -> Dataset:
    """Load D training examples in 4 classes, and some targets, all of class 1."""
    x = np.arange(D + targets, dtype=np.float32)[:, None]
    y = np.arange(D + targets) % 4
    return Dataset(x=x[:D], y=y[:D], x_test=x[D:], y_test=np.ones(targets, dtype=int))


def theta(n: int = N) -> np.ndarray:
    """Return float32[n, d]: the true weights.

    The last target is wrong whatever the subset is. The last but one has no weights, so that nothing makes it wrong.
    """
    weights = np.random.default_rng(5).normal(0.5, 1, size=(n, D)).astype(np.float32)
    weights[-2] = 0
    weights[-1] = -np.abs(weights[-1])
    return weights


class Linear:
    """Output j is j + theta[j] . mask + noise of the seed. So intercepts are those that `fitted.commit_fit` writes.

    Training one model takes `pause` seconds, for tests in which something happens meanwhile.
    """

    models_at_once = 8

    def __init__(self, dataset: Dataset, targets: Targets, noise: float = 0.1, pause: float = 0.0):
        self.n, self.noise, self.pause = len(targets), noise, pause

    def train_many(self, subsets: Sequence[np.ndarray], seeds: Sequence[int]) -> Models:
        time.sleep(self.pause * len(subsets))
        return list(zip(subsets, seeds, strict=True))

    def outputs_many(self, models: Models) -> np.ndarray:
        weights, intercept = theta(self.n), np.arange(self.n)
        return np.array(
            [
                weights[:, subset].sum(axis=1)
                + intercept
                + self.noise * np.random.default_rng(seed).normal(size=self.n)
                for subset, seed in models
            ]
        )


class Diverging(Linear):
    """A trainer whose models of odd seeds have infinite outputs."""

    def outputs_many(self, models: Models) -> np.ndarray:
        odd = np.array([seed % 2 for _, seed in models], dtype=bool)
        return np.where(odd[:, None], np.inf, super().outputs_many(models))


class Labelled(Linear):
    """A trainer that uses labels: the effects of an example change sign if its label is not that of `load`."""

    def __init__(self, dataset: Dataset, targets: Targets, noise: float = 0.1):
        super().__init__(dataset, targets, noise)
        self.sign = np.where(dataset.y == load().y, 1, -1)

    def outputs_many(self, models: Models) -> np.ndarray:
        wrong = [subset[self.sign[subset] < 0] for subset, _ in models]
        return super().outputs_many(models) - 2 * np.array([theta(self.n)[:, subset].sum(axis=1) for subset in wrong])


def make_run(**fields: Any) -> Run:
    """Make a run of these models. `fields` are fields of its spec."""
    document = {
        "name": "linear",
        "dataset": {"load": f"{__name__}:load"},
        "trainer": {"class": f"{__name__}:Linear"},
        "m": 100,
    }
    parsed = specs.parse(document | fields)
    return runs.resolve(parsed, load())


def make_store(folder: str | Path, **fields: Any) -> tuple[LocalStore, Run]:
    """Make a store in a folder with a run whose fit has the true weights; return the store and the run."""
    store, run = LocalStore(folder), make_run(**fields)
    runs.create(store, run)
    fitted.commit_fit(store, run, theta(run.n))
    return store, run
