"""Define a data set of the shape of CIFAR-10, and a trainer that makes outputs from a planted sparse truth.

A model is its subset. Its output on a target is the sum of the target's planted weights of the examples in the subset,
and noise of the model's seed. One core makes thousands of models a second, with the masks of all examples.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from datamodels.fit.kernels import membership
from datamodels.outputs import Output
from datamodels.run import designs
from datamodels.run.dataset import Dataset, Targets

SIDE, CLASSES = 32, 10
"""Pixels of a picture's sides, and classes."""
MATTER = 100
"""Examples with an effect on a target, at most a tenth of all."""

Models = tuple[np.ndarray, Sequence[int]]
"""Masks bool[r, d] and seeds of r models."""


def load(examples: int, targets: int) -> Dataset:
    """Load pictures in ten classes: a pattern for each class, with noise."""
    rng, count = np.random.default_rng(0), examples + targets
    y = np.arange(count) % CLASSES
    patterns = rng.integers(32, 208, (CLASSES, SIDE // 8, SIDE // 8, 3), dtype=np.uint8).repeat(8, 1).repeat(8, 2)
    noise = np.frombuffer(rng.bytes(count * SIDE * SIDE * 3), dtype=np.uint8).reshape(count, SIDE, SIDE, 3)
    x = patterns[y] + (noise & 31)
    names = tuple(f"class {i}" for i in range(CLASSES))
    return Dataset(
        x[:examples],
        y[:examples],
        x[examples:],
        y[examples:],
        label_names=names,
        image_shape=(SIDE, SIDE, 3),
        image_max=255.0,
    )


def truth(d: int, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the planted columns int32[n, k], their weights float32[n, k], and the deviation of noise float32[n].

    Weights are heavy-tailed. Outputs of models have a variance of 1, of which weights explain 30% to 60%.
    """
    rng, k = np.random.default_rng(1), max(1, min(MATTER, d // 10))
    columns = np.stack([np.sort(rng.choice(d, k, replace=False)) for _ in range(n)]).astype(np.int32)
    weights, share = rng.standard_t(2.5, size=(n, k)), rng.uniform(0.3, 0.6, size=(n, 1))
    weights *= 2 * np.sqrt(share / (weights**2).sum(axis=1, keepdims=True))  # a column of bits has a variance of 1/4
    return columns, weights.astype(np.float32), np.sqrt(1 - share[:, 0]).astype(np.float32)


class Planted:
    """Trains models of the planted truth. Outputs below 0 are wrong, as half of them are on some targets."""

    models_at_once = 128
    output = Output("planted output", higher_is_better=True, threshold=0.0)

    def __init__(self, dataset: Dataset, targets: Targets):
        self._d, self._n = len(dataset.y), len(targets)
        columns, weights, self._noise = truth(self._d, self._n)
        self._indptr = np.arange(self._n + 1) * columns.shape[1]
        self._columns, self._weights = columns.ravel(), weights.ravel()
        self._intercept = (np.linspace(0, 3, self._n) - weights.sum(axis=1) / 2).astype(np.float32)

    def train_many(self, subsets: Sequence[np.ndarray], seeds: Sequence[int]) -> Models:
        masks = np.zeros((len(subsets), self._d), dtype=bool)
        for mask, subset in zip(masks, subsets, strict=True):
            mask[subset] = True
        return masks, seeds

    def outputs_many(self, models: Models) -> np.ndarray:
        masks, seeds = models
        words = membership.words_of(designs.pack(masks), self._d)
        sparse = self._indptr, self._columns, self._weights
        found = membership.sums(*sparse, np.arange(self._n), words, len(masks)).astype(np.float32) + self._intercept
        for outputs, seed in zip(found, seeds, strict=True):
            noise = np.random.Generator(np.random.SFC64(seed)).standard_normal(self._n, dtype=np.float32)
            outputs += noise * self._noise
        return found
