"""Compute influence functions of two simple models of the labels, given the inputs (Koh and Liang 2017).

Let w minimise the mean loss of N examples plus lambda/2 ||w||^2, and H be the Hessian there. One example more, with the
gradient g_i of its loss, moves w by -H^-1 g_i / N. So it moves a function f_j of w by -(grad f_j)' H^-1 g_i / N.

- `Logistic` is multinomial logistic regression; f_j is the margin of a target: the log-odds of its label against all
  other classes, weighed by their probabilities.
- `Ridge` is ridge regression; f_j is the prediction of a target.

The models are convex and small, so each takes milliseconds. The last feature is expected to be a constant.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from types import ModuleType
from typing import Self

import numpy as np

STEPS = 300
"""Most steps of L-BFGS (Liu and Nocedal 1989). Optima take 20 to 60."""
GRADIENT = 3e-5
"""Largest gradient at the optimum. The weights, which are of size 1, are then within a few thousandths."""


@dataclasses.dataclass(frozen=True, eq=False)
class Logistic:
    """A multinomial logistic regression at its optimum.

    weights  float64[q, k]
    factor   Cholesky factor of the Hessian, as `scipy.linalg.cho_factor` returns it, float32[q (k - 1), q (k - 1)]: in
             the directions in which probabilities change. If the scores of all classes rise alike, they do not, and no
             gradient of a loss points there
    rows     N, the number of examples of the fit
    """

    weights: np.ndarray
    factor: tuple[np.ndarray, bool]
    rows: int

    @classmethod
    def fits(
        cls, x: np.ndarray, hot: np.ndarray, subsets: np.ndarray, lambda_: float, starts: Sequence[Self] = ()
    ) -> list[Self]:
        """Fit a model to each of several subsets of the examples.

        All models are one problem of L-BFGS: that takes as many steps as one of them alone, and half the time.

        x        float64[N, q]
        hot      float64[N, k]; 1 for the class of each example
        subsets  int64[s, r]; examples of each subset
        starts   models of the same subsets to start from; none for zero weights
        """
        from scipy import linalg, optimize  # take half a second, which services that only plan fits need not wait for

        (count, rows), k = subsets.shape, hot.shape[1]
        given, classes = x[subsets], hot[subsets]
        across, shape = np.swapaxes(given, 1, 2), (count, x.shape[1], k)

        def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
            weights = flat.reshape(shape)
            p = _softmax(given @ weights)
            likely = np.maximum((p * classes).sum(axis=-1), np.finfo(np.float64).tiny)
            gradient = across @ (p - classes) / rows + lambda_ * weights
            return float(lambda_ / 2 * flat @ flat - np.log(likely).sum() / rows), gradient.ravel()

        first = np.stack([model.weights for model in starts]) if starts else np.zeros(shape)
        flat, _, _ = optimize.fmin_l_bfgs_b(objective, first.ravel(), pgtol=GRADIENT, maxiter=STEPS)

        models = []
        for part, weights in zip(given, np.asarray(flat).reshape(shape), strict=True):
            hessian = _hessian(part, _softmax(part @ weights), lambda_)
            models.append(cls(weights, linalg.cho_factor(hessian, overwrite_a=True, check_finite=False), rows))
        return models

    def probabilities(self, x: np.ndarray) -> np.ndarray:
        return _softmax(x @ self.weights)

    def influence(
        self, x: np.ndarray, missing: np.ndarray, x_targets: np.ndarray, labels: np.ndarray, xp: ModuleType = np
    ) -> np.ndarray:
        """Return by how much each example raises the margin of each target, float32[t, d] of an array module.

        x        float32[d, q] of the array module
        missing  float32[d, k] of the array module; what the probabilities of each example lack to 1 for its class, and
                 to 0 for others
        labels   int64[t]; classes of the targets; -1 for a class that is not among the k
        """
        from scipy import linalg

        t, k, directions = len(x_targets), missing.shape[1], _directions(missing.shape[1])
        slopes = -_others(x_targets @ self.weights, labels)
        known = labels >= 0
        slopes[known, labels[known]] = 1
        gradients = x_targets.T[:, None, :] * (slopes @ directions).T[None, :, :]
        turned = linalg.cho_solve(self.factor, gradients.reshape(-1, t).astype(np.float32), check_finite=False)
        turned = turned.reshape(-1, k - 1, t)
        found, missing = xp.zeros((t, len(x)), dtype=np.float32), missing @ xp.asarray(directions.astype(np.float32))
        for c in range(k - 1):
            found += (xp.asarray(np.ascontiguousarray(turned[:, c].T)) @ x.T) * missing[:, c]
        return found / self.rows


@dataclasses.dataclass(frozen=True, eq=False)
class Ridge:
    """A ridge regression of standardised labels.

    weights  float64[q, k]
    factor   Cholesky factor of the Hessian, as `scipy.linalg.cho_factor` returns it
    rows     N, the number of examples of the fit
    """

    weights: np.ndarray
    factor: tuple[np.ndarray, bool]
    rows: int

    @classmethod
    def fit(cls, x: np.ndarray, y: np.ndarray, lambda_: float) -> Self:
        """Fit labels float64[N, k] to x float64[N, q]."""
        from scipy import linalg

        hessian = x.T @ x / len(x)
        hessian[np.diag_indices_from(hessian)] += lambda_
        factor = linalg.cho_factor(hessian)
        return cls(linalg.cho_solve(factor, x.T @ y / len(x)), factor, len(x))

    def leverage(self, x: np.ndarray, x_targets: np.ndarray, xp: ModuleType = np) -> np.ndarray:
        """Return x_t' H^-1 x_i / N, float32[t, d]: the influence of a unit residual of each example.

        x  float64[d, q] of the array module, as is the result
        """
        from scipy import linalg

        turned = xp.asarray(linalg.cho_solve(self.factor, x_targets.T).T)
        return (turned @ x.T / self.rows).astype(np.float32)


def _softmax(scores: np.ndarray) -> np.ndarray:
    found = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return found / found.sum(axis=-1, keepdims=True)


def _others(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the probabilities of the classes other than the label, [t, k]; they add up to 1 for each target."""
    scores = scores.copy()
    known = labels >= 0
    scores[known, labels[known]] = -np.inf
    return _softmax(scores)


def _directions(k: int) -> np.ndarray:
    """Return an orthonormal basis float64[k, k - 1] of the scores of k classes that add up to 0 (Helmert's)."""
    found = np.zeros((k, k - 1))
    for c in range(1, k):
        found[:c, c - 1], found[c, c - 1] = 1, -c
    return found / np.sqrt((found**2).sum(axis=0))


def _hessian(x: np.ndarray, p: np.ndarray, lambda_: float) -> np.ndarray:
    """Return the Hessian float32[q (k - 1), q (k - 1)] at probabilities p [N, k], in the basis of `_directions`."""
    (rows, q), k, basis = x.shape, p.shape[1], _directions(p.shape[1])
    x, along = x.astype(np.float32), p @ basis
    found = np.empty((q, k - 1, q, k - 1), dtype=np.float32)
    for a in range(k - 1):
        for b in range(a, k - 1):
            weight = (p @ (basis[:, a] * basis[:, b]) - along[:, a] * along[:, b]) / rows
            found[:, a, :, b] = found[:, b, :, a] = (x * weight[:, None].astype(np.float32)).T @ x
    square = found.reshape(q * (k - 1), q * (k - 1))
    square[np.diag_indices_from(square)] += lambda_
    return square
