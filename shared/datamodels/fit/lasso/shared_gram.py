"""Exact LASSO paths of targets that count all rows, from the Gram of the masks, which they share.

After one pass over the rows, for their products with the outputs, a step costs d^2 a target and not d m. The lambdas,
the choice between them and the statuses are those of `path` and `refit`. The certificate is in float64, from counts
that nothing has rounded and products in float64. Nothing here is random.

What has a column or a row for each entry is of the array module; what is one number a target is NumPy's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from datamodels.fit.data import moments, problem
from datamodels.fit.data import rows as row_blocks
from datamodels.fit.data.moments import PASS_ROWS, Masks, Outputs
from datamodels.fit.data.problem import CONSTANT, NO_SIGNAL, NOT_CONVERGED, OK, Solution
from datamodels.fit.data.rows import Rows, columns
from datamodels.fit.data.sums import Sums
from datamodels.fit.kernels.batched import Batched
from datamodels.fit.lasso import block, gap
from datamodels.fit.lasso.block import PATH_SHARE, Here
from datamodels.fit.lasso.coordinate import Descent, State
from datamodels.fit.lasso.path import CLOSE_RANKS, PATH_SLACK, ROUNDING, grid
from datamodels.run.specs import FitSpec

CERTIFIED_STEPS = 16
"""Steps of the last fit after which a target's gap is computed without rounding in any case."""


def solve(
    rows: Rows,
    settings: FitSpec,
    first: int,
    last: int,
    *,
    tick: Callable[[Here], None],
    factor: Callable[[np.ndarray], np.ndarray] | None,
) -> Solution:
    """The targets first <= j < last of `rows.problem`, which all count all rows; `factor` is as for `gram.solve`."""
    n = last - first
    sums = rows.sums
    if sums is None:
        outputs = rows.outputs(first, last)
        status, value = block.sorted_out(rows, outputs, None)
    else:
        status, value = sums.sorted_out(first, last)
    target = np.flatnonzero(status == OK)
    lambda_, certified, intercept, r2 = np.zeros(n), np.zeros(n), np.zeros(n), np.full(n, np.nan)
    weights = np.zeros((n, rows.problem.columns), dtype=np.float32)
    if len(target):
        data = _Data.of(rows, columns(outputs, target)) if sums is None else _Data.of_sums(rows, sums, first + target)
        factors = None if factor is None else factor(first + target)
        path = _Path(rows, settings, data, factors)
        while path.active:
            share = path.fraction
            tick(Here("path", PATH_SHARE * share, share * settings.lambdas, dict))
            path.step()
        refit = _Refit(rows, settings, data, path, factors)
        while refit.active:
            done = 1 - (1 - PATH_SHARE) * refit.active / len(target)
            tick(Here("refit", done, path.fraction * settings.lambdas, dict))
            refit.step()
        lambda_[target], certified[target], intercept[target] = refit.lambda_, refit.gap, refit.intercept
        weights[target] = refit.weights
        status[target[path.lambda_max == 0]] = NO_SIGNAL
        r2[target] = data.heldout_r2(rows, path.best_error)
    status[certified > settings.tolerance] = NOT_CONVERGED
    return problem.of_dense(
        weights,
        status=status.tolist(),
        lambda_=lambda_,
        gap=certified,
        heldout_r2=r2,
        intercept=np.where(status == CONSTANT, value, intercept),
    )


def heldout_errors(
    rows: Rows,
    settings: FitSpec,
    outputs: np.ndarray,
    factor: np.ndarray | None,
    tick: Callable[[Here], None],
) -> np.ndarray:
    """float64[t]: held-out mean squared error over the variance, of outputs [m, t] at the lambda that suits each best.

    All targets must be of status ok. factor is [t, d] as for `Descent`, or None.
    """
    path = _Path(rows, settings, _Data.of(rows, outputs), factor)
    while path.active:
        tick(Here("path", 0.0, 0.0, dict))
        path.step()
    return path.best_error


