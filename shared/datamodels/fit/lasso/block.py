"""Fit one block of targets by an Iteration: walk down the lambda path, fit all rows, and make a Solution."""

from __future__ import annotations

from collections.abc import Callable

from datamodels.fit.contract.block import Arrays, BlockProgress, Tick
from datamodels.fit.contract.targets import Targets
from datamodels.fit.data.problem import Solution
from datamodels.fit.lasso.base import AnyIteration
from datamodels.fit.lasso.path import Path
from datamodels.fit.lasso.refit import Refit
from datamodels.run.specs import FitSpec


def solve(
    settings: FitSpec,
    targets: Targets,
    over_fit: Callable[[], AnyIteration],
    over_whole: Callable[[], AnyIteration],
    *,
    tick: Tick,
    resume: Arrays | None = None,
) -> Solution:
    """Fit the targets of a block.

    over_fit      makes the iteration over the rows to fit, for the path
    over_whole    makes the iteration over all rows, for the last fit
    tick, resume  as for `contract.block.Solve`
    """
    if not len(targets.able):
        return targets.unfitted()
    fitting = over_fit()
    path = Path(fitting, settings)
    if resume:
        path.restore(_with_prefix("path_", resume))
    choice = path.choice

    def walked() -> Arrays:
        return _prefixed("path_", path.arrays())

    while choice.active:
        tick(BlockProgress.on_path(choice.fraction, choice.mean_position, walked))
        path.epoch()

    refit = Refit(over_whole(), settings, choice.chosen, path.weights)

    def refitted() -> Arrays:
        return walked() | _prefixed("refit_", refit.arrays())

    if resume and "refit_epochs" in resume:
        refit.restore(_with_prefix("refit_", resume))
    while refit.active:
        tick(BlockProgress.in_refit(refit.fraction, choice.mean_position, refitted))
        refit.epoch()
    return targets.solution(
        refit.weights,
        lambda_=refit.lambda_,
        gap=refit.gap,
        intercept=refit.intercept,
        heldout_r2=fitting.heldout_r2(choice.best_error),
        tolerance=settings.tolerance,
        signal=choice.top > 0,
    )


def _prefixed(prefix: str, arrays: Arrays) -> Arrays:
    return {prefix + name: array for name, array in arrays.items()}


def _with_prefix(prefix: str, arrays: Arrays) -> Arrays:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
