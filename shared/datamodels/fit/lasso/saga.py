"""Solve many LASSOs over the same rows by SAGA (Defazio et al. 2014), as Ilyas et al. (2022, appendix D) do.

The gradient of row i for target j is r_ij x_i, with r_ij the residual. So the table of past gradients is the matrix of
past residuals, float[m, n], and the average of these gradients is X' table / m, float[d, n]. One step draws a batch B
of rows and does for all targets

    change   = X_B' (new residuals - table_B)                        sum of the changes of the batch's gradients
    theta   <- prox( theta - step * (change * batches / m + average) )
    average <- average + change / m;   table_B <- new residuals

Two matrix products take most of the time. Masks are in random order already, so batches are fixed spans of rows, which
are read sequentially; only the order of batches is new in every epoch.

Rows that do not count for a target have weight 0: their residuals are 0, and the gradients of the target are scaled up
by m / m_j. The table and the outputs are as long as the rows; if the fit has a folder, they are in memory-mapped files.
The intercept is one more coordinate, without a penalty. Outputs are standardised per target over the rows that count,
because sums are float32. Weights are returned on the raw scale.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from datamodels.fit.data import rows as row_blocks
from datamodels.fit.data.rows import Rows
from datamodels.fit.kernels import elementwise
from datamodels.fit.lasso import rowwise
from datamodels.fit.lasso.base import Measure, Solver

BOLDNESS = 0.5
"""Step size times the expected smoothness. Theory (Gazagnadou et al. 2019) proves 1/4. Measured at d = 1,400, m =
12,000: 1/4 takes a quarter more epochs; 1 saves a twentieth, but stalls if m is not much more than d.
`Saga.stabilise` shortens the steps of targets that stall even so."""
STALLED = 10
"""Epochs in which the gap of a target has to fall by a tenth. If it does not, the target's step is halved."""
DIVERGED = 4.0
"""A target whose objective is more than this many times that at zero weights has diverged. It restarts with half its
step."""

HOST = ("target", "lambda_", "step", "moved", "lowest", "stalled")
RESUMED = ("theta", "average", "table", *HOST)
"""Fields of a state that are saved in checkpoints; `start` makes the others again. Those of HOST are always NumPy's."""


@dataclasses.dataclass(kw_only=True)
class SagaState(rowwise.RowwiseState):
    """Targets that are being solved. The last weight is the intercept over `Rows.tail`.

    Arrays of the array module:

    average  [d + 1, a]; X' table / m
    table    [m, a]; residuals as each row's batch last saw them, 0 if the row does not count

    Arrays of NumPy, float64:

    moved    [a]; sum of squares of the changes of the table in the last epoch
    lowest   [a]; lowest gap at this lambda
    stalled  [a]; epochs since the gap fell by a tenth
    """

    average: np.ndarray
    table: np.ndarray
    moved: np.ndarray
    lowest: np.ndarray
    stalled: np.ndarray

    REUSED = ("table", "y")  # they are as long as the rows