@dataclasses.dataclass(frozen=True, eq=False)
class _Data:
    """A block's targets that can be fitted, t of them, standardised over all rows.

    location, spread  float64[t], NumPy's; raw output = location + spread * z
    heldout_z         [held-out rows, t] of the array module
    fit, heldout      their sums over rows
    """

    location: np.ndarray
    spread: np.ndarray
    heldout_z: np.ndarray
    fit: Outputs
    heldout: Outputs

    @classmethod
    def of(cls, rows: Rows, outputs: np.ndarray) -> _Data:
        location = outputs.mean(axis=0, dtype=np.float64)
        square = rows.xp.zeros(len(location))
        for piece in row_blocks.partition(rows.whole, PASS_ROWS):
            miss = outputs[piece] - location
            square += rows.xp.einsum("ij,ij->j", miss, miss)
        square /= len(outputs)
        spread = rows.xp.where(square > 0, rows.xp.sqrt(square), 1)
        return cls(
            location=rows.host(location),
            spread=rows.host(spread),
            heldout_z=((outputs[rows.heldout] - location) / spread).astype(rows.dtype),
            fit=moments.of_outputs(rows, rows.fit, outputs[rows.fit], location, spread),
            heldout=moments.of_outputs(rows, rows.heldout, outputs[rows.heldout], location, spread),
        )

    @classmethod
    def of_sums(cls, rows: Rows, known: Sums, targets: np.ndarray) -> _Data:
        """Of targets int64[t] of the problem, from sums over the rows: reads the held-out rows alone."""
        shift = known.shift[targets]
        mean = (known.fit.total + known.heldout.total)[targets] / known.rows
        variance = (known.fit.square + known.heldout.square)[targets] / known.rows - mean**2
        location, spread = shift + mean, np.where(variance > 0, np.sqrt(np.maximum(variance, 0)), 1)
        held = columns(rows.outputs(targets[0], targets[-1] + 1, rows.heldout), targets - targets[0])
        center = rows.problem.center.astype(np.float64)
        fit, heldout = (
            moments.of_sums(span, targets, shift, location, spread, center) for span in (known.fit, known.heldout)
        )
        return cls(
            location=location,
            spread=spread,
            heldout_z=((held - rows.xp.asarray(location)) / rows.xp.asarray(spread)).astype(rows.dtype),
            fit=fit.on(rows.xp),
            heldout=heldout.on(rows.xp),
        )

    def heldout_r2(self, rows: Rows, error: np.ndarray) -> np.ndarray:
        """float64[t]: explained variance on the held-out rows, given the mean squared errors of z; NaN where it cannot
        be told, for they do not vary."""
        mean = self.heldout_z.mean(axis=0, dtype=np.float64)
        variance = rows.host(((self.heldout_z - mean) ** 2).mean(axis=0))
        varies = rows.host((self.heldout_z != self.heldout_z[0]).any(axis=0))
        return np.where(varies, 1 - error / np.where(varies, variance, 1), np.nan)


class _Path:
    """The lambda paths of t targets, on standardised outputs; as `path.Path`, which says what the fields mean."""

    def __init__(self, rows: Rows, settings: FitSpec, data: _Data, factor: np.ndarray | None = None):
        self._rows, self._settings, self._data, self._grid = rows, settings, data, grid(settings)
        self._masks = moments.of_masks(rows)
        self._center = rows.xp.asarray(rows.problem.center.astype(np.float64))
        products, zero = data.fit.centred(self._masks.fit, self._center)
        self._descent = _descent(rows, self._masks.fit)
        t = len(zero)
        self.state = self._descent.start(products, rows.host(zero), np.arange(t), None, factor)
        top = rows.host(_dual_norm(products, factor))
        self.lambda_max = np.where(top > ROUNDING, top, 0)
        self.position, self.rises, self.best = np.zeros((3, t), dtype=np.int64)
        self.error, self.best_error = np.full((2, t), np.inf)
        self.weights = rows.xp.zeros(products.shape, dtype=rows.dtype)
        self.done = np.zeros(t, dtype=bool)
        self._descent.aim(self.state, np.arange(t), self.lambda_max * self._grid[0])
        self._go_on()

    @property
    def active(self) -> int:
        return int(np.count_nonzero(~self.done))

    @property
    def fraction(self) -> float:
        return float(np.where(self.done, 1, self.position / len(self._grid)).mean())

    def step(self) -> None:
        goal = np.full(len(self.state), PATH_SLACK * self._settings.tolerance)
        self._descent.step(self.state, goal)
        self._go_on()

    def _go_on(self) -> None:
        """Moves converged targets on by one lambda, and retires those whose path has ended."""
        state, here = self.state, self.state.target
        arrived = self._descent.gaps(state) <= PATH_SLACK * self._settings.tolerance
        arrived |= (state.steps >= self._settings.max_epochs) | (self.lambda_max[here] == 0)
        places = np.flatnonzero(arrived & ~self.done[here])
        if not len(places):
            return
        mine = here[places]
        error = self._heldout_error(state, places)
        better = error < self.best_error[mine]
        self.weights[self._rows.xp.asarray(mine[better])] = state.theta.take(places[better], axis=0)
        self.best[mine[better]] = self.position[mine[better]]
        self.best_error[mine[better]] = error[better]
        self.rises[mine] = np.where(error > self.error[mine], self.rises[mine] + 1, 0)
        self.error[mine] = error
        last = self.position[mine] + 1 == len(self._grid)
        self.done[mine] = last | (self.rises[mine] >= self._settings.patience) | (self.lambda_max[mine] == 0)
        self.position[mine] += ~self.done[mine]
        self._descent.aim(state, places, self.lambda_max[mine] * self._grid[self.position[mine]])
        retired = self.done[here]
        if retired.all() or retired.mean() > CLOSE_RANKS:
            self.state = state.take(np.flatnonzero(~retired))

    def _heldout_error(self, state: State, places: np.ndarray) -> np.ndarray:
        """float64[p]: mean squared error on the held-out rows, at the intercepts that are best for the rows to fit."""
        data, masks, rows = self._data, self._masks, self._rows
        theta, mine = state.theta.take(places, axis=0), rows.xp.asarray(state.target[places])
        shift = (data.fit.total / data.fit.rows)[mine] + theta @ (self._center - masks.fit.mean)
        if masks.heldout is None:
            x = rows.once("held-out", lambda: rows.unpacked(rows.heldout))[:, :-1]
            miss = x @ theta.T - data.heldout_z[:, mine] + shift.astype(theta.dtype)
            return rows.host(rows.xp.einsum("ij,ij->j", miss, miss, dtype=np.float64) / len(miss))
        chosen = data.heldout.take(mine)
        products, variance = chosen.centred(masks.heldout, self._center)
        explained = theta * (2 * products - theta @ masks.heldout.gram)
        bias = chosen.total / chosen.rows - theta @ (masks.heldout.mean - self._center) - shift
        return rows.host((variance - explained.sum(axis=1, dtype=np.float64)).clip(0) + bias**2)


