"""Solve (A_j + mu I) u = b_j for many targets j and several shifts mu at once, by conjugate gradients.

Krylov spaces do not depend on the shift. So the products of one iteration serve all shifts: its steps are those of the
smallest shift, which converges last, and the residual of every other shift is a multiple of its residual (Frommer and
Maass 1999).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def solve(
    multiply: Callable[[np.ndarray], np.ndarray],
    right: np.ndarray,
    shifts: np.ndarray,
    goal: np.ndarray,
    steps: int,
    tick: Callable[[], None] = lambda: None,
) -> np.ndarray:
    """Return u [s, t, d]: until ||b - (A + mu) u||^2 <= goal for all targets and shifts, or for `steps` steps.

    multiply  [t, d] -> [t, d]: the A_j v_j, with A_j symmetric and not negative
    right     [t, d]; the b_j
    shifts    float64[s], above 0
    goal      float64[t]
    tick      called before each step
    """
    base = float(shifts.min())
    beyond = np.asarray(shifts, dtype=np.float64)[:, None] - base  # [s, 1]
    found = np.zeros((len(shifts), *right.shape), dtype=right.dtype)
    direction = right.copy()
    directions = np.repeat(right[None], len(shifts), axis=0)
    residual, square = right, _dot(right, right)
    tiny = np.finfo(np.float64).tiny
    zeta = zeta_before = np.ones((len(shifts), len(right)))  # residual of each shift over that of the smallest
    length_before, turn = np.ones(len(right)), np.zeros(len(right))
    for _ in range(steps):
        going = square > goal
        if not going.any():
            break
        tick()
        product = multiply(direction) + right.dtype.type(base) * direction
        length = np.where(going, square / np.maximum(_dot(direction, product), tiny), 0)
        below = length * turn * (zeta_before - zeta) + zeta_before * length_before * (1 + beyond * length)
        ahead = np.where(going, zeta * zeta_before * length_before / np.where(below != 0, below, 1), zeta)
        ratio = np.divide(ahead, zeta, out=np.zeros_like(ahead), where=zeta != 0)
        found += _column(length * ratio, right) * directions
        residual = residual - _column(length, right) * product
        before, square = square, _dot(residual, residual)
        turn = np.where(going, square / np.maximum(before, tiny), 0)
        direction = residual + _column(turn, right) * direction
        directions = _column(ahead, right) * residual + _column(turn * ratio**2, right) * directions
        zeta_before, zeta, length_before = zeta, ahead, np.where(going, length, 1)
    return found


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.einsum("ij,ij->i", a, b, dtype=np.float64)


def _column(values: np.ndarray, like: np.ndarray) -> np.ndarray:
    return values.astype(like.dtype)[..., None]
