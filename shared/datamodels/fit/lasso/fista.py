"""FISTA for many LASSOs over the same rows, which it reads anew for every step (Beck and Teboulle 2009).

It needs no Gram and remembers no residuals, so that it works from packed masks of any size, and each target may leave
out rows of its own. One step reads every row once and does, for all targets at once, with z the point looked at,

    pull    = X' (y - X z) / m        minus the gradient; intercepts are the best ones for z, hence out of the way
    theta  <- prox( z + step * pull )
    z      <- theta + momentum * (theta - theta before)

so that two matrix products dominate. Momentum starts again, per target, when it points uphill (O'Donoghue and Candes
2015). The pull is affine in z: at a new lambda a target starts ahead of the old solution, on the line through the one
before, at no pass over the rows; and each step tells the curvature along it, so that steps may begin bold and are cut
where they meet more of it than they can bear.

Outputs are standardised per target, over the rows that count, as in `saga`; weights are given back on the raw scale.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from datamodels.fit.data import rows as row_blocks
from datamodels.fit.data.rows import Rows
from datamodels.fit.lasso import rowwise
from datamodels.fit.lasso.base import Measure, Solver

PASS_BYTES = 32 * 2**20
"""Rows are taken so many bytes at a time, as floats: enough for efficient products, few enough to stay near."""
MIN_ROWS = 64
"""And never fewer of them than this."""
BOLDNESS = 2.0
"""First step size times the largest eigenvalue. Solutions are sparse, and along their columns the Gram is flatter than
that; where it is not, steps are cut. Measured at d = 500, m = 6 d and d = 1,000, m = 1.5 d, passes over the rows of
whole fits: 59 and 105 with 1, 33 and 67 with 2, 33 and 57 with 3."""
CAUTION = 0.95
"""A step that was too long becomes so much of the longest that the curvature it met allows."""
SPEED = 1.5
"""Nesterov's t at the start: with 1, as in theory, the first step has no momentum, and a tenth more are needed."""

STILL = 1e-20
"""Squared length of moves that tell nothing of the curvature but rounding, weights being about 1."""

HOST = ("target", "lambda_", "here", "before", "step", "speed")
RESUMED = ("theta", "ahead", "pull", "past_ahead", "past_pull", *HOST)
"""Fields of a state that a start does not make again. Those of HOST are NumPy's always."""


@dataclasses.dataclass
class State:
    """Targets in the making. The last axis of every array is the target; `take` relies on that.

    The arrays of the array module (numpy or cupy), float32 or float64:

    theta       [d, a]; the last proximal point, of weights for standardised outputs
    ahead       [d, a]; the point looked at: theta and its momentum
    pull        [d, a]; there
    past_ahead, past_pull  [d, a]; where the lambda before was left
    products    [d, a]; the pull at zero weights
    y           [m, a]; standardised outputs, 0 where the row does not count
    keep        bool[m, a], or None where all rows count
    mean_x      [d, a]; mean of the rows that count
    varies      bool[d, a]; columns that vary among the rows that count: the others have no pull

    and of NumPy, float64 but for the first:

    target   int64[a]; which target of the block
    share    [a]; fraction of the rows that count
    location, spread  [a]; mean and deviation of the raw outputs over the rows that count
    lambda_  [a]; to solve for, for the standardised outputs: raw lambda / spread
    here     [a]; lambda that `ahead` was made for; infinite before the first
    before   [a]; lambda that `past_ahead` was made for
    step     [a]
    speed    [a]; Nesterov's t
    """

    theta: np.ndarray
    ahead: np.ndarray
    pull: np.ndarray
    past_ahead: np.ndarray
    past_pull: np.ndarray
    products: np.ndarray
    y: np.ndarray
    keep: np.ndarray | None
    mean_x: np.ndarray
    varies: np.ndarray
    target: np.ndarray
    share: np.ndarray
    location: np.ndarray
    spread: np.ndarray
    lambda_: np.ndarray
    here: np.ndarray
    before: np.ndarray
    step: np.ndarray
    speed: np.ndarray

    def __len__(self) -> int:
        """Targets."""
        return len(self.target)

    def take(self, chosen: np.ndarray) -> State:
        """Only the targets at these places, int[...], all that belongs to each with it."""
        arrays = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return State(**{name: row_blocks.columns(array, chosen) for name, array in arrays.items()})


