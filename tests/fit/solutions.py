"""Comparisons of solutions."""

import dataclasses

import numpy as np

from datamodels.fit.data.problem import Problem, Solution
from datamodels.testing import reference


def same(a: Solution, b: Solution) -> bool:
    """Whether all fields have the same bits."""
    names = [f.name for f in dataclasses.fields(Solution) if f.name not in ("d", "status", "choice")]
    names = [name for name in names if getattr(a, name) is not None or getattr(b, name) is not None]
    return (a.status, a.choice) == (b.status, b.choice) and all(
        np.array_equal(getattr(a, name), getattr(b, name), equal_nan=True) for name in names
    )


def relative_excess(made: Problem, solution: Solution, target: int) -> float:
    """How far the LASSO's objective is above the optimum at the solution's lambda, over the optimum."""
    x, y = reference.design_of(made, target)
    lambda_ = solution.lambda_[target]
    theta, intercept, _ = reference.lasso(x, y, lambda_)
    best = reference.objective(x, y, theta, intercept, lambda_)
    found = reference.objective(
        x, y, solution.dense([target])[0].astype(np.float64), solution.intercept[target], lambda_
    )
    return found / best - 1
