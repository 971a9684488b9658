"""The solver `gram`: exact LASSO paths of a block of targets from the Gram of the masks, which all targets share.

After one pass over the rows, for their products with the outputs, a step costs d^2 a target and not d m. The lambdas,
the choice between them and the statuses are those of `path` and `refit`. The certificate is in float64, from counts
that nothing has rounded and products in float64. Nothing here is random.

Targets that leave their own subsets out have a Gram each; `own` solves them. What is too large for either, and what is
on a GPU, `stream` solves.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator

import numpy as np

from datamodels.fit import block, gap, moments, own, problem, sums
from datamodels.fit.block import PATH_SHARE, Here
from datamodels.fit.descent import Descent, State
from datamodels.fit.moments import Masks, Outputs
from datamodels.fit.path import CLOSE_RANKS, PATH_SLACK, ROUNDING, grid
from datamodels.fit.problem import CONSTANT, NO_SIGNAL, NOT_CONVERGED, OK, Problem, Solution
from datamodels.fit.rows import Rows, columns
from datamodels.fit.stream import Stream
from datamodels.spec import FitSpec

GRAM_BYTES = 8 * 2**30
"""Most memory of the Grams: counts of the rows to fit, of the held-out and of all rows, and floats of two of them. It
is enough for d = 20,000 in float32. It is the same on every machine, so that the solver is too."""

CERTIFIED_STEPS = 16
"""Steps of the last fit after which a target's gap is computed without rounding in any case."""


def applies(rows: Rows) -> bool:
    """Whether targets that share a Gram are solved from it."""
    return rows.xp is np and bytes_of(rows.problem.columns, rows.dtype.itemsize) <= GRAM_BYTES


def bytes_of(columns: int, itemsize: int) -> int:
    """Of the Grams of the masks, while they are made."""
    return columns**2 * (3 * 4 + 2 * itemsize)


def from_sums(given: Problem, settings: FitSpec) -> bool:
    """Whether a fit gains by sums over all rows that were made beforehand, and these are not too large."""
    gains = settings.estimator == "lasso" and settings.solver == "gram" and (given.own_column < 0).any()
    return bool(gains and sums.fits(given.columns, given.n))


def solve(
    rows: Rows,
    settings: FitSpec,
    first: int,
    last: int,
    *,
    seed: int,
    tick: Callable[[Here], None],
    resume: dict[str, np.ndarray] | None = None,
    factor: Callable[[np.ndarray], np.ndarray] | None = None,
) -> Solution:
    """The targets first <= j < last of `rows.problem`.

    A block that is interrupted starts again where it is solved here: it has no arrays.

    factor  penalty factors [t, d] of targets int64[t], where the penalty is weighted; of targets that share a Gram only
    """

    def streamed(start: int, stop: int) -> Solution:
        alone = (start, stop) == (first, last)  # else the arrays are of we know not which part
        return block.solve(
            rows,
            settings,
            start,
            stop,
            seed=seed,
            tick=_part(tick, first, last, start, stop, keep=alone),
            resume=resume if alone else None,
            method=Stream,
        )

    def one_kind(start: int, stop: int, is_own: bool) -> Solution:
        part = _part(tick, first, last, start, stop, keep=False)
        if is_own and own.applies(rows):
            solution, left = own.solve(rows, settings, start, stop, tick=part)
            return completed(solution, left, lambda a, b: streamed(start + a, start + b))
        return (
            _shared(rows, settings, start, stop, tick=part, factor=factor)
            if applies(rows) and not is_own
            else streamed(start, stop)
        )

    runs = _runs(rows.problem.own_column[first:last] >= 0)
    return problem.concatenate(one_kind(first + a, first + b, is_own) for a, b, is_own in runs)


def completed(solution: Solution, left: np.ndarray, solve: Callable[[int, int], Solution]) -> Solution:
    """A solution whose targets `left`, bool[n], are replaced by what `solve(first, last)` makes of them."""
    return problem.concatenate(
        solve(first, last) if missing else problem.rows_of(solution, first, last)
        for first, last, missing in _runs(left)
    )


def _runs(kinds: np.ndarray) -> Iterator[tuple[int, int, bool]]:
    """(first, last, kind) of the longest runs of one kind, bool[n], in order."""
    bounds = [0, *(np.flatnonzero(np.diff(kinds)) + 1).tolist(), len(kinds)]
    return ((a, b, bool(kinds[a])) for a, b in itertools.pairwise(bounds))


