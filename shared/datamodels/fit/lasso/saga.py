"""SAGA for many LASSOs over the same rows (Defazio et al. 2014; as used by Ilyas et al. 2022, appendix D).

The gradient of row i for target j is r_ij x_i, with r_ij the residual, so the table of past gradients is the matrix of
past residuals, float[m, n], and their average is X' table / m, float[d, n]. One step draws a batch B of rows and does,
for all targets at once,

    change  = X_B' (new residuals - table_B)                        sum of the batch's gradient changes
    theta  <- prox( theta - step * (change * batches / m + average) )
    average <- average + change / m;   table_B <- new residuals

so that two matrix products dominate. Masks are independent of their order, hence batches are fixed spans of rows (one
sequential read each) visited in a new random order in every epoch.

Rows that do not count for a target have weight 0: their residual is 0 and the target's gradients are scaled up by m /
m_j. The table and the outputs, as long as the rows, are in mapped files where the fit has a folder. The intercept is
one more coordinate, unpenalised. Outputs are standardised per target, over the rows that count, for the sake of
float32; weights are given back on the raw scale.
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
12,000: 1/4 takes a quarter more epochs, 1 saves a twentieth but stalls where m is not much more than d; `Saga.calm` is
for what stalls even so."""
STALLED = 10
"""A target whose gap has not fallen by a tenth in so many epochs takes half its step from then on."""
DIVERGED = 4.0
"""A target whose objective is this much above that at zero weights has diverged: it starts again, more slowly."""

HOST = ("target", "lambda_", "step", "moved", "lowest", "stalled")
RESUMED = ("theta", "average", "table", *HOST)
"""Fields of a state that a start does not make again. Those of HOST are NumPy's always."""


@dataclasses.dataclass
class State:
    """Targets in the making. The last axis of every array is the target; `take` relies on that.

    The arrays of the array module (numpy or cupy), float32 or float64:

    theta    [d + 1, a]; weights for standardised outputs, then the intercept over `Rows.tail`
    average  [d + 1, a]; X' table / m
    table    [m, a]; residuals as each row's batch last saw them, 0 where the row does not count
    y        [m, a]; standardised outputs, 0 where the row does not count
    keep     bool[m, a], or None where all rows count
    mean_x   [d + 1, a]; mean of the rows that count
    varies   bool[d, a]; columns that vary among the rows that count. The others have no pull

    and of NumPy, float64 but for the first:

    target   int64[a]; which target of the block
    share    [a]; fraction of the rows that count
    location, spread  [a]; mean and deviation of the raw outputs over the rows that count
    lambda_  [a]; for the standardised outputs: raw lambda / spread
    step     [a]
    moved    [a]; sum of squares that the last epoch changed the table by
    lowest   [a]; gap reached at this lambda
    stalled  [a]; epochs since it fell by a tenth
    """

    theta: np.ndarray
    average: np.ndarray
    table: np.ndarray
    y: np.ndarray
    keep: np.ndarray | None
    mean_x: np.ndarray
    varies: np.ndarray
    target: np.ndarray
    share: np.ndarray
    location: np.ndarray
    spread: np.ndarray
    lambda_: np.ndarray
    step: np.ndarray
    moved: np.ndarray
    lowest: np.ndarray
    stalled: np.ndarray

    def __len__(self) -> int:
        """Targets."""
        return len(self.target)

    def take(self, chosen: np.ndarray) -> State:
        """Only the targets at these places, int[...], all that belongs to each with it.

        What was as long as the rows is lost of the others: this state is not to be used any more.
        """
        arrays = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        long = {name: row_blocks.squeezed(arrays.pop(name), chosen) for name in ("table", "y")}
        return State(**long, **{name: row_blocks.columns(array, chosen) for name, array in arrays.items()})