def _descent(rows: Rows, masks: Masks) -> Descent:
    return Descent(masks, loops=None if rows.xp is np else Batched(rows.xp))


def _dual_norm(pull: np.ndarray, factor: np.ndarray | None) -> np.ndarray:
    """float64[t]: the smallest lambda whose thresholds no column's pull [t, d] exceeds."""
    return abs(pull if factor is None else pull / factor).max(axis=1)


class _Refit:
    """The last fit of t targets, on all rows, certified; as `refit.Refit`, but targets come first: weights [t, d].

    The results are NumPy's.
    """

    def __init__(self, rows: Rows, settings: FitSpec, data: _Data, path: _Path, factor: np.ndarray | None = None):
        self._factor = factor
        self._rows, self._settings, self._location, self._spread = rows, settings, data.location, data.spread
        self._masks: Masks = moments.of_masks(rows).whole
        both = data.fit + data.heldout
        products, zero = both.centred(self._masks, rows.xp.asarray(rows.problem.center.astype(np.float64)))
        self._products, self._zero, self._mean = products, rows.host(zero), rows.host(both.total / both.rows)
        t = len(zero)
        self._descent = _descent(rows, self._masks)
        self.state = self._descent.start(products, self._zero, np.arange(t), path.weights, factor)
        chosen = path.lambda_max * grid(settings)[path.best]
        top = rows.host(_dual_norm(products, factor)) + ROUNDING
        chosen = np.where(chosen > 0, chosen, top)
        self._descent.aim(self.state, np.arange(t), chosen)
        self.lambda_ = chosen * data.spread
        self.gap, self.intercept, self._trust = np.zeros(t), np.zeros(t), np.ones(t)
        self.weights = np.zeros(products.shape, dtype=np.float32)
        self.done = np.zeros(t, dtype=bool)
        self._settle()

    @property
    def active(self) -> int:
        return int(np.count_nonzero(~self.done))

    def step(self) -> None:
        self._descent.step(self.state, self._settings.tolerance * self._trust[self.state.target])
        self._settle()

    def _settle(self) -> None:
        """Certifies the targets that look converged and retires those that are, or that are out of steps."""
        state, here = self.state, self.state.target
        out_of_steps = state.steps >= self._settings.max_epochs
        near = self._descent.gaps(state) <= self._settings.tolerance * self._trust[here]
        # What is not near after so many steps may be held up by rounding alone.
        held_up = (state.steps > 0) & (state.steps % CERTIFIED_STEPS == 0)
        places = np.flatnonzero((near | held_up | out_of_steps) & ~self.done[here])
        if not len(places):
            return
        mine = here[places]
        rows, spread = self._rows, self._rows.xp.asarray(self._spread[mine])[:, None]
        weights = (state.theta.take(places, axis=0) * spread).astype(np.float32)
        self.gap[mine], pull = self._certify(mine, weights.astype(np.float64) / spread)
        self.weights[mine] = rows.host(weights)
        mean = self._location[mine] + self._spread[mine] * self._mean[mine]
        self.intercept[mine] = mean - rows.host(weights.astype(np.float64) @ self._masks.mean)
        certified = (self.gap[mine] <= self._settings.tolerance) | out_of_steps[places]
        self.done[mine] = certified
        self._trust[mine[~certified]] /= 2
        self._descent.correct(state, places[~certified], pull.take(np.flatnonzero(~certified), axis=0))
        retired = self.done[here]
        if retired.all() or retired.mean() > CLOSE_RANKS:
            self.state = state.take(np.flatnonzero(~retired))

    def _certify(self, mine: np.ndarray, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(gaps float64[p], pulls [p, d]) of weights float64[p, d] of the array module: those that are saved."""
        host, products = self._rows.host, self._products.take(mine, axis=0)
        pull = products - self._masks.exactly(theta)
        zero, factor = self._zero[mine], None if self._factor is None else self._factor.take(mine, axis=0)
        gaps = gap.relative(
            square=np.maximum(zero - host((theta * (products + pull)).sum(axis=1)), 0),
            aligned=host((theta * pull).sum(axis=1)),
            dual_norm=host(_dual_norm(pull, factor)),
            l1=host(abs(theta if factor is None else factor * theta).sum(axis=1)),
            lambda_=self.lambda_[mine] / self._spread[mine],
            zero=zero,
        )
        return gaps, pull
