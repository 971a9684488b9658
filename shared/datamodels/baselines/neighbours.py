"""Score examples by their similarity to the target: in the input, or in the last hidden layer of trained networks.

Similarity is exp(-|a - b|^2 / (2 s^2)), where s is the median distance of a target to its NEAR-th nearest example. The
score is positive if the labels agree, and negative if they do not: the nearest examples of another class harm most.
"""

from __future__ import annotations

import numpy as np

from datamodels.baselines.context import Context, Trained
from datamodels.fit.data import examples

NEAR = 10
"""Rank of the example whose distance to the target sets s."""


def inputs(context: Context) -> np.ndarray:
    """Return float32[n, examples]: scores by the features of `fit.features`, by default x. Raises SpecError."""
    pool, targets = (
        examples.features(context.run, x).astype(np.float32) for x in (context.dataset.x, context.targets.x)
    )
    return _agreement(context.run.target_labels, context.run.labels) * similarity(targets, pool)


def representations(trained: Trained) -> np.ndarray:
    """Return float32[n, examples]: scores by the inputs of the last layer, the mean over models."""
    total: np.ndarray = np.zeros((1, 1), dtype=np.float32)
    for found in trained.gradients():
        pool, targets = found.representations()
        total = total + similarity(targets, pool)
    return _agreement(*trained.labels) * total / len(trained.models)


def similarity(targets: np.ndarray, pool: np.ndarray) -> np.ndarray:
    """Return float32[n, e]: the similarity of features [n, f] and [e, f]; 1 if they are equal."""
    squares = (targets**2).sum(axis=1)[:, None] + (pool**2).sum(axis=1) - 2 * (targets @ pool.T)
    squares = np.maximum(squares, 0)
    near = np.median(np.partition(squares, min(NEAR, len(pool)) - 1, axis=1)[:, min(NEAR, len(pool)) - 1])
    return np.exp(-squares / (2 * max(float(near), float(np.finfo(np.float32).tiny)))).astype(np.float32)


def _agreement(targets: np.ndarray | None, pool: np.ndarray | None) -> np.ndarray:
    """Return float32[n, examples] of labels int[n] and int[examples]: 1 if they agree, else -1.

    Returns float32[1, 1], a 1, if there are no labels.
    """
    if targets is None or pool is None:
        return np.ones((1, 1), dtype=np.float32)
    return np.where(targets[:, None] == pool, 1, -1).astype(np.float32)
