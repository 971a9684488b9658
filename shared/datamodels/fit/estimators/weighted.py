"""Compute the estimator `weighted`: the LASSO with a lambda for each column, smaller if the prior expects a weight,

    1/(2 m) * sum_i (x_i . theta + b - y_ij)^2  +  lambda_j * sum_c factor_jc |theta_c|

This is the weighted LASSO of Zou (2006), with the prior of `data.prior` in place of a first estimate. The strength
of the prior is chosen once for all targets, by the held-out error of some of them: with few models, the error of one
target is too noisy. If no strength lowers the error, there are no factors, and the fit is the LASSO's, bit for bit.
"""

from __future__ import annotations

import functools

import numpy as np

from datamodels.errors import SpecError
from datamodels.fit.contract import targets
from datamodels.fit.contract.block import Arrays, Tick
from datamodels.fit.data.prior import Prior
from datamodels.fit.data.problem import OK, Solution
from datamodels.fit.data.rows import Rows, columns
from datamodels.fit.lasso import gram, shared_gram
from datamodels.fit.lasso.base import L1
from datamodels.run.specs import FitSpec
from datamodels.telemetry import logger

log = logger(__name__)

STRENGTHS = (0.0, 0.125, 0.25, 0.5, 1.0)
"""Strengths of the prior, tried in this order. At 0.25, a column that is one standard deviation more similar than
others has 0.78 of the lambda."""
GAIN = 1e-4
"""Smallest relative gain at which the prior is used; a smaller one may be rounding."""
STRENGTH_TARGETS = 128
"""Number of targets on which the strength is chosen, spread evenly over all."""


def solve(
    rows: Rows, settings: FitSpec, first: int, last: int, *, seed: int, tick: Tick, resume: Arrays | None = None
) -> Solution:
    """Fit a block of targets of a problem with a prior; see `contract.block.Solve`.

    Raises SpecError for targets that are training examples, and if the Gram is too large.
    """
    prior = prior_of(rows, first, last)
    strength = rows.once("strength", lambda: choose(rows, prior, settings, tick))
    factor = functools.partial(prior.factor, strength=strength) if strength else None
    return gram.solve(rows, settings, first, last, seed=seed, tick=tick, resume=resume, factor=factor)


def prior_of(rows: Rows, first: int, last: int) -> Prior:
    """Return the prior of a problem. Raises SpecError if its targets cannot be fitted with it."""
    if rows.problem.prior is None:
        raise SpecError("fit.estimator = 'weighted': the problem has no prior")
    if not gram.applies(rows) or (rows.problem.own_column[first:last] >= 0).any():
        raise SpecError(
            f"fit.estimator = 'weighted': takes targets that are no training examples, and columns whose Gram takes "
            f"{gram.GRAM_BYTES // 2**30} GiB at most, not {rows.problem.columns}; take the estimator lasso"
        )
    return rows.problem.prior


def choose(rows: Rows, prior: Prior, settings: FitSpec, tick: Tick) -> float:
    """Return the strength with the smallest mean held-out error of some targets, each at its best lambda; or 0."""
    given = rows.problem
    judges = np.unique(np.linspace(0, given.n - 1, min(STRENGTH_TARGETS, given.n)).round().astype(np.int64))
    outputs = given.outputs[:, judges][rows.order].astype(rows.dtype)
    status, _ = targets.sort(rows, outputs, None)
    able = np.flatnonzero(status == OK)
    if not len(able):
        return 0.0
    errors = []
    for strength in STRENGTHS:
        penalty = L1(prior.factor(judges[able], strength) if strength else None)
        found = shared_gram.heldout_errors(rows, settings, columns(outputs, able), penalty, tick)
        errors.append(float(found.mean()))
    best = int(np.argmin(errors))
    strength = STRENGTHS[best] if errors[best] < (1 - GAIN) * errors[0] else 0.0
    log.info("prior weighed", strength=strength, heldout_errors=[round(error, 5) for error in errors])
    return strength
