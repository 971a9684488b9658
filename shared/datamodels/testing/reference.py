"""Solve the LASSO slowly and plainly, by coordinate descent for one target in float64, to test fast solvers."""

from __future__ import annotations

import numpy as np

from datamodels.fit.data.problem import Problem
from datamodels.fit.kernels.coordinate_descent import jit_in_order
from datamodels.run import designs


def design_of(
    problem: Problem, target: int, *, fit: bool = True, heldout: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Return (x float64[m, d], y float64[m]) of the rows that count for a target: to fit, held-out, or both."""
    x = designs.unpack(np.asarray(problem.masks), problem.columns).astype(np.float64)
    own = problem.own_column[target]
    counts = np.where(problem.heldout, heldout, fit)
    if own >= 0:
        counts &= x[:, own] == 0
    return x[counts], problem.outputs[counts, target].astype(np.float64)


def objective(x: np.ndarray, y: np.ndarray, theta: np.ndarray, intercept: float, lambda_: float) -> float:
    """Return 1/(2 m) ||x theta + intercept - y||^2 + lambda ||theta||_1."""
    return float(((x @ theta + intercept - y) ** 2).mean() / 2 + lambda_ * np.abs(theta).sum())


def lambda_max(x: np.ndarray, y: np.ndarray) -> float:
    """Return the smallest lambda at which all weights are 0: max_c |x_c' (y - mean(y))| / m."""
    return float(np.abs(x.T @ (y - y.mean())).max() / len(y))


def gap(x: np.ndarray, y: np.ndarray, theta: np.ndarray, lambda_: float) -> float:
    """Return the duality gap over the objective at zero weights. The dual point is a multiple of the residuals."""
    x, y = x - x.mean(axis=0), y - y.mean()
    residual = y - x @ theta
    dual_norm = np.abs(x.T @ residual).max() / len(y)
    square, along = (residual**2).mean(), residual @ y / len(y)
    # The dual objective s along - s^2 / 2 square is largest at s = along / square.
    limit = lambda_ / dual_norm if dual_norm > 0 else np.inf
    s = np.clip(along / square, -limit, limit) if square > 0 else 0.0
    primal = square / 2 + lambda_ * np.abs(theta).sum()
    return float((primal - s * along + s**2 / 2 * square) / max((y**2).mean() / 2, np.finfo(float).tiny))


@jit_in_order  # without fastmath, so that results are those of NumPy, in a tenth of the time
def _sweep(columns, norms, lambda_, theta, residual):
    """Minimise over each weight once, in turn. Updates theta [d] and residual [m].

    columns  float64[d, m], centred; norms float64[d], their mean squares
    """
    d, m = columns.shape
    for c in range(d):
        if norms[c] <= 1e-14:
            continue
        neg_grad = 0.0
        for i in range(m):
            neg_grad += columns[c, i] * residual[i]
        neg_grad = neg_grad / m + norms[c] * theta[c]
        change = np.sign(neg_grad) * max(abs(neg_grad) - lambda_, 0.0) / norms[c] - theta[c]
        if change != 0:
            theta[c] += change
            for i in range(m):
                residual[i] -= columns[c, i] * change


def lasso(
    x: np.ndarray, y: np.ndarray, lambda_: float, *, tolerance: float = 1e-12, max_sweeps: int = 100_000
) -> tuple[np.ndarray, float, float]:
    """Minimise `objective`. Returns (theta float64[d], intercept, relative duality gap).

    Does cyclic coordinate descent on centred columns (Friedman et al. 2010), until the duality gap over the objective
    at zero weights is at most `tolerance` or `max_sweeps` are done.
    """
    m, d = x.shape
    mean_x, mean_y = x.mean(axis=0), y.mean()
    x, y = x - mean_x, y - mean_y
    columns, norms = np.ascontiguousarray(x.T), (x**2).sum(axis=0) / m
    theta, residual = np.zeros(d), y.copy()
    found = np.inf
    for sweep in range(max_sweeps):
        _sweep(columns, norms, lambda_, theta, residual)
        if sweep % 5 == 0:
            found = gap(x, y, theta, lambda_)
            if found <= tolerance:
                break
    return theta, float(mean_y - mean_x @ theta), found
