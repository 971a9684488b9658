"""Fit what the outputs say beyond the prior mean B by ridge regression, with more freedom where B is large.

    delta_ji ~ N(0, h v_j s_ji^2 / trace(G)),     outputs - Z (B_j + delta_j) ~ N(0, (1 - h) v_j)

v_j is the variance of the outputs less the prediction by B, G the covariance of the masks, and s_ji is proportional to
(|B_ji| / rms_j + FLOOR)^(1/2), with mean square 1. So h is the fraction of v_j that delta explains, and one number for
all targets. With delta = q u and q = s / sqrt(trace G), the most likely u solves

    (m q G q + (1 - h) / h) u = m q C,        C the covariances of masks and outputs less the prediction by B

which `kernels.shifted` solves for all h at once. Arrays are of the array module of the covariance's rows.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from datamodels.fit.data.covariance import Covariance
from datamodels.fit.kernels import shifted

SHARES = (0.01, 0.03, 0.08, 0.15, 0.25, 0.4, 0.55, 0.7, 0.85)
"""Values of h that are tried. The wide ends cost nothing: all are solved together."""
FLOOR = 0.05
"""Freedom of a weight whose prior mean is 0, before the square root: 0.22 of that of a typical weight."""
CHOICE_STEPS = 40
"""Most steps when h is chosen. The shift of the chosen h has converged long before."""
CHOICE_GAP = 1e-4
"""Gap, at the smallest shift, at which these steps end."""


def spread(prior: np.ndarray, varies: np.ndarray) -> np.ndarray:
    """Return s [a, d], mean square 1 over the columns that vary, 0 for the others; prior [a, d], varies bool[.., d]."""
    count = np.maximum(varies.sum(axis=1, keepdims=True), 1)
    size = np.sqrt((prior**2).sum(axis=1, keepdims=True) / count)
    root = np.sqrt(np.abs(prior) / np.where(size > 0, size, 1) + prior.dtype.type(FLOOR)) * varies
    return root / np.sqrt(np.maximum((root**2).sum(axis=1, keepdims=True) / count, np.finfo(root.dtype).tiny))


def solve(
    prior: np.ndarray,
    covariance: Covariance,
    shares: np.ndarray,
    gap: float,
    steps: int,
    tick: Callable[[], None] = lambda: None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return (delta [s, a, d] for each h of `shares` float64[s], relative duality gaps float64[s, a]).

    Gaps are only computed if there is one h. They and `shares` are NumPy's.

    prior  float32[a, d]
    gap    at which to stop; the gap of the objective in u, over its value at zero, as for the estimator ridge
    """
    found, every, rows = covariance.found, np.arange(len(prior)), covariance.rows
    curvature = found.curvature(rows.center)
    trace = np.maximum(curvature.sum(axis=1, keepdims=True), np.finfo(float).tiny)
    q = (spread(prior, curvature > 0) / np.sqrt(trace)).astype(prior.dtype)
    count = found.count[:, None].astype(prior.dtype)
    along = covariance.multiply(prior, every)
    right = count * q * (found.covariance - along).astype(prior.dtype)
    # The variance of the outputs less the prediction: what delta = 0 leaves.
    explained = np.einsum("ij,ij->i", prior, 2 * found.covariance - along, dtype=np.float64)
    left = found.count * np.maximum(found.variance - explained, np.finfo(np.float32).eps * found.variance)
    shifts = (1 - np.asarray(shares)) / np.asarray(shares)

    def multiply(vectors: np.ndarray) -> np.ndarray:
        return count * q * covariance.multiply(q * vectors, every)

    u = shifted.solve(multiply, right, shifts, gap * shifts.min() * left, steps, tick, rows.xp)
    gaps = np.zeros((len(shifts), len(prior)))
    if len(shifts) == 1:  # the gaps of a choice are of no interest
        residual = right - multiply(u[0]) - prior.dtype.type(shifts[0]) * u[0]
        gaps[0] = rows.host(_square(residual) / np.maximum(shifts[0] * left, np.finfo(np.float64).tiny))
    return q * u, gaps


def _square(vectors: np.ndarray) -> np.ndarray:
    return np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64)
