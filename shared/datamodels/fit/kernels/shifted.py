"""Solve (A_j + mu I) u = b_j for many targets j and several shifts mu at once, by conjugate gradients.

Krylov spaces do not depend on the shift. So the products of one iteration serve all shifts: its steps are those of the
smallest shift, which converges last, and the residual of every other shift is a multiple of its residual (Frommer and
Maass 1999).
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import numpy as np


def solve(
    multiply: Callable[[np.ndarray], np.ndarray],
    right: np.ndarray,
    shifts: np.ndarray,
    goal: np.ndarray,
    steps: int,
    tick: Callable[[], None] = lambda: None,
    xp: ModuleType = np,
) -> np.ndarray:
    """Return u [s, t, d]: until ||b - (A + mu) u||^2 <= goal for all targets and shifts, or for `steps` steps.

    multiply  [t, d] -> [t, d]: the A_j v_j, with A_j symmetric and not negative
    right     [t, d]; the b_j
    shifts    float64[s] of NumPy, above 0
    goal      float64[t]
    tick      called before each step
    xp        the array module of all other arrays
    """
    base = float(shifts.min())
    beyond = xp.asarray(np.asarray(shifts, dtype=np.float64)[:, None] - base)  # [s, 1]
    found = xp.zeros((len(shifts), *right.shape), dtype=right.dtype)
    direction = right.copy()
    directions = xp.repeat(right[None], len(shifts), axis=0)
    residual, square = right, _dot(right, right)
    tiny = np.finfo(np.float64).tiny
    zeta = zeta_before = xp.ones((len(shifts), len(right)))  # residual of each shift over that of the smallest
    length_before, turn = xp.ones(len(right)), xp.zeros(len(right))
    for _ in range(steps):
        going = square > goal
        if not going.any():
            break
        tick()
        product = multiply(direction) + right.dtype.type(base) * direction
        length = xp.where(going, square / xp.maximum(_dot(direction, product), tiny), 0)
        below = length * turn * (zeta_before - zeta) + zeta_before * length_before * (1 + beyond * length)
        ahead = xp.where(going, zeta * zeta_before * length_before / xp.where(below != 0, below, 1), zeta)
        ratio = xp.where(zeta != 0, ahead / xp.where(zeta != 0, zeta, 1), 0)
        found += _column(length * ratio, right) * directions
        residual = residual - _column(length, right) * product
        before, square = square, _dot(residual, residual)
        turn = xp.where(going, square / xp.maximum(before, tiny), 0)
        direction = residual + _column(turn, right) * direction
        directions = _column(ahead, right) * residual + _column(turn * ratio**2, right) * directions
        zeta_before, zeta, length_before = zeta, ahead, xp.where(going, length, 1)
    return found


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.einsum("ij,ij->i", a, b, dtype=np.float64)


def _column(values: np.ndarray, like: np.ndarray) -> np.ndarray:
    return values.astype(like.dtype)[..., None]
