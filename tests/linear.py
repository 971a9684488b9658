"""A world in which datamodels are right: outputs are linear in the subset, and a run has the true weights."""

import time

import numpy as np

from datamodels.run import runs, specs
from datamodels.storage.local import LocalStore
from datamodels.train import Dataset
from tests import fitted

D, N = 40, 6


def load(targets=N):
    x = np.arange(D + targets, dtype=np.float32)[:, None]
    y = np.arange(D + targets) % 4
    return Dataset(x=x[:D], y=y[:D], x_test=x[D:], y_test=np.ones(targets, dtype=int))


def theta(n=N):
    """float32[n, d]: the last target is always wrong; the last but one nothing can make wrong."""
    weights = np.random.default_rng(5).normal(0.5, 1, size=(n, D)).astype(np.float32)
    weights[-2] = 0
    weights[-1] = -np.abs(weights[-1])
    return weights


class Linear:
    """Output j is j + theta[j] . mask + noise of the seed, as `fitted.commit_fit` has its intercepts.

    Each model takes `pause` seconds, so that there is time for something to happen meanwhile.
    """

    batch = 8

    def __init__(self, dataset, targets, noise=0.1, pause=0.0):
        self.n, self.noise, self.pause = len(targets), noise, pause

    def train_many(self, subsets, seeds):
        time.sleep(self.pause * len(subsets))
        return list(zip(subsets, seeds, strict=True))

    def outputs_many(self, models):
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
    """Every model gives infinity, but for those of even seeds."""

    def outputs_many(self, models):
        odd = np.array([seed % 2 for _, seed in models], dtype=bool)
        return np.where(odd[:, None], np.inf, super().outputs_many(models))


class Labelled(Linear):
    """An example whose label is not that of `load` does to a target the contrary of what it would do."""

    def __init__(self, dataset, targets, noise=0.1):
        super().__init__(dataset, targets, noise)
        self.sign = np.where(dataset.y == load().y, 1, -1)

    def outputs_many(self, models):
        wrong = [subset[self.sign[subset] < 0] for subset, _ in models]
        return super().outputs_many(models) - 2 * np.array([theta(self.n)[:, subset].sum(axis=1) for subset in wrong])


def make_run(**fields):
    document = {
        "name": "linear",
        "dataset": {"load": "tests.linear:load"},
        "trainer": {"class": "tests.linear:Linear"},
        "m": 100,
    }
    parsed = specs.parse(document | fields)
    return runs.resolve(parsed, load())


def make_store(folder, **fields):
    """(store, run) with true weights as its fit."""
    store, run = LocalStore(folder), make_run(**fields)
    runs.create(store, run)
    fitted.commit_fit(store, run, theta(run.n))
    return store, run
