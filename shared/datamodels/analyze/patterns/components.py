"""Find principal components of weight vectors: directions in which targets, or training examples, differ most.

Ilyas et al. 2022, section 5: PCA of datamodel embeddings finds groups of examples that share something. The vectors
stay sparse: Lanczos finds singular vectors of the centred matrix from products with the sparse matrix and its mean.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from datamodels.analyze.patterns.results import Components
from datamodels.analyze.quality.interval import RESAMPLES, TAILS, draws
from datamodels.analyze.quality.progress import Report
from datamodels.errors import InputError

MOST = 100
MAP = 2
"""Components of which the scores of all vectors are returned, to draw a map."""


def components(
    vectors: sparse.csr_array | sparse.csc_array,
    *,
    k: int = 5,
    extremes: int = 10,
    seed: int = 0,
    progress: Report = lambda fraction: None,
) -> Components:
    """Find the k largest principal components of the rows of float[n, d].

    The largest loading of each component, by magnitude, is positive, so that signs are the same on all machines.

    extremes  number of vectors, and of features, to return for each end
    progress  called between steps with the fraction that is done; an exception in it stops the work

    Raises InputError for k not 1 to MOST or not below n and d, for extremes below 1, and if all vectors are equal.
    """
    n, d = vectors.shape
    most = min(MOST, n - 1, d - 1)
    if not 1 <= k <= most:
        raise InputError(f"k = {k}: must be 1 to {most} for {n} vectors of {d} weights")
    if extremes < 1:
        raise InputError(f"extremes = {extremes}: must be at least 1")
    x = vectors.tocsr().astype(np.float64)
    mean = np.asarray(x.sum(axis=0)).ravel() / n
    squares = np.asarray(x.multiply(x).sum(axis=1)).ravel() - 2 * (x @ mean) + mean @ mean  # of the centred rows
    total = squares.sum()
    if total <= 1e-12 * max(x.multiply(x).sum(), 1e-30):
        raise InputError("all vectors are equal or have no weights; components need vectors that differ")
    loadings = _directions(x, mean, k, seed, progress)
    scores = np.asarray(x @ loadings) - mean @ loadings
    progress(0.9)
    explained = scores**2
    share = explained.sum(axis=0) / total
    order = np.argsort(-share, kind="stable")
    share, scores, loadings, explained = share[order], scores[:, order], loadings[:, order], explained[:, order]
    drawn = draws(n, seed, RESAMPLES // 2)
    resampled = np.array([(w @ explained) / max(w @ squares, 1e-300) for w in drawn])
    at = min(extremes, n), min(extremes, d)
    high, low = _ends(scores, at[0])
    high_feature, low_feature = _ends(loadings, at[1])
    return Components(
        share=share,
        interval=np.quantile(resampled, TAILS, axis=0).T,
        high=high,
        low=low,
        high_score=np.take_along_axis(scores.T, high, axis=1).astype(np.float32),
        low_score=np.take_along_axis(scores.T, low, axis=1).astype(np.float32),
        high_feature=high_feature,
        low_feature=low_feature,
        scores=scores[:, :MAP].astype(np.float32),
    )


def _directions(x: sparse.csr_array, mean: np.ndarray, k: int, seed: int, progress: Report) -> np.ndarray:
    """Return float64[d, k]: right singular vectors of x less its mean for the largest singular values, with signs."""
    from scipy.sparse import linalg

    n, d = x.shape
    steps = 0

    def matvec(v: np.ndarray) -> np.ndarray:
        nonlocal steps
        steps += 1
        progress(0.9 * (1 - 0.98**steps))  # the number of steps is not known in advance
        v = v.ravel()
        return x @ v - mean @ v

    centred = linalg.LinearOperator(
        (n, d), matvec=matvec, rmatvec=lambda u: x.T @ u.ravel() - mean * u.sum(), dtype=np.float64
    )
    start = np.random.default_rng(seed).normal(size=min(n, d))
    _, _, right = linalg.svds(centred, k=k, v0=start, solver="arpack")
    loadings = right.T
    strongest = loadings[np.argmax(np.abs(loadings), axis=0), np.arange(k)]
    return loadings * np.sign(strongest)


def _ends(values: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return int32[k, count] twice: rows of the largest, and of the smallest values of each column of [rows, k]."""
    order = np.argsort(-values, axis=0, kind="stable").T.astype(np.int32)
    return order[:, :count].copy(), order[:, ::-1][:, :count].copy()