def _part(
    tick: Callable[[Here], None], first: int, last: int, start: int, stop: int, *, keep: bool
) -> Callable[[Here], None]:
    """For the targets start <= j < stop of a block: tells `tick` how far the block is; its arrays only if `keep`."""

    def told(here: Here) -> None:
        fraction = (start - first + here.fraction * (stop - start)) / (last - first)
        tick(dataclasses.replace(here, fraction=fraction, arrays=here.arrays if keep else dict))

    return told


def _shared(
    rows: Rows,
    settings: FitSpec,
    first: int,
    last: int,
    *,
    tick: Callable[[Here], None],
    factor: Callable[[np.ndarray], np.ndarray] | None,
) -> Solution:
    """Targets that count all rows; `factor` is as for `solve`."""
    n = last - first
    if rows.sums is None:
        outputs = rows.outputs(first, last)
        status, value = block.sorted_out(rows, outputs, None)
    else:
        status, value = rows.sums.sorted_out(first, last)
    target = np.flatnonzero(status == OK)
    lambda_, certified, intercept, r2 = np.zeros(n), np.zeros(n), np.zeros(n), np.full(n, np.nan)
    weights = np.zeros((n, rows.problem.columns), dtype=np.float32)
    if len(target):
        data = _Data.of(rows, columns(outputs, target)) if rows.sums is None else _Data.of_sums(rows, first + target)
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
        r2[target] = data.heldout_r2(path.best_error)
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

    location, spread  float64[t]; raw output = location + spread * z
    heldout_z         [held-out rows, t]
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
        square = np.zeros(len(location))
        for j in range(len(location)):
            square[j] = np.mean((outputs[:, j] - location[j]) ** 2, dtype=np.float64)
        spread = np.where(square > 0, np.sqrt(square), 1)
        return cls(
            location=location,
            spread=spread,
            heldout_z=((outputs[rows.heldout] - location) / spread).astype(rows.dtype),
            fit=moments.of_outputs(rows, rows.fit, outputs[rows.fit], location, spread),
            heldout=moments.of_outputs(rows, rows.heldout, outputs[rows.heldout], location, spread),
        )

    @classmethod
    def of_sums(cls, rows: Rows, targets: np.ndarray) -> _Data:
        """Of targets int64[t] of the problem, from `rows.sums`: reads the held-out rows alone."""
        known, shift = rows.sums, rows.sums.shift[targets]
        mean = (known.fit.total + known.heldout.total)[targets] / known.rows
        variance = (known.fit.square + known.heldout.square)[targets] / known.rows - mean**2
        location, spread = shift + mean, np.where(variance > 0, np.sqrt(np.maximum(variance, 0)), 1)
        held = columns(rows.outputs(targets[0], targets[-1] + 1, rows.heldout), targets - targets[0])
        center = rows.problem.center.astype(np.float64)
        return cls(
            location=location,
            spread=spread,
            heldout_z=((held - location) / spread).astype(rows.dtype),
            fit=moments.of_sums(known.fit, targets, shift, location, spread, center),
            heldout=moments.of_sums(known.heldout, targets, shift, location, spread, center),
        )

    def heldout_r2(self, error: np.ndarray) -> np.ndarray:
        """float64[t]: explained variance on the held-out rows, given the mean squared errors of z; NaN where it cannot
        be told, for they do not vary."""
        mean = self.heldout_z.mean(axis=0, dtype=np.float64)
        variance = ((self.heldout_z - mean) ** 2).mean(axis=0)
        varies = (self.heldout_z != self.heldout_z[0]).any(axis=0)
        return np.where(varies, 1 - error / np.where(varies, variance, 1), np.nan)


