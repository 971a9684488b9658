"""Find similar targets, or similar training examples, by weights.

The weight vector of a target is its embedding (Ilyas et al. 2022, section 5): two targets are similar if the same
training examples help and harm them. In the same way, a column of the weights is the embedding of a training example.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy import sparse

from datamodels.analyze.patterns.names import METRICS
from datamodels.errors import InputError, MaskError, TargetRangeError


@dataclasses.dataclass(frozen=True, eq=False)
class Neighbours:
    """The most similar targets or columns.

    index  int32[k]; most similar first
    score  float64[k]; 1 for equal vectors
    """

    index: np.ndarray
    score: np.ndarray


def targets(theta: sparse.csr_array, target: int, *, k: int, metric: str = "cosine") -> Neighbours:
    """Return the k other targets that are most similar to a target; fewer if there are not as many.

    theta   float[n, d]; weights
    metric  "cosine" of the angle between vectors; or "rbf", exp(-|a - b|^2 / (2 s)), where s is the mean of |a|^2 over
            the targets with weights

    Targets without weights are similar to none. Raises TargetRangeError; InputError for k < 1, for another metric, and
    for a target without weights.
    """
    n = theta.shape[0]
    if not 0 <= target < n:
        raise TargetRangeError(f"target {target}: must be 0 to {n - 1}")
    return _nearest(theta, target, f"target {target}", k, metric)


def columns(theta: sparse.csr_array, column: int, *, k: int, metric: str = "cosine") -> Neighbours:
    """Do the same for columns. Raises MaskError for a column that does not exist."""
    d = theta.shape[1]
    if not 0 <= column < d:
        raise MaskError(f"column {column}: must be 0 to {d - 1}")
    return _nearest(theta.T, column, f"column {column}", k, metric)


def _nearest(vectors: sparse.csr_array | sparse.csc_array, row: int, name: str, k: int, metric: str) -> Neighbours:
    if k < 1:
        raise InputError(f"k = {k}: must be at least 1")
    if metric not in METRICS:
        raise InputError(f"metric = {metric!r}: must be {' or '.join(METRICS)}")
    squares = squared_norms(vectors)
    if not squares[row]:
        raise InputError(f"{name}: has no weights, so nothing is similar to it")
    own = vectors.tocsr()[[row]].toarray()[0].astype(np.float64)
    product = np.asarray(vectors @ own).ravel()
    with np.errstate(divide="ignore", invalid="ignore"):
        if metric == "cosine":
            score = product / np.sqrt(squares * squares[row])
        else:
            distance = np.maximum(squares + squares[row] - 2 * product, 0)
            score = np.exp(-distance / (2 * squares[squares > 0].mean()))
    score[squares == 0] = -np.inf
    score[row] = -np.inf
    order = np.argsort(-score, kind="stable")[:k]
    order = order[np.isfinite(score[order])]
    return Neighbours(order.astype(np.int32), score[order])


def squared_norms(vectors: sparse.csr_array | sparse.csc_array) -> np.ndarray:
    """Return float64[n]: squared norms of the rows. In float32, the squares of weights below 1e-23 would be 0."""
    wide = vectors.astype(np.float64)
    return np.asarray(wide.multiply(wide).sum(axis=1)).ravel()
