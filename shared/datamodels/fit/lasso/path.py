"""The lambda path: which lambda suits each target, by its error on held-out rows.

Each target walks down its own grid from its own lambda_max, the smallest lambda at which no weight is left. A target
goes on to its next lambda as soon as it has converged, whatever the others do, and starts there from where it is. Its
path ends when its held-out error has risen `patience` times in a row, or with its grid; it is retired then, and the
others close ranks.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from datamodels.fit.data.rows import Rows, columns, partition
from datamodels.fit.lasso.method import MakeMethod, Measure, State
from datamodels.fit.lasso.saga import Saga
from datamodels.run.specs import FitSpec

CLOSE_RANKS = 1 / 16
"""Retired targets are dropped from the arrays when they are more than this share of them: dropping copies."""
PATH_SLACK = 5
"""Largest gap on the path over the tolerance, which the last fit keeps: held-out errors are told apart well before."""
REFRESH = 64
"""Epochs after which the average gradient is computed afresh."""

ROUNDING = 8 * float(np.finfo(np.float32).eps)
"""A lambda_max of standardised outputs of no more than this is 0: 8 units of rounding of float32, which outputs are
stored in at most. Computing in float64 makes no signal of their rounding."""


def grid(settings: FitSpec) -> np.ndarray:
    """float64[k]: lambdas over lambda_max, from 1 down to lambda_ratio by equal ratios; never 0."""
    k = settings.lambdas
    return np.geomspace(1, settings.lambda_ratio, k) if k > 1 else np.array([settings.lambda_ratio])


@dataclasses.dataclass
class Walk:
    """How far each target of a block is. The last axis of every array is the target of the block; none is ever moved.

    lambda_max  float64[n]; for raw outputs
    position    int64[n]; on the grid, of the lambda it is at
    epochs      int64[n]; spent at that lambda
    rises       int64[n]; how often the held-out error has risen in a row
    error       float64[n]; held-out mean squared error at the lambda before; infinite before the first
    best_error  float64[n]
    best        int64[n]; position of the smallest held-out error
    weights     [d, n]; there, on the raw scale
    done        bool[n]
    """

    lambda_max: np.ndarray
    position: np.ndarray
    epochs: np.ndarray
    rises: np.ndarray
    error: np.ndarray
    best_error: np.ndarray
    best: np.ndarray
    weights: np.ndarray
    done: np.ndarray


class Path:
    """The path of one block of targets. Call `epoch` until `active` is 0; then `walk` tells the choice."""

    def __init__(
        self,
        rows: Rows,
        settings: FitSpec,
        outputs: np.ndarray,
        keep: np.ndarray | None,
        target: np.ndarray,
        *,
        seed: list[int],
        method: MakeMethod = Saga,
    ):
        """`outputs` [m, n] and `keep` are of the whole block, `target` int64[t] those of it that can be fitted."""
        self._rows, self._settings, self._grid = rows, settings, grid(settings)
        self._outputs, self._keep = outputs, keep
        self._method = method(rows, rows.fit, batch=settings.batch, seed=seed)
        fit_keep = None if keep is None else keep[rows.fit]
        self.state: State = self._method.start(columns(outputs[rows.fit], target), columns(fit_keep, target), target)
        n = outputs.shape[1]
        self.walk = Walk(
            lambda_max=np.zeros(n),
            position=np.zeros(n, dtype=np.int64),
            epochs=np.zeros(n, dtype=np.int64),
            rises=np.zeros(n, dtype=np.int64),
            error=np.full(n, np.inf),
            best_error=np.full(n, np.inf),
            best=np.zeros(n, dtype=np.int64),
            weights=rows.xp.zeros((rows.problem.columns, n), dtype=rows.dtype),
            done=~np.isin(np.arange(n), target),
        )
        top = self._method.measure(self.state).dual_norm
        # What is below rounding is 0: no column tells anything about the outputs.
        self.walk.lambda_max[target] = np.where(top > ROUNDING, top * self.state.spread, 0)
        self.epochs = 0
        self._go_on(self._method.measure(self.state))

    @property
    def active(self) -> int:
        """Targets still on their way."""
        return int(np.count_nonzero(~self.walk.done))

    @property
    def fraction(self) -> float:
        """Share of the way done, of all targets."""
        walk = self.walk
        return float(np.where(walk.done, 1, walk.position / len(self._grid)).mean()) if len(walk.done) else 1.0

    @property
    def position(self) -> float:
        """Mean place on the grid."""
        return float(self.walk.position.mean()) if len(self.walk.position) else 0.0

    def epoch(self) -> None:
        self._method.epoch(self.state, self.epochs)
        self.epochs += 1
        self.walk.epochs[self.state.target] += 1
        if self.epochs % REFRESH == 0:
            self._method.refresh(self.state)
        self._go_on(self._method.calm(self.state))

    def _go_on(self, measure: Measure) -> None:
        """Moves converged targets on, as far as their weights carry them, and retires those that have ended."""
        walk, state = self.walk, self.state
        here, spread = state.target, np.where(state.spread > 0, state.spread, 1)
        while True:
            self._method.aim(state, walk.lambda_max[here] * self._grid[walk.position[here]] / spread)
            arrived = measure.gap(state.lambda_) <= PATH_SLACK * self._settings.tolerance
            arrived |= (walk.epochs[here] >= self._settings.max_epochs) | (walk.lambda_max[here] == 0)
            arrived &= ~walk.done[here]
            if not arrived.any():
                break
            self._arrive(np.flatnonzero(arrived))
        retired = walk.done[here]
        if retired.all() or retired.mean() > CLOSE_RANKS:
            self.state = state.take(np.flatnonzero(~retired))

    def _arrive(self, places: np.ndarray) -> None:
        """Weighs targets, given by their places in the state, on the held-out rows; sends them to the next lambda."""
        walk, mine = self.walk, self.state.target[places]
        error = self._heldout_error(places)
        better = error < walk.best_error[mine]
        walk.weights[:, self._rows.xp.asarray(mine[better])] = self._method.weights(self.state, places[better])
        walk.best[mine[better]] = walk.position[mine[better]]
        walk.best_error[mine[better]] = error[better]
        walk.rises[mine] = np.where(error > walk.error[mine], walk.rises[mine] + 1, 0)
        walk.error[mine] = error
        walk.epochs[mine] = 0
        last = walk.position[mine] + 1 == len(self._grid)
        walk.done[mine] = last | (walk.rises[mine] >= self._settings.patience) | (walk.lambda_max[mine] == 0)
        walk.position[mine] += ~walk.done[mine]

    def _heldout_error(self, places: np.ndarray) -> np.ndarray:
        """float64[p]: mean squared error on the held-out rows that count."""
        rows, xp, state = self._rows, self._rows.xp, self.state
        target, theta = state.target[places], self._method.predictor(state, places)
        spread, location = (xp.asarray(array[places]) for array in (state.spread, state.location))
        total, count = xp.zeros(len(places)), xp.zeros(len(places))
        for span in partition(rows.heldout, self._settings.batch):
            miss = rows.block(span) @ theta * spread + location - columns(self._outputs[span], target)
            keep = xp.ones((1, 1), dtype=bool) if self._keep is None else columns(self._keep[span], target)
            total += (xp.where(keep, miss, 0) ** 2).sum(axis=0)
            count += xp.broadcast_to(keep, miss.shape).sum(axis=0)
        return rows.host(total / count)

    def chosen(self, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(raw lambda float64[t], raw weights [d, t]) where the held-out error was smallest."""
        walk = self.walk
        return walk.lambda_max[target] * self._grid[walk.best[target]], columns(walk.weights, target)

    def arrays(self) -> dict[str, np.ndarray]:
        """All that `restore` needs to go on from here."""
        walk = {f.name: self._rows.host(getattr(self.walk, f.name)) for f in dataclasses.fields(self.walk)}
        return walk | self._method.arrays(self.state) | {"passes": np.array(self.epochs)}

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Sets everything as `arrays` had it; the rows, outputs and settings must be the same."""
        self.epochs = int(arrays["passes"])
        fields = {f.name: arrays[f.name] for f in dataclasses.fields(Walk)}
        self.walk = Walk(**fields | {"weights": self._rows.xp.asarray(fields["weights"])})
        self.state = self._method.restored(self.state, arrays)
