"""Solve the ridge equations of many targets by preconditioned conjugate gradients (Hestenes and Stiefel 1952).

For target j they are (G_j + lambda_j I) theta = c_j. G_j is known only by its products with vectors.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def solve(
    multiply: Callable[[np.ndarray, np.ndarray], np.ndarray],
    precondition: Callable[[np.ndarray, np.ndarray], np.ndarray],
    right: np.ndarray,
    lambda_: np.ndarray,
    goal: np.ndarray,
    steps: int,
) -> np.ndarray:
    """Return theta [a, d], iterated from zero until ||c - (G + lambda) theta||^2 <= goal, or for `steps` steps.

    multiply      (v [p, d], places int64[p]) -> [p, d]: the G_j v_j of the targets at these places
    precondition  (r [p, d], lambda_ float64[p]) -> [p, d]: about (G_j + lambda_j I)^-1 r_j; symmetric and positive
    right         [a, d]; the c_j
    lambda_       float64[a], above 0
    goal          float64[a]
    """
    theta = np.zeros_like(right)
    # Numbers below this lose their digits. A goal of 0, for outputs that do not vary, is then never reached.
    least = np.finfo(right.dtype).tiny / np.finfo(right.dtype).eps
    goal = np.maximum(goal, float(least) ** 2 * right.shape[1])
    places = np.flatnonzero(_dot(right, right) > goal)
    residual, shift = right[places], lambda_[places]
    direction = ahead = precondition(residual, shift)
    slope = _dot(residual, ahead)
    for _ in range(steps):
        if not len(places):
            break
        product = multiply(direction, places) + _column(shift, right) * direction
        length = _column(slope / _dot(direction, product), right)
        theta[places] += length * direction
        residual = residual - length * product
        going = _dot(residual, residual) > goal[places]
        places, residual, shift = places[going], residual[going], shift[going]
        ahead, before = precondition(residual, shift), slope[going]
        slope = _dot(residual, ahead)
        direction = ahead + _column(slope / before, right) * direction[going]
    return theta


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.einsum("ij,ij->i", a, b, dtype=np.float64)


def _column(values: np.ndarray, like: np.ndarray) -> np.ndarray:
    return values.astype(like.dtype)[:, None]