class Fista:
    """FISTA over one span of rows. A `rowwise.Method`; `saga.Saga` says what each call does."""

    def __init__(
        self, rows: Rows, span: slice, *, batch: int = 0, seed: list[int] | None = None, pass_bytes: int = PASS_BYTES
    ):
        """`batch` and `seed` are for methods that draw rows; here nothing is random."""
        self.rows = rows
        self.span = span
        self.count = span.stop - span.start
        per_row = (rows.problem.columns + 1) * rows.dtype.itemsize
        self.batches = row_blocks.partition(span, max(MIN_ROWS, pass_bytes // per_row))
        self._eigenvalue, _ = rows.curvature()

    def start(self, outputs: np.ndarray, keep: np.ndarray | None, target: np.ndarray) -> State:
        """Targets at zero weights.

        outputs  [m, a], raw, of the rows of our span; finite, with at least one row that counts for each target
        keep     bool[m, a] or None
        target   int64[a]
        """
        xp, m, d, a = self.rows.xp, self.count, self.rows.problem.columns, len(target)
        standard = row_blocks.standardised(self.rows, outputs, keep)
        counts = standard.counts
        mask = xp.ones((m, 1), dtype=self.rows.dtype) if keep is None else keep.astype(self.rows.dtype)
        mean_x = self._products(mask.shape[1], lambda local, x: mask[local])[:-1] / counts
        products = self._products(a, lambda local, x: standard.y[local])[:-1] / counts
        varies = row_blocks.varying(self.rows, mean_x, counts)
        products = xp.where(varies, products, 0).astype(self.rows.dtype)
        share = self.rows.host(counts) / m
        edges = row_blocks.edge(d, m * share) / row_blocks.edge(d, self.rows.problem.rows)
        zeros = xp.zeros((3, d, a), dtype=self.rows.dtype)
        return State(
            theta=zeros[0],
            ahead=zeros[1],
            pull=products.copy(),
            past_ahead=zeros[2],
            past_pull=products.copy(),
            products=products,
            y=standard.y,
            keep=keep,
            mean_x=xp.broadcast_to(mean_x, (d, a)).astype(self.rows.dtype),
            varies=xp.broadcast_to(varies, (d, a)),
            target=target,
            share=share,
            location=self.rows.host(standard.location),
            spread=self.rows.host(standard.spread),
            lambda_=np.zeros(a),
            here=np.full(a, np.inf),
            before=np.full(a, np.inf),
            step=BOLDNESS / np.maximum(self._eigenvalue * edges, 1e-12),
            speed=np.full(a, SPEED),
        )

    def warm(self, state: State, theta: np.ndarray) -> None:
        """Sets the weights, raw [d, a]."""
        state.theta = (theta / self.rows.xp.asarray(state.spread)).astype(self.rows.dtype)
        state.ahead = state.theta.copy()
        self._look(state)

    def epoch(self, state: State, number: int) -> None:
        """One step of all targets, and one pass over the rows. `number` is for methods that draw rows."""
        self._set_out(state)
        xp = self.rows.xp
        fresh = self._proximal(state, slice(None))
        uphill = self.rows.host(xp.einsum("ij,ij->j", state.ahead - fresh, fresh - state.theta)) > 0
        speed = np.where(uphill, SPEED, (1 + np.sqrt(1 + 4 * state.speed**2)) / 2)
        momentum = np.where(uphill, 0, (state.speed - 1) / speed)
        state.speed = speed
        at, pull = state.ahead, state.pull
        state.ahead = fresh + (fresh - state.theta) * xp.asarray(momentum.astype(self.rows.dtype))
        state.theta = fresh
        self._look(state)
        self._shorten(state, state.ahead - at, pull - state.pull)

    def _set_out(self, state: State) -> None:
        """Takes targets with a new lambda ahead of where they are, on the line from where the lambda before ended."""
        xp = self.rows.xp
        new = np.flatnonzero(state.lambda_ != state.here)
        if not len(new):
            return
        with np.errstate(invalid="ignore", divide="ignore"):
            beyond = (state.here - state.lambda_)[new] / (state.before - state.here)[new]
        beyond = np.where(np.isfinite(beyond), np.clip(beyond, 0, 1), 0)
        places, beyond = xp.asarray(new), xp.asarray(beyond.astype(self.rows.dtype))
        for now, past in (("ahead", "past_ahead"), ("pull", "past_pull")):
            old = row_blocks.columns(getattr(state, past), places)
            left = row_blocks.columns(getattr(state, now), places)
            getattr(state, past)[:, places] = left
            getattr(state, now)[:, places] = left + beyond * (left - old)
        state.theta[:, places] = row_blocks.columns(state.ahead, places)
        state.before[new], state.here[new], state.speed[new] = state.here[new], state.lambda_[new], SPEED

    def _proximal(self, state: State, places):
        """[d, p]: one proximal gradient step from the points looked at."""
        xp, dtype = self.rows.xp, self.rows.dtype
        step, lambda_ = state.step[places], state.lambda_[places]
        where = xp.asarray(places) if isinstance(places, np.ndarray) else places
        ahead, pull = state.ahead[:, where], state.pull[:, where]
        target = ahead + pull * xp.asarray(step.astype(dtype))
        threshold = xp.asarray((step * lambda_).astype(dtype))
        return target - xp.clip(target, -threshold, threshold)

    def _shorten(self, state: State, moved, bent) -> None:
        """Cuts steps that are longer than what the curvature along the last one allows; those start again."""
        square = self.rows.host(self.rows.xp.einsum("ij,ij->j", moved, moved))
        curved = self.rows.host(self.rows.xp.einsum("ij,ij->j", moved, bent))
        steep = np.divide(curved, square, out=np.zeros(len(square)), where=square > STILL)
        over = state.step * steep > 1
        state.step = np.where(over, CAUTION / np.where(over, steep, 1), state.step)
        state.speed[over] = SPEED

    def measure(self, state: State) -> Measure:
        """Where the targets stand at the points looked at: exact, at no pass over the rows."""
        xp = self.rows.xp
        ahead, pull = state.ahead, state.pull
        aligned = xp.einsum("ij,ij->j", ahead, pull, dtype=np.float64)
        explained = aligned + xp.einsum("ij,ij->j", ahead, state.products, dtype=np.float64)
        return Measure(
            square=np.maximum(1 - self.rows.host(explained), 0),
            aligned=self.rows.host(aligned),
            dual_norm=self.rows.host(abs(pull).max(axis=0)).astype(np.float64),
            l1=self.rows.host(abs(ahead).sum(axis=0)).astype(np.float64),
            zero=np.ones(len(state)),
        )

    def calm(self, state: State) -> Measure:
        """Where the targets stand; `epoch` has calmed them already."""
        return self.measure(state)

    def aim(self, state: State, lambda_: np.ndarray) -> None:
        """Sets the lambdas of all targets, float64[a], for standardised outputs."""
        state.lambda_ = lambda_

    def refresh(self, state: State) -> None:
        """Nothing adds up from step to step."""

    def predictor(self, state: State, places: np.ndarray):
        """[d + 1, p]: weights for standardised outputs, one step on from the points looked at; then the intercepts.

        The objective is no higher there, and momentum has left no weight that is next to 0.
        """
        theta = self._proximal(state, places)
        shift = self.rows.xp.einsum("ij,ij->j", theta, row_blocks.columns(state.mean_x, places))
        return self.rows.xp.concatenate([theta, -shift[None] / self.rows.dtype.type(self.rows.tail)])

    def weights(self, state: State, places: np.ndarray):
        """[d, p]: weights on the raw scale, of targets by their places in the state."""
        return self._proximal(state, places) * self.rows.xp.asarray(state.spread[places].astype(self.rows.dtype))

    def arrays(self, state: State) -> dict[str, np.ndarray]:
        """What `restored` needs besides the rows and outputs."""
        return {f"state_{name}": self.rows.host(getattr(state, name)) for name in RESUMED}

    def restored(self, start: State, arrays: dict[str, np.ndarray]) -> State:
        """The state that `arrays` was made of; `start` is the one its targets started from."""
        return row_blocks.restored(self.rows, start, arrays, RESUMED, HOST)

    def _look(self, state: State) -> None:
        """Sets the pull at the points ahead, by one pass over the rows."""

        def residuals(local: slice, x):
            left = state.y[local] - x[:, :-1] @ state.ahead
            if state.keep is not None:
                left *= state.keep[local]
            return left

        found = self._products(len(state), residuals) / self.rows.xp.asarray(
            (state.share * self.count).astype(self.rows.dtype)
        )
        state.pull = found[:-1] - state.mean_x * (found[-1] / self.rows.dtype.type(self.rows.tail))
        state.pull *= state.varies

    def _products(self, width: int, right):
        """[d + 1, width]: X' right, where right(rows counted from the span's first, their masks) gives [r, width]."""
        total = self.rows.xp.zeros((self.rows.problem.columns + 1, width), dtype=self.rows.dtype)
        for batch in self.batches:
            x = self.rows.block(batch)
            total += x.T @ right(slice(batch.start - self.span.start, batch.stop - self.span.start), x)
        return total


solve = functools.partial(rowwise.solve, method=Fista)
"""See `contract.block.Solve`."""
SOLVER = Solver(solve, rehearsed=(250, 500), rehearsed_targets=128)