class Saga:
    """Runs SAGA over one span of rows."""

    def __init__(self, rows: Rows, span: slice, *, batch: int, seed: list[int]):
        self.rows = rows
        self.span = span
        self.count = span.stop - span.start
        self.batches = row_blocks.partition(span, batch)
        self._seed = seed
        self._kernels = elementwise.of(rows.xp)
        self._curvature = rows.curvature()

    def start(self, outputs: np.ndarray, keep: np.ndarray | None, target: np.ndarray) -> SagaState:
        """Start targets at zero weights.

        outputs  [m, a]; raw, of the rows of the span; finite, with at least one row that counts for each target
        keep     bool[m, a]; which rows count; None if all do
        target   int64[a]
        """
        xp, m = self.rows.xp, self.count
        mask = xp.ones((1, 1), dtype=bool) if keep is None else keep
        standard = row_blocks.standardised(self.rows, outputs, keep)
        y, counts = standard.y, standard.counts
        share = self.rows.host(counts) / m
        d = self.rows.problem.columns
        mean_x = self._products(xp.broadcast_to(mask, y.shape).astype(self.rows.dtype)) / counts
        state = SagaState(
            theta=xp.zeros((d + 1, len(target)), dtype=self.rows.dtype),
            average=xp.zeros((d + 1, len(target)), dtype=self.rows.dtype),
            table=self.rows.shelf(-y),
            y=self.rows.shelf(y),
            keep=keep,
            mean_x=mean_x.astype(y.dtype),
            varies=row_blocks.varying(self.rows, mean_x[:-1], counts),
            target=target,
            share=share,
            location=self.rows.host(standard.location),
            spread=self.rows.host(standard.spread),
            lambda_=np.zeros(len(target)),
            step=self._steps(share),
            moved=np.zeros(len(target)),
            lowest=np.full(len(target), np.inf),
            stalled=np.zeros(len(target)),
        )
        state.average = self._products(state.table) / self.rows.dtype.type(m)
        return state

    def warm_start(self, state: SagaState, theta: np.ndarray) -> None:
        """Set the weights, raw [d, a], the best intercepts for them, and the exact table."""
        xp = self.rows.xp
        state.theta[:-1] = theta / xp.asarray(state.spread)
        for batch in self.batches:
            self._exchange(state, batch)
        shift = state.table.sum(axis=0, dtype=np.float64) / xp.asarray(state.share * self.count)
        state.theta[-1] = -shift / self.rows.tail
        state.table -= shift.astype(state.table.dtype)
        if state.keep is not None:
            state.table *= state.keep
        state.average = self._products(state.table) / self.rows.dtype.type(self.count)

    def epoch(self, state: SagaState, number: int) -> None:
        """Visit every row once. The seed and `number`, the number of the epoch, decide the order of the batches.

        A GPU works through all batches without waiting for the host.
        """
        xp, dtype = self.rows.xp, self.rows.dtype
        moved = xp.zeros(len(state))
        gain = xp.asarray((state.step / state.share).astype(dtype))
        threshold = xp.asarray((state.step * state.lambda_).astype(dtype))
        for k in np.random.default_rng([*self._seed, number]).permutation(len(self.batches)):
            x, old = self._exchange(state, self.batches[k])
            change = x.T @ old
            moved += self.rows.dots(old, old)
            self._kernels.proximal_step(
                state.theta, state.average, change, gain, threshold, len(self.batches) / self.count, self.count
            )
        state.moved[:] = self.rows.host(moved)

    def _exchange(self, state: SagaState, batch: slice):
        """Update the rows of a batch in the table; return (their masks, the changes)."""
        local = slice(batch.start - self.span.start, batch.stop - self.span.start)
        x = self.rows.block(batch)
        fresh = x @ state.theta
        keep = None if state.keep is None else state.keep[local]
        change = state.table[local].copy()
        self._kernels.exchange(fresh, state.y[local], keep, change)
        state.table[local] = fresh
        return x, change

    def measure(self, state: SagaState) -> Measure:
        """Measure the targets from the table: exact except for the table's age, without a matrix product."""
        xp = self.rows.xp
        counts = state.share * self.count
        sums = xp.zeros((2, len(state)))
        for batch in self.batches:
            local = slice(batch.start - self.span.start, batch.stop - self.span.start)
            table = state.table[local]
            sums[0] += table.sum(axis=0)
            sums[1] += self.rows.dots(table, table)
        total, square = self.rows.host(sums)
        mean = total / counts
        share = xp.asarray(state.share.astype(self.rows.dtype))
        products = xp.asarray(mean.astype(self.rows.dtype)) * state.mean_x - state.average / share
        theta, products = state.theta[:-1], products[:-1] * state.varies
        return Measure(
            square=np.maximum(square / counts - mean**2, 0),
            aligned=self.rows.host(self.rows.dots(theta, products)).astype(np.float64),
            dual_norm=self.rows.host(abs(products).max(axis=0)).astype(np.float64),
            l1=self.rows.host(abs(theta).sum(axis=0)).astype(np.float64),
            zero=np.ones(len(state)),
            stale=state.moved / counts / 4,  # a row's mean age is half an epoch
        )

    def stabilise(self, state: SagaState) -> Measure:
        """Halve the steps of targets that have stalled or diverged; restart the latter at zero weights.

        Returns the measure of all targets after that.
        """
        measure = self.measure(state)
        gaps = measure.gap(state.lambda_)
        fallen = gaps < 0.9 * state.lowest
        state.lowest = np.where(fallen, gaps, state.lowest)
        state.stalled = np.where(fallen, 0, state.stalled + 1)
        diverged = ~(measure.square / 2 + state.lambda_ * measure.l1 <= DIVERGED / 2)
        slower = diverged | (state.stalled >= STALLED)
        state.step = np.where(slower, state.step / 2, state.step)
        state.stalled[slower] = 0
        if not diverged.any():
            return measure
        chosen = self.rows.xp.asarray(np.flatnonzero(diverged))
        state.moved[diverged] = 0
        state.theta[:, chosen] = 0
        state.table[:, chosen] = -row_blocks.columns(state.y, chosen)
        state.average[:, chosen] = self._products(row_blocks.columns(state.table, chosen)) / self.rows.dtype.type(
            self.count
        )
        return self.measure(state)

    def set_lambda(self, state: SagaState, lambda_: np.ndarray) -> None:
        """Set the lambdas of all targets, float64[a], for standardised outputs."""
        changed = lambda_ != state.lambda_
        state.lambda_ = lambda_
        state.lowest = np.where(changed, np.inf, state.lowest)
        state.stalled = np.where(changed, 0, state.stalled)

    def refresh(self, state: SagaState) -> None:
        """Compute the average from the table, free of the rounding that epochs accumulate."""
        state.average = self._products(state.table) / self.rows.dtype.type(self.count)

    def predictor(self, state: SagaState, places: np.ndarray) -> np.ndarray:
        """Return [d + 1, p]: weights for standardised outputs, then the intercepts over `Rows.tail`."""
        return row_blocks.columns(state.theta, places)

    def predictions(self, span: slice, theta: np.ndarray) -> np.ndarray:
        """Return [r, p]: what weights and intercepts [d + 1, p], as of `predictor`, say of a span of rows."""
        return self.rows.block(span) @ theta

    def weights(self, state: SagaState, places: np.ndarray) -> np.ndarray:
        """Return raw weights [d, p] of targets by their places in the state."""
        xp = self.rows.xp
        return row_blocks.columns(state.theta[:-1], places) * xp.asarray(state.spread[places].astype(self.rows.dtype))

    def arrays(self, state: SagaState) -> dict[str, np.ndarray]:
        """Return what `restored` needs besides the rows and outputs."""
        return {f"state_{name}": self.rows.host(getattr(state, name)) for name in RESUMED}

    def restored(self, start: SagaState, arrays: dict[str, np.ndarray]) -> SagaState:
        """Return the state from which `arrays` was made. `start` is the state with which its targets started."""
        return row_blocks.restored(self.rows, start, arrays, RESUMED, HOST)

    def _products(self, right: np.ndarray) -> np.ndarray:
        """Return X' right, [d + 1, a]."""
        total = self.rows.xp.zeros((self.rows.problem.columns + 1, right.shape[1]), dtype=self.rows.dtype)
        for batch in self.batches:
            total += self.rows.block(batch).T @ right[batch.start - self.span.start : batch.stop - self.span.start]
        return total

    def _steps(self, share: np.ndarray) -> np.ndarray:
        """Return step sizes from the expected smoothness of drawing one batch (Gazagnadou et al. 2019, equation 18).

        If only a fraction of the rows counts, both of its parts grow: single gradients are scaled up, and the
        eigenvalue of the Gram grows because fewer random rows are conditioned worse.
        """
        m, d = self.count, self.rows.problem.columns
        batch = max(1, m // max(1, len(self.batches)))
        eigenvalue, norm = self._curvature
        largest = eigenvalue * row_blocks.edge(d, m * share) / row_blocks.edge(d, self.rows.problem.rows)
        if m > 1:
            smoothness = (m * (batch - 1) * largest + (m - batch) * norm / share) / (batch * (m - 1))
        else:
            smoothness = norm / share
        return BOLDNESS / np.maximum(smoothness, 1e-12)


solve = functools.partial(rowwise.solve, method=Saga)
"""Fit a block of targets; see `contract.block.Solve`."""
SOLVER = Solver(solve, trial_columns=(250, 500), trial_targets=128, table=True)