class Saga:
    """SAGA over one span of rows."""

    def __init__(self, rows: Rows, span: slice, *, batch: int, seed: list[int]):
        self.rows = rows
        self.span = span
        self.count = span.stop - span.start
        self.batches = row_blocks.partition(span, batch)
        self._seed = seed
        self._kernels = elementwise.of(rows.xp)
        self._curvature = rows.curvature()

    def start(self, outputs: np.ndarray, keep: np.ndarray | None, target: np.ndarray) -> State:
        """Targets at zero weights.

        outputs  [m, a], raw, of the rows of our span; finite, with at least one row that counts for each target
        keep     bool[m, a] or None
        target   int64[a]
        """
        xp, m = self.rows.xp, self.count
        mask = xp.ones((1, 1), dtype=bool) if keep is None else keep
        standard = row_blocks.standardised(self.rows, outputs, keep)
        y, counts = standard.y, standard.counts
        share = self.rows.host(counts) / m
        d = self.rows.problem.columns
        mean_x = self._products(xp.broadcast_to(mask, y.shape).astype(self.rows.dtype)) / counts
        state = State(
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

    def warm(self, state: State, theta: np.ndarray) -> None:
        """Sets the weights, raw [d, a]; the intercepts become the best for them, and the table exact."""
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

    def epoch(self, state: State, number: int) -> None:
        """Visits every row once. `number` names the epoch: it alone decides the order of the batches."""
        xp, dtype = self.rows.xp, self.rows.dtype
        state.moved[:] = 0
        gain = xp.asarray((state.step / state.share).astype(dtype))
        threshold = xp.asarray((state.step * state.lambda_).astype(dtype))
        for k in np.random.default_rng([*self._seed, number]).permutation(len(self.batches)):
            x, old = self._exchange(state, self.batches[k])
            change = x.T @ old
            state.moved += self.rows.host(xp.einsum("ij,ij->j", old, old))
            self._kernels.proximal_step(
                state.theta, state.average, change, gain, threshold, len(self.batches) / self.count, self.count
            )

    def _exchange(self, state: State, batch: slice):
        """Brings the batch's rows of the table up to date; returns (their masks, what changed)."""
        local = slice(batch.start - self.span.start, batch.stop - self.span.start)
        x = self.rows.block(batch)
        fresh = x @ state.theta
        keep = None if state.keep is None else state.keep[local]
        change = state.table[local].copy()
        self._kernels.exchange(fresh, state.y[local], keep, change)
        state.table[local] = fresh
        return x, change

    def measure(self, state: State) -> Measure:
        """Where the targets stand, from the table: exact but for the table's age, at no matrix product."""
        xp = self.rows.xp
        counts = state.share * self.count
        total, square = np.zeros((2, len(state)))
        for batch in self.batches:
            local = slice(batch.start - self.span.start, batch.stop - self.span.start)
            table = state.table[local]
            total += self.rows.host(table.sum(axis=0))
            square += self.rows.host(xp.einsum("ij,ij->j", table, table))
        mean = total / counts
        share = xp.asarray(state.share.astype(self.rows.dtype))
        products = xp.asarray(mean.astype(self.rows.dtype)) * state.mean_x - state.average / share
        theta, products = state.theta[:-1], products[:-1] * state.varies
        return Measure(
            square=np.maximum(square / counts - mean**2, 0),
            aligned=self.rows.host(xp.einsum("ij,ij->j", theta, products)).astype(np.float64),
            dual_norm=self.rows.host(abs(products).max(axis=0)).astype(np.float64),
            l1=self.rows.host(abs(theta).sum(axis=0)).astype(np.float64),
            zero=np.ones(len(state)),
            stale=state.moved / counts / 4,  # half an epoch's movement: a row's mean age
        )

    def calm(self, state: State) -> Measure:
        """Halves the steps of targets that have stalled, or diverged; the latter start again at zero weights.

        Returns where the targets stand now.
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

    def aim(self, state: State, lambda_: np.ndarray) -> None:
        """Sets the lambdas of all targets, float64[a], for standardised outputs."""
        changed = lambda_ != state.lambda_
        state.lambda_ = lambda_
        state.lowest = np.where(changed, np.inf, state.lowest)
        state.stalled = np.where(changed, 0, state.stalled)

    def refresh(self, state: State) -> None:
        """Computes the average from the table, free of the rounding that epochs add up."""
        state.average = self._products(state.table) / self.rows.dtype.type(self.count)

    def predictor(self, state: State, places: np.ndarray) -> np.ndarray:
        """[d + 1, p]: weights for standardised outputs, then the intercepts over `Rows.tail`."""
        return row_blocks.columns(state.theta, places)

    def weights(self, state: State, places: np.ndarray) -> np.ndarray:
        """[d, p]: weights on the raw scale, of targets by their places in the state."""
        xp = self.rows.xp
        return row_blocks.columns(state.theta[:-1], places) * xp.asarray(state.spread[places].astype(self.rows.dtype))

    def arrays(self, state: State) -> dict[str, np.ndarray]:
        """What `restored` needs besides the rows and outputs."""
        return {f"state_{name}": self.rows.host(getattr(state, name)) for name in RESUMED}

    def restored(self, start: State, arrays: dict[str, np.ndarray]) -> State:
        """The state that `arrays` was made of; `start` is the one its targets started from."""
        return row_blocks.restored(self.rows, start, arrays, RESUMED, HOST)

    def _products(self, right: np.ndarray) -> np.ndarray:
        """X' right, [d + 1, a]."""
        total = self.rows.xp.zeros((self.rows.problem.columns + 1, right.shape[1]), dtype=self.rows.dtype)
        for batch in self.batches:
            total += self.rows.block(batch).T @ right[batch.start - self.span.start : batch.stop - self.span.start]
        return total

    def _steps(self, share: np.ndarray) -> np.ndarray:
        """Step sizes from the expected smoothness of drawing one batch (Gazagnadou et al. 2019, equation 18).

        With a share of the rows only, both its parts grow: the single gradients by scaling, the Gram's eigenvalue
        because fewer random rows are worse conditioned.
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
"""See `contract.block.Solve`."""
SOLVER = Solver(solve, rehearsed=(250, 500), rehearsed_targets=128, table=True)
