"""Combine features of pairs to a prior mean of the weights, with few numbers fitted to the outputs of all targets.

With the features F_k [a, d], the centred masks Z and the centred outputs y of a targets,

    beta = argmin sum_j ||y_j - Z sum_k beta_k F_kj||^2 / var(y_j)          one number for each feature
    B_j  = c_j sum_k beta_k F_kj,   c_j = (B_j . C_j + s) / (B_j' G B_j + s)     one number for each target

with G and C_j the covariances of the masks, and of masks and outputs. c_j minimises the squared error of target j with
a pull towards 1; s is SHRINK times the mean over targets of the same product with c = 1. So c_j stays near 1 for
targets about which the prior says little. m outputs of n targets decide about ten numbers beta: they are stable from
100 models on.

Arrays with an entry for each target are of the array module of the covariance's rows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from types import ModuleType

import numpy as np

from datamodels.fit.data.covariance import Covariance

SHRINK = 3.0
"""Strength of the pull of the scale of one target towards 1, in typical targets."""
RIDGE = 1e-3
"""Added to the diagonal of the equations of beta, over that of features of unit variance: features are similar."""


@dataclasses.dataclass(frozen=True, eq=False)
class Mean:
    """What all targets share of the prior mean.

    beta     float64[K]
    typical  s over SHRINK: mean of B_j' G B_j
    """

    beta: np.ndarray
    typical: float


def fit(features: np.ndarray, covariance: Covariance, variance: np.ndarray, count: int | None = None) -> Mean:
    """Fit what all targets share.

    features    float32[K, a, d] of the targets of `covariance`
    variance    float64[a], above 0; by which squared errors of targets are divided
    count       number of features that are used, the first ones; the others get beta 0. By default all
    """
    return fits(features, covariance, variance, [len(features) if count is None else count])[0]


def fits(features: np.ndarray, covariance: Covariance, variance: np.ndarray, counts: Sequence[int]) -> list[Mean]:
    """Return what `fit` does for each of several counts."""
    rows, products = covariance.rows, _multiplied(features, covariance)
    root = np.sqrt(variance)[:, None].astype(features.dtype)
    k = len(features)
    scaled, flat = (products / root).reshape(k, -1), (features / root).reshape(k, -1)
    square = rows.host(scaled @ flat.T).astype(np.float64)
    right = rows.host(flat @ (covariance.found.covariance / root).astype(features.dtype).ravel())
    scale = np.sqrt(np.maximum(np.diag(square), 0))
    scale = np.where(scale > 0, scale, np.inf)  # a feature that is 0 everywhere gets beta 0
    square, right = square / scale / scale[:, None], right / scale
    square = (square + square.T) / 2 + RIDGE * np.eye(k)

    def mean_of(count: int) -> Mean:
        beta = np.zeros(k)
        beta[:count] = np.linalg.solve(square[:count, :count], right[:count]) / scale[:count]
        guess, along = _combined(features, beta, rows.xp), rows.xp.tensordot(rows.xp.asarray(beta), products, 1)
        aligned, explained = _dot(guess, covariance.found.covariance), _dot(guess, along)
        total = float((explained / variance).sum())
        pooled = float((aligned / variance).sum()) / total if total > 0 else 0.0
        return Mean(beta * pooled, float(explained.mean()) * pooled**2)

    return list(map(mean_of, counts))


def weights(features: np.ndarray, mean: Mean, covariance: Covariance) -> np.ndarray:
    """Return the prior means B, float32[a, d], of the targets of `covariance`."""
    guess = _combined(features, mean.beta, covariance.rows.xp)
    explained = _dot(guess, covariance.multiply(guess, np.arange(len(guess))))
    pull = SHRINK * mean.typical
    scale = (_dot(guess, covariance.found.covariance) + pull) / np.maximum(explained + pull, np.finfo(float).tiny)
    return guess * scale[:, None].astype(guess.dtype)


def _combined(features: np.ndarray, beta: np.ndarray, xp: ModuleType) -> np.ndarray:
    """Return sum_k beta_k F_k, float32[a, d]."""
    return xp.tensordot(xp.asarray(beta.astype(features.dtype)), features, 1)


def _multiplied(features: np.ndarray, covariance: Covariance) -> np.ndarray:
    k, a, d = features.shape
    if covariance.masks is None:  # one pass over the rows serves all features
        return covariance.multiply(features.reshape(k * a, d), np.tile(np.arange(a), k)).reshape(features.shape)
    return covariance.rows.xp.stack([covariance.multiply(feature, np.arange(a)) for feature in features])


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.einsum("ij,ij->i", a, b, dtype=np.float64)
