"""Compute the estimator `lasso` by the solver that the settings name."""

from __future__ import annotations

from datamodels.fit.contract.block import Arrays, Tick
from datamodels.fit.data.problem import Solution
from datamodels.fit.data.rows import Rows
from datamodels.fit.estimators import base
from datamodels.run.specs import FitSpec


def solve(
    rows: Rows, settings: FitSpec, first: int, last: int, *, seed: int, tick: Tick, resume: Arrays | None = None
) -> Solution:
    """Fit a block of targets; see `contract.block.Solve`."""
    return base.solver_of(settings).solve(rows, settings, first, last, seed=seed, tick=tick, resume=resume)
