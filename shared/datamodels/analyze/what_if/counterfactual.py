"""What models would say if some training examples were not there, or were: prediction, interval.

A datamodel is linear, so that a change of the training set changes the prediction by the sum of the weights of what
comes less that of what goes (Ilyas et al. 2022, section 4.1, "data counterfactuals"). `what_if.retrain` checks it.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from datamodels.analyze.quality.interval import Z
from datamodels.analyze.quality.noise import Noise
from datamodels.analyze.what_if import pool
from datamodels.errors import NotReadyError
from datamodels.fit.data import problem
from datamodels.fit.data.problem import Solution
from datamodels.run.runs import Run


@dataclasses.dataclass(frozen=True, eq=False)
class Counterfactual:
    """float64[t] each.

    before        predicted output of models trained on the set as it was
    change        by which the mean output changes
    change_error  standard error of `change`: of the weights, see `weights_error`, and of the linear model, which is
                  wrong by a share of what it foretells, see `quality.noise`
    deviation     of single models from the prediction

    The last two are NaN where no committed model tells them. Neither covers that `before` itself is far from the
    subsets: weights fitted at alpha = .5 foretell more of the whole pool than comes true.
    """

    before: np.ndarray
    change: np.ndarray
    change_error: np.ndarray
    deviation: np.ndarray

    @property
    def after(self) -> np.ndarray:
        return self.before + self.change

    @property
    def change_interval(self) -> np.ndarray:
        """float64[t, 2]: of the change of the mean output."""
        return _around(self.change, self.change_error)

    @property
    def after_interval(self) -> np.ndarray:
        """float64[t, 2]: of the output of one model trained on the changed set."""
        return _around(self.after, np.hypot(self.change_error, self.deviation))


def _around(value: np.ndarray, error: np.ndarray) -> np.ndarray:
    return np.stack([value - Z * error, value + Z * error], axis=-1)


def counterfactual(
    run: Run,
    solution: Solution,
    noise: Noise,
    rows: int,
    *,
    targets: np.ndarray,
    base: np.ndarray,
    remove: np.ndarray,
    add: np.ndarray,
) -> Counterfactual:
    """What removing and adding columns does to targets.

    rows     models that were fitted
    targets  int[t]
    base     bool[d]; the set as it is, e.g. `pool.whole`
    remove   int[k]; columns of it to take out
    add      int[k]; others to put in

    A target that is in the training set itself is asked about without itself. Raises MaskError, InputError as
    `pool.changed` does, TargetRangeError, NotReadyError for a target without a model.
    """
    after = pool.changed(run, base, remove, add)
    require_models(run, solution, targets)
    theta = solution.theta[targets]
    before = solution.intercept[targets] + theta @ base.astype(np.float64)
    change = theta @ (after.astype(np.float64) - base)
    deviation, misfit = noise.deviation[targets], noise.misfit[targets]
    spread = [weights_error(run, pool.without_own(run, base ^ after, j), rows) for j in targets.tolist()]
    return Counterfactual(before, change, np.hypot(deviation * spread, misfit * change), deviation)


def require_models(run: Run, solution: Solution, targets: np.ndarray) -> None:
    """Raises TargetRangeError, NotReadyError for a target without a model."""
    for target in targets.tolist():
        solution.row(target)
        if solution.status[target] in problem.UNFITTED:
            raise NotReadyError(
                f"target {target} of run {run.name}: has no weights, for its fit ended as {solution.status[target]!r}; "
                "`datamodels query targets` shows which have"
            )


def weights_error(run: Run, columns: np.ndarray, rows: int) -> float:
    """Standard error of the sum of weights of columns, bool[d], by least squares on random subsets; times deviation.

    Columns of random subsets are all but uncorrelated, with variance p (1 - p), so that each weight has the variance
    deviation^2 / (rows p (1 - p)). A LASSO's weights vary less, and are a little too near to 0 instead.
    """
    return float(np.sqrt(_variances(run, np.flatnonzero(columns & (run.design.stratum >= 0))).sum() / rows))


def removal_errors(
    run: Run, noise: Noise, rows: int, target: int, columns: np.ndarray, curve: np.ndarray
) -> np.ndarray:
    """float64[k + 1]: the standard errors of what `support.removal` foretells, less what it was before.

    The same as `Counterfactual.change_error` of each of its sets. NaN where no committed model tells.
    """
    spread = np.sqrt(np.concatenate([[0.0], np.cumsum(_variances(run, columns))]) / rows)
    return np.hypot(noise.deviation[target] * spread, noise.misfit[target] * (curve - curve[0]))


def _variances(run: Run, columns: np.ndarray) -> np.ndarray:
    p = run.design.inclusion[columns].astype(np.float64)
    return 1 / (p * (1 - p))