class _Path:
    """The lambda paths of t targets, on standardised outputs; as `path.Path`, which says what the fields mean."""

    def __init__(self, rows: Rows, settings: FitSpec, data: _Data, factor: np.ndarray | None = None):
        self._rows, self._settings, self._data, self._grid = rows, settings, data, grid(settings)
        self._masks = moments.of_masks(rows)
        self._center = rows.problem.center.astype(np.float64)
        products, zero = data.fit.centred(self._masks.fit, self._center)
        self._descent = Descent(self._masks.fit)
        t = len(zero)
        self.state = self._descent.start(products, zero, np.arange(t), None, factor)
        top = _dual_norm(products, factor)
        self.lambda_max = np.where(top > ROUNDING * np.finfo(rows.dtype).eps, top, 0)
        self.position, self.rises, self.best = np.zeros((3, t), dtype=np.int64)
        self.error, self.best_error = np.full((2, t), np.inf)
        self.weights = np.zeros(products.shape, dtype=rows.dtype)
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
        self.weights[mine[better]] = state.theta[places[better]]
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
        data, masks, mine = self._data, self._masks, state.target[places]
        theta = state.theta[places]
        shift = (data.fit.total / data.fit.rows)[mine] + theta @ (self._center - masks.fit.mean)
        if masks.heldout is None:
            x = self._rows.once("held-out", lambda: self._rows.unpacked(self._rows.heldout))[:, :-1]
            miss = x @ theta.T - data.heldout_z[:, mine] + shift.astype(theta.dtype)
            return np.einsum("ij,ij->j", miss, miss, dtype=np.float64) / len(miss)
        chosen = Outputs(data.heldout.rows, *(a[mine] for a in _arrays(data.heldout)))
        products, variance = chosen.centred(masks.heldout, self._center)
        spread = variance - np.einsum("ij,ij->i", theta, 2 * products - theta @ masks.heldout.gram, dtype=np.float64)
        bias = chosen.total / chosen.rows - theta @ (masks.heldout.mean - self._center) - shift
        return np.maximum(spread, 0) + bias**2


def _dual_norm(pull: np.ndarray, factor: np.ndarray | None) -> np.ndarray:
    """float64[t]: the smallest lambda whose thresholds no column's pull [t, d] exceeds."""
    return np.abs(pull if factor is None else pull / factor).max(axis=1)


def _arrays(sums: Outputs) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return sums.products, sums.total, sums.square


class _Refit:
    """The last fit of t targets, on all rows, certified; as `refit.Refit`, but targets come first: weights [t, d]."""

    def __init__(self, rows: Rows, settings: FitSpec, data: _Data, path: _Path, factor: np.ndarray | None = None):
        self._factor = factor
        self._settings, self._location, self._spread = settings, data.location, data.spread
        self._masks: Masks = moments.of_masks(rows).whole
        both = data.fit + data.heldout
        products, zero = both.centred(self._masks, rows.problem.center.astype(np.float64))
        self._products, self._zero, self._mean = products, zero, both.total / both.rows
        t = len(zero)
        self._descent = Descent(self._masks)
        self.state = self._descent.start(products, zero, np.arange(t), path.weights, factor)
        chosen = path.lambda_max * grid(settings)[path.best]
        top = _dual_norm(products, factor) + ROUNDING * np.finfo(rows.dtype).eps
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
        weights = (state.theta[places] * self._spread[mine, None]).astype(np.float32)
        self.gap[mine], pull = self._certify(mine, weights)
        self.weights[mine] = weights
        mean = self._location[mine] + self._spread[mine] * self._mean[mine]
        self.intercept[mine] = mean - weights.astype(np.float64) @ self._masks.mean
        certified = (self.gap[mine] <= self._settings.tolerance) | out_of_steps[places]
        self.done[mine] = certified
        self._trust[mine[~certified]] /= 2
        self._descent.correct(state, places[~certified], pull[~certified])
        retired = self.done[here]
        if retired.all() or retired.mean() > CLOSE_RANKS:
            self.state = state.take(np.flatnonzero(~retired))

    def _certify(self, mine: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(gaps float64[p], pulls float64[p, d]) of raw weights float32[p, d], as they are saved; in float64."""
        theta = weights.astype(np.float64) / self._spread[mine, None]
        products, zero = self._products[mine], self._zero[mine]
        pull = products - self._masks.exactly(theta)
        factor = None if self._factor is None else self._factor[mine]
        gaps = gap.relative(
            square=np.maximum(zero - np.einsum("ij,ij->i", theta, products + pull), 0),
            aligned=np.einsum("ij,ij->i", theta, pull),
            dual_norm=_dual_norm(pull, factor),
            l1=np.abs(theta if factor is None else factor * theta).sum(axis=1),
            lambda_=self.lambda_[mine] / self._spread[mine],
            zero=zero,
        )
        return gaps, pull
