"""Predict outputs if some training examples were removed, added or relabelled, with an interval.

A datamodel is linear. So a change of the training set changes the prediction by the sum of the added weights less the
sum of the removed ones (Ilyas et al. 2022, section 4.1, "data counterfactuals"). `what_if.retrain` checks predictions.

Another label has `relabel.EFFECT` times the effect of removal, as in mislabel supports. That is a rule that fits the
digits, and no measurement of this run: intervals scale with it, but do not hold the doubt about the rule.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from datamodels.analyze.quality.interval import Z
from datamodels.analyze.quality.noise import Noise
from datamodels.analyze.what_if import pool, relabel, size
from datamodels.analyze.what_if.size import SizeEffect
from datamodels.errors import NotReadyError
from datamodels.fit.data import problem
from datamodels.fit.data.problem import Solution
from datamodels.outputs import Output
from datamodels.run.runs import Run


@dataclasses.dataclass(frozen=True, eq=False)
class Counterfactual:
    """Predicted outputs before and after a change of the training set. float64[t] each.

    output        what is predicted; its bounds hold for all outputs, and for the ends of their intervals
    unbounded     predicted output of models trained on the unchanged set, as the linear model has it
    change        predicted change of the mean output
    change_error  standard error of `change`. It has two parts: the error of the weights, see `weights_error`, and that
                  of the linear model, which is a share of the predicted change, see `quality.noise`
    deviation     standard deviation of single models from the prediction
    before_error  standard error of `unbounded` for sets of the size of the subsets: the misfit of the linear model
    before_size, after_size   the part of the outputs before and after the change that comes from the size of the set

    The errors and the deviation are NaN if there are too few committed models to estimate them. Only the last two know
    that a set may be larger or smaller than the subsets: weights fitted at alpha = 0.5 predict too much for the whole
    pool of the digits.
    """

    output: Output
    unbounded: np.ndarray
    change: np.ndarray
    change_error: np.ndarray
    deviation: np.ndarray
    before_error: np.ndarray
    before_size: SizeEffect
    after_size: SizeEffect

    @property
    def before(self) -> np.ndarray:
        """Predicted output of models trained on the unchanged set."""
        return self.output.within(self.unbounded)

    @property
    def after(self) -> np.ndarray:
        """Predicted output of models trained on the changed set."""
        return self.output.within(self.unbounded + self.change)

    @property
    def change_interval(self) -> np.ndarray:
        """Interval of the change of the mean output, float64[t, 2]."""
        return _around(self.change, self.change_error)

    @property
    def before_interval(self) -> np.ndarray:
        """Interval of the mean output of models trained on the unchanged set, float64[t, 2]; see `what_if.size`."""
        return self.output.within(self.before_size.interval(self.unbounded, self.before_error))

    @property
    def after_interval(self) -> np.ndarray:
        """Interval of the output of one model trained on the changed set, float64[t, 2]; see `what_if.size`."""
        error = np.hypot(self.change_error, self.deviation)
        return self.output.within(self.after_size.interval(self.unbounded + self.change, error))


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
    other_label: np.ndarray = pool.NO_COLUMNS,
) -> Counterfactual:
    """Predict the outputs of targets if columns are removed from a set, added to it, or get another label.

    rows     number of models that were fitted
    targets  int[t]
    base     bool[d]; the unchanged set, e.g. `pool.whole`
    remove   int[k]; columns of `base` to remove
    add      int[k]; columns to add
    other_label  int[k]; columns of the changed set that get another label

    A target that is a training example is predicted without itself. Raises MaskError and InputError as `pool.changed`
    and `pool.relabelled` do, TargetRangeError, and NotReadyError for a target without a model.
    """
    after = pool.changed(run, base, remove, add, nothing=len(other_label) > 0)
    relabelled = pool.relabelled(run, after, other_label)
    require_models(run, solution, targets)
    theta = solution.theta[targets]
    before = solution.intercept[targets] + theta @ base.astype(np.float64)
    change = theta @ (after.astype(np.float64) - base - relabel.EFFECT * relabelled)
    deviation, misfit = noise.deviation[targets], noise.misfit[targets]
    spread = np.hypot(
        [weights_error(run, pool.without_own(run, base ^ after, j), rows) for j in targets.tolist()],
        [relabel.EFFECT * weights_error(run, pool.without_own(run, relabelled, j), rows) for j in targets.tolist()],
    )
    return Counterfactual(
        output=run.predicted,
        unbounded=before,
        change=change,
        change_error=np.hypot(deviation * spread, misfit * change),
        deviation=deviation,
        before_error=misfit * size.spread(run, theta),
        before_size=size.size_effect(run, theta, base),
        after_size=size.size_effect(run, theta, after),
    )


def before_interval(run: Run, solution: Solution, noise: Noise, target: int) -> tuple[float, float]:
    """Return the interval of the mean output of models of the whole pool, without the target itself.

    NaN if there are too few committed models. Raises TargetRangeError.
    """
    columns, weights = solution.row(target)
    members, theta = pool.without_own(run, pool.whole(run), target), solution.theta[[target]]
    before = solution.intercept[target] + weights[members[columns]].astype(np.float64).sum()
    effect, error = size.size_effect(run, theta, members), noise.misfit[[target]] * size.spread(run, theta)
    low, high = run.predicted.within(effect.interval(np.array([before]), error))[0].tolist()
    return low, high


def require_models(run: Run, solution: Solution, targets: np.ndarray) -> None:
    """Check that all targets have weights. Raises TargetRangeError, and NotReadyError for a target without."""
    for target in targets.tolist():
        solution.row(target)
        if solution.status[target] in problem.UNFITTED:
            raise NotReadyError(
                f"target {target} of run {run.name}: has no weights; its fit ended as {solution.status[target]!r}; "
                "`datamodels query targets` shows which have"
            )


def weights_error(run: Run, columns: np.ndarray, rows: int) -> float:
    """Return the standard error of the sum of the weights of columns, bool[d], in units of the deviation of outputs.

    It is that of least squares. Columns of random subsets are nearly uncorrelated and have variance p (1 - p), so each
    weight has the variance deviation^2 / (rows p (1 - p)). The weights of a LASSO vary less, but are biased towards 0.
    """
    return float(np.sqrt(_variances(run, np.flatnonzero(columns & (run.design.stratum >= 0))).sum() / rows))


def removal_errors(
    run: Run, noise: Noise, rows: int, target: int, columns: np.ndarray, curve: np.ndarray
) -> np.ndarray:
    """Return float64[k + 1]: standard errors of the changes along the curve of `support.removal`.

    Each is the `Counterfactual.change_error` of removing the first 0, 1, ..., k columns. NaN if there are too few
    committed models to estimate it.
    """
    spread = np.sqrt(np.concatenate([[0.0], np.cumsum(_variances(run, columns))]) / rows)
    return np.hypot(noise.deviation[target] * spread, noise.misfit[target] * (curve - curve[0]))


def weight_intervals(
    run: Run, noise: Noise, rows: int, targets: np.ndarray, columns: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Return float64[k, 2]: intervals of single weights float[k], of targets int[k] or one and columns int[k] or one.

    Each is, with the other sign, the `Counterfactual.change_interval` of removing the column. NaN if there are too few
    committed models to estimate it.
    """
    spread = np.sqrt(_variances(run, columns) / rows)
    values = weights.astype(np.float64)
    return _around(values, np.hypot(noise.deviation[targets] * spread, noise.misfit[targets] * values))


def _variances(run: Run, columns: np.ndarray) -> np.ndarray:
    p = run.design.inclusion[columns].astype(np.float64)
    return 1 / (p * (1 - p))
