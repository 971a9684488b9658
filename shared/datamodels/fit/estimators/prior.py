"""Compute the estimator `prior`: weights that are expected from inputs and labels, corrected by the outputs.

theta_j = B_j + delta_j. B is a prior mean, made of features of pairs of a target and a column (`pairs`) with about ten
numbers that are fitted to the outputs of all targets (`residual.pooled`). delta is fitted to what B leaves, by ridge
regression (`residual.ridge`) or by the LASSO (`residual.lasso`). Cross-validation chooses between these, B alone, and
the plain LASSO (`residual.folds`), so that a useless prior costs next to nothing. With a hundred models, the weights
are nearly B; the more models there are, the more delta adds. `Solution.choice` has the error of each.

All of these weights are different from 0, and most are tiny. `residual.kept` leaves those out. `Solution.gap` is that
of all weights. `Solution.measured` says how much of each weight is delta.

The estimator `pooled` makes the same choice without a prior: the LASSO with one lambda for all targets or one for each.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from datamodels.errors import SpecError
from datamodels.fit.contract.block import Arrays, BlockProgress, Tick
from datamodels.fit.contract.targets import Targets
from datamodels.fit.data.examples import Absent
from datamodels.fit.data.problem import Solution
from datamodels.fit.data.rows import Rows
from datamodels.fit.lasso import gram
from datamodels.fit.pairs.pairs import Pairs
from datamodels.fit.residual import folds, kept, lasso, pooled, ridge, scores
from datamodels.fit.residual.folds import Choice
from datamodels.fit.residual.sample import Sample, read_targets
from datamodels.run.specs import FitSpec

RIDGE_GAP = 0.25
"""Gap that the last fit by ridge regression aims at over the tolerance: its residuals are float32."""


def solve(
    rows: Rows, settings: FitSpec, first: int, last: int, *, seed: int, tick: Tick, resume: Arrays | None = None
) -> Solution:
    """Fit a block of targets; see `contract.block.Solve`. A block that is interrupted starts again.

    Without a prior, it is `solve_pooled`, and the choice tells why. Raises SpecError if the problem says nothing of a
    prior.
    """
    prior = rows.problem.prior
    if isinstance(prior, Absent):
        found = _choose_and_solve(rows, None, settings, first, last, seed=seed, tick=tick)
        return dataclasses.replace(found, choice=(found.choice or {}) | {"no_prior": prior.reason})
    if not isinstance(prior, Pairs):
        raise SpecError("fit.estimator = 'prior': the problem has no features of pairs; take `pooled`, or `lasso`")
    return _choose_and_solve(rows, prior, settings, first, last, seed=seed, tick=tick)


def solve_pooled(
    rows: Rows, settings: FitSpec, first: int, last: int, *, seed: int, tick: Tick, resume: Arrays | None = None
) -> Solution:
    """Fit a block of targets without a prior: by the LASSO, with one lambda for all targets or one for each."""
    return _choose_and_solve(rows, None, settings, first, last, seed=seed, tick=tick)


def _choose_and_solve(
    rows: Rows, pairs: Pairs | None, settings: FitSpec, first: int, last: int, *, seed: int, tick: Tick
) -> Solution:
    choice = rows.once("choice", lambda: folds.choose(rows, pairs, settings, lambda: tick(BlockProgress.on_path(0, 0))))
    if choice.way == scores.LASSO:
        solution = gram.solve(rows, settings, first, last, seed=seed, tick=tick)
    else:
        targets = read_targets(rows, first, last)
        solution = _solve(targets, pairs, choice, settings, tick) if len(targets.able) else targets.unfitted()
    return dataclasses.replace(solution, choice=choice.document(() if pairs is None else pairs.names))


def _solve(targets: Targets, pairs: Pairs | None, choice: Choice, settings: FitSpec, tick: Tick) -> Solution:
    sample = Sample(targets)

    def step() -> None:
        tick(BlockProgress.in_refit(0.5, 0.0))

    step()
    if choice.mean is None or pairs is None:
        return lasso.solve(targets, sample, (None, None), choice.strength, settings, step)
    classes = np.zeros(len(pairs.varies), dtype=np.int64) if pairs.classes is None else pairs.classes
    # Held-out rows have a say in the few numbers that all targets share, as in the choice of a strength.
    rows = targets.rows
    features, parts = pairs.of(targets.numbers, rows.xp), [sample.covariance(whole=whole) for whole in (False, True)]
    fitted = [pooled.weights(features, choice.mean, part) for part in parts]
    if choice.way == scores.WEIGHTED:
        return lasso.solve(targets, sample, fitted, choice.strength, settings, step, classes=classes)
    prior = rows.host(fitted[1])
    gap, lambda_ = np.zeros((2, len(targets.able)))
    if choice.way == scores.RIDGE:
        shares, goal = np.array([choice.strength]), RIDGE_GAP * settings.tolerance
        for i, part in enumerate(parts):
            deltas, gaps = ridge.solve(fitted[i], part, shares, goal, settings.max_epochs, step)
            fitted[i] = fitted[i] + deltas[0]
        gap, lambda_ = gaps[0], (1 - choice.strength) / choice.strength / rows.host(parts[1].found.count)
    whole = rows.host(fitted[1])
    weights = kept.largest(whole, rows.host(sample.curvature), classes)
    return targets.solution(
        weights,
        lambda_=lambda_,
        gap=gap,
        intercept=rows.host(sample.intercept(rows.xp.asarray(weights))),
        heldout_r2=sample.heldout_r2(sample.heldout(fitted[0]).error),
        tolerance=settings.tolerance,
        measured=whole - prior,
    )
