"""Prepare inputs for simple models: centre and scale them, and make nonlinear features of them.

Nothing here depends on the outputs of the run's models.
"""

from __future__ import annotations

import numpy as np

from datamodels.fit.data.prior import unit

JITTER = 1e-6
"""Added to the diagonal of the landmarks' kernel matrix, so that it can be factorised if landmarks are equal."""
EXACT = 1000
"""Most rows or features, whichever are fewer, of an exact eigendecomposition, whose time grows with their cube."""
SPARE, ROUNDS = 16, 6
"""Directions of a sketch beyond those that are wanted, and its rounds of power iteration: those axes whose variance is
1.5 times that of the first one left out are then exact to a hundredth."""


def prepared(pool: np.ndarray, others: np.ndarray, components: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (pool float64[N, f], others float64[n, f]), less the pool's mean, over its root mean squared length.

    If there are more than `components` features, both are projected on the first principal components of the pool.
    """
    center = pool.mean(axis=0)
    pool, others = pool - center, others - center
    if pool.shape[1] > components:
        axes = _principal_axes(pool, components)
        pool, others = pool @ axes, others @ axes
    scale = np.sqrt(np.einsum("ij,ij->", pool, pool) / len(pool))
    scale = scale if scale > 0 else 1.0
    return pool / scale, others / scale


def _principal_axes(centred: np.ndarray, count: int) -> np.ndarray:
    """Return the first principal axes of centred rows, float64[f, count], or fewer if there are fewer rows."""
    from scipy import linalg

    rows, f = centred.shape
    count = min(count, rows)
    if min(rows, f) > EXACT:
        return _sketched_axes(centred, count)
    if f <= rows:
        return linalg.eigh(centred.T @ centred, subset_by_index=(f - count, f - 1))[1][:, ::-1]
    values, vectors = linalg.eigh(centred @ centred.T, subset_by_index=(rows - count, rows - 1))
    axes = centred.T @ vectors[:, ::-1]
    return axes / np.sqrt(np.maximum(values[::-1], np.finfo(np.float64).tiny))


def _sketched_axes(centred: np.ndarray, count: int) -> np.ndarray:
    """Return the first principal axes by a random sketch of the columns (Halko, Martinsson and Tropp 2011).

    Takes some products with all rows, and no square matrix: time and memory grow with rows times features.
    """
    from scipy import linalg

    width = min(count + SPARE, *centred.shape)
    found = centred.T @ np.random.default_rng(0).normal(size=(len(centred), width))
    for _ in range(ROUNDS):
        found = centred.T @ (centred @ linalg.qr(found, mode="economic")[0])
    basis = linalg.qr(found, mode="economic")[0]
    return basis @ linalg.svd(centred @ basis, full_matrices=False)[2][:count].T


def with_constant(x: np.ndarray) -> np.ndarray:
    """Return rows with a last column of ones."""
    return np.hstack([x, np.ones((len(x), 1))])


def rbf(a: np.ndarray, b: np.ndarray, gamma: float) -> np.ndarray:
    """Return exp(-gamma ||a_i - b_j||^2), float64[len(a), len(b)]."""
    square = np.einsum("ij,ij->i", a, a)[:, None] + np.einsum("ij,ij->i", b, b) - 2 * a @ b.T
    return np.exp(-gamma * np.maximum(square, 0))


def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the cosines of rows, float64[len(a), len(b)]; 0 for a row of zeros."""
    return unit(a) @ unit(b).T


def nystroem(pool: np.ndarray, others: np.ndarray, landmarks: np.ndarray, gamma: float) -> list[np.ndarray]:
    """Return pool and others as features whose products approximate the RBF kernel (Williams and Seeger 2001).

    landmarks  float64[p, f]; some rows of the pool

    The features [.., p] are less their mean over the pool.
    """
    from scipy import linalg

    kernel = rbf(landmarks, landmarks, gamma)
    kernel[np.diag_indices_from(kernel)] += JITTER
    lower = np.linalg.cholesky(kernel)
    found = [linalg.solve_triangular(lower, rbf(landmarks, x, gamma), lower=True).T for x in (pool, others)]
    center = found[0].mean(axis=0)
    return [x - center for x in found]
