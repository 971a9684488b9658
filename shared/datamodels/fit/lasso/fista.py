"""Solve many LASSOs over the same rows by FISTA, which reads them in every step (Beck and Teboulle 2009).

It needs no Gram and keeps no residuals. So it works from packed masks of any size, and each target may leave out rows
of its own. One step reads every row once, and does for all targets, at their points z,

    neg_grad = X' (y - X z) / m       minus the gradient, at the best intercepts for z
    theta   <- prox( z + step * neg_grad )
    z       <- theta + momentum * (theta - previous theta)

Two products of matrices take most of the time. On a CPU, in float32, they read packed masks and unpack nothing. Few
weights are not 0, so X z adds up those that are not (`kernels.membership`), and X' r adds up entries of tables
(`kernels.lookup`). At d = 20,000, such a step for 64 targets takes a fifth of the time of products of floats, and at
d = 500 half of it.

Momentum restarts for a target when it points uphill (O'Donoghue and Candes 2015).

neg_grad is affine in z. So at a new lambda, a target starts from an extrapolation of the last two solutions, whose
neg_grad is known without reading a row. Each step also shows the curvature along it. So steps start long, and are
shortened if they are too long for the curvature.

Outputs are standardised per target over the rows that count, as in `saga`. Weights are returned on the raw scale.
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

PASS_BYTES = 32 * 2**20
"""Bytes of rows, as floats, that are read at a time: enough for efficient products, few enough to stay in cache."""
DEVICE_PASS_BYTES = 2**30
"""The same on a GPU, whose products need thousands of rows to be efficient: 5,368 rows at d = 50,000."""
PACKED_ROWS = 1024
"""Rows that are read at a time if they stay packed: as many as `lookup` adds in 32 bits."""
MIN_ROWS = 64
"""Fewest rows that are read at a time."""
BOLDNESS = 2.0
"""First step size times the largest eigenvalue. Solutions are sparse, and the curvature along their columns is
smaller than that; if it is not, steps are shortened. Passes over the rows of whole fits, measured at d = 500, m = 6 d
and d = 1,000, m = 1.5 d: 59 and 105 with 1, 33 and 67 with 2, 33 and 57 with 3."""
CAUTION = 0.95
"""A step that was too long is shortened to this fraction of the longest that its curvature allows."""
SPEED = 1.5
"""Nesterov's t at the start. With 1, as in theory, the first step has no momentum, and fits take a tenth more steps."""
STILL = 1e-20
"""Squared length of moves, of weights of about 1, whose measured curvature is only rounding."""

HOST = ("target", "lambda_", "here", "before", "step", "speed")
RESUMED = ("theta", "ahead", "neg_grad", "past_ahead", "past_neg_grad", *HOST)
"""Fields of a state that are saved in checkpoints; `start` makes the others again. Those of HOST are always NumPy's."""


@dataclasses.dataclass(kw_only=True)
class FistaState(rowwise.RowwiseState):
    """Targets that are being solved. Their weights, theta, are the last proximal point.

    Arrays of the array module:

    ahead       [d, a]; the point z: theta and its momentum
    neg_grad    [d, a]; minus the gradient at z
    past_ahead, past_neg_grad  [d, a]; the last z, and neg_grad there, at the previous lambda
    products    [d, a]; neg_grad at zero weights
    factor      [d, a], above 0; multiplies lambda for each column; None if it is 1 everywhere

    Arrays of NumPy, float64:

    here     [a]; the lambda that `ahead` was computed for; infinite before the first
    before   [a]; the lambda that `past_ahead` was computed for
    speed    [a]; Nesterov's t
    """

    ahead: np.ndarray
    neg_grad: np.ndarray
    past_ahead: np.ndarray
    past_neg_grad: np.ndarray
    products: np.ndarray
    here: np.ndarray
    before: np.ndarray
    speed: np.ndarray
    factor: np.ndarray | None = None


class Fista:
    """Runs FISTA over one span of rows. It is a `rowwise.Method`; `saga.Saga` describes the calls."""

    def __init__(
        self,
        rows: Rows,
        span: slice,
        *,
        batch: int = 0,
        seed: list[int] | None = None,
        pass_bytes: int = 0,
        factor: np.ndarray | None = None,
    ):
        """Read `pass_bytes` of rows at a time; 0 for what suits the device.

        `batch` and `seed` are for methods that draw rows; this one does not.

        factor  [d, t]; factors of the penalty of all targets of the block; None if they are 1
        """
        self.rows, self._factor = rows, factor
        self._kernels = elementwise.of(rows.xp)
        pass_bytes = pass_bytes or (PASS_BYTES if rows.xp is np else DEVICE_PASS_BYTES)
        self.span = span
        self.count = span.stop - span.start
        self._packed = rows.xp is np and rows.dtype == np.float32
        per_row = (rows.problem.columns + 1) * rows.dtype.itemsize
        most = PACKED_ROWS if self._packed else max(MIN_ROWS, pass_bytes // per_row)
        self.batches = row_blocks.partition(span, most)
        self._eigenvalue, _ = rows.curvature()

    def start(self, outputs: np.ndarray, keep: np.ndarray | None, target: np.ndarray) -> FistaState:
        """Start targets at zero weights.

        outputs  [m, a]; raw, of the rows of the span; finite, with at least one row that counts for each target
        keep     bool[m, a]; which rows count; None if all do
        target   int64[a]
        """
        xp, m, d, a = self.rows.xp, self.count, self.rows.problem.columns, len(target)
        standard = row_blocks.standardised(self.rows, outputs, keep)
        counts = standard.counts
        mask = xp.ones((m, 1), dtype=self.rows.dtype) if keep is None else keep.astype(self.rows.dtype)
        mean_x = self._products(mask)[:-1] / counts
        products = self._products(standard.y)[:-1] / counts
        varies = row_blocks.varying(self.rows, mean_x, counts)
        products = xp.where(varies, products, 0).astype(self.rows.dtype)
        share = self.rows.host(counts) / m
        edges = row_blocks.edge(d, m * share) / row_blocks.edge(d, self.rows.problem.rows)
        zeros = xp.zeros((3, d, a), dtype=self.rows.dtype)
        return FistaState(
            theta=zeros[0],
            ahead=zeros[1],
            neg_grad=products.copy(),
            past_ahead=zeros[2],
            past_neg_grad=products.copy(),
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
            factor=None if self._factor is None else row_blocks.columns(self._factor, target),
        )

    def warm_start(self, state: FistaState, theta: np.ndarray) -> None:
        """Set the weights, raw [d, a]."""
        state.theta = (theta / self.rows.xp.asarray(state.spread)).astype(self.rows.dtype)
        state.ahead = state.theta.copy()
        self._compute_neg_grad(state)

    def epoch(self, state: FistaState, number: int) -> None:
        """Take one step of all targets, in one pass over the rows. `number` is for methods that draw rows."""
        self._extrapolate(state)
        xp = self.rows.xp
        fresh = self._proximal(state, slice(None))
        uphill = self.rows.host(self.rows.dots(state.ahead - fresh, fresh - state.theta)) > 0
        speed = np.where(uphill, SPEED, (1 + np.sqrt(1 + 4 * state.speed**2)) / 2)
        momentum = np.where(uphill, 0, (state.speed - 1) / speed)
        state.speed = speed
        at, neg_grad = state.ahead, state.neg_grad
        state.ahead = fresh + (fresh - state.theta) * xp.asarray(momentum.astype(self.rows.dtype))
        state.theta = fresh
        self._compute_neg_grad(state)
        self._shorten(state, state.ahead - at, neg_grad - state.neg_grad)

    def _extrapolate(self, state: FistaState) -> None:
        """Extrapolate from the last two solutions, for targets with a new lambda."""
        xp = self.rows.xp
        new = np.flatnonzero(state.lambda_ != state.here)
        if not len(new):
            return
        with np.errstate(invalid="ignore", divide="ignore"):
            beyond = (state.here - state.lambda_)[new] / (state.before - state.here)[new]
        beyond = np.where(np.isfinite(beyond), np.clip(beyond, 0, 1), 0)
        places, beyond = xp.asarray(new), xp.asarray(beyond.astype(self.rows.dtype))
        for now, past in (("ahead", "past_ahead"), ("neg_grad", "past_neg_grad")):
            old = row_blocks.columns(getattr(state, past), places)
            left = row_blocks.columns(getattr(state, now), places)
            getattr(state, past)[:, places] = left
            getattr(state, now)[:, places] = left + beyond * (left - old)
        state.theta[:, places] = row_blocks.columns(state.ahead, places)
        state.before[new], state.here[new], state.speed[new] = state.here[new], state.lambda_[new], SPEED

    def _proximal(self, state: FistaState, places):
        """Return weights [d, p] one proximal gradient step from the points z."""
        xp, dtype = self.rows.xp, self.rows.dtype
        step, lambda_ = state.step[places], state.lambda_[places]
        where = xp.asarray(places) if isinstance(places, np.ndarray) else places
        ahead, neg_grad = state.ahead[:, where], state.neg_grad[:, where]
        target = ahead + neg_grad * xp.asarray(step.astype(dtype))
        threshold = xp.asarray((step * lambda_).astype(dtype))
        if state.factor is not None:
            threshold = threshold * state.factor[:, where]
        return target - xp.clip(target, -threshold, threshold)

    def _shorten(self, state: FistaState, moved, bent) -> None:
        """Shorten steps that are too long for the curvature along the last step; restart their momentum."""
        square = self.rows.host(self.rows.dots(moved, moved))
        curved = self.rows.host(self.rows.dots(moved, bent))
        steep = np.divide(curved, square, out=np.zeros(len(square)), where=square > STILL)
        over = state.step * steep > 1
        state.step = np.where(over, CAUTION / np.where(over, steep, 1), state.step)
        state.speed[over] = SPEED

    def measure(self, state: FistaState) -> Measure:
        """Measure the targets at their points z: exactly, without reading a row."""
        ahead, neg_grad = state.ahead, state.neg_grad
        aligned = self.rows.dots(ahead, neg_grad, dtype=np.float64)
        explained = aligned + self.rows.dots(ahead, state.products, dtype=np.float64)
        size, steep = abs(ahead), abs(neg_grad)
        if state.factor is not None:
            size, steep = size * state.factor, steep / state.factor
        return Measure(
            square=np.maximum(1 - self.rows.host(explained), 0),
            aligned=self.rows.host(aligned),
            dual_norm=self.rows.host(steep.max(axis=0)).astype(np.float64),
            l1=self.rows.host(size.sum(axis=0)).astype(np.float64),
            zero=np.ones(len(state)),
        )

    def stabilise(self, state: FistaState) -> Measure:
        """Measure the targets. `epoch` has shortened their steps already."""
        return self.measure(state)

    def set_lambda(self, state: FistaState, lambda_: np.ndarray) -> None:
        """Set the lambdas of all targets, float64[a], for standardised outputs."""
        state.lambda_ = lambda_

    def refresh(self, state: FistaState) -> None:
        """Do nothing: no rounding adds up from step to step."""

    def predictor(self, state: FistaState, places: np.ndarray):
        """Return [d + 1, p]: weights for standardised outputs, one proximal step from z, and then the intercepts.

        There, the objective is no higher, and momentum has left no weight close to 0.
        """
        theta = self._proximal(state, places)
        shift = self.rows.dots(theta, row_blocks.columns(state.mean_x, places)).astype(self.rows.dtype)
        return self.rows.xp.concatenate([theta, -shift[None] / self.rows.dtype.type(self.rows.tail)])

    def weights(self, state: FistaState, places: np.ndarray):
        """Return raw weights [d, p] of targets by their places in the state."""
        return self._proximal(state, places) * self.rows.xp.asarray(state.spread[places].astype(self.rows.dtype))

    def arrays(self, state: FistaState) -> dict[str, np.ndarray]:
        """Return what `restored` needs besides the rows and outputs."""
        return {f"state_{name}": self.rows.host(getattr(state, name)) for name in RESUMED}

    def restored(self, start: FistaState, arrays: dict[str, np.ndarray]) -> FistaState:
        """Return the state from which `arrays` was made. `start` is the state with which its targets started."""
        return row_blocks.restored(self.rows, start, arrays, RESUMED, HOST)

    def predictions(self, span: slice, theta: np.ndarray) -> np.ndarray:
        """Return [r, p]: what weights and intercepts [d + 1, p], as of `predictor`, say of a span of rows."""
        if not self._packed:
            return self.rows.block(span) @ theta
        from datamodels.fit.kernels.membership import Sparse

        sparse = Sparse.of(theta[:-1], self.rows.problem.center)
        return sparse.sums(self.rows.words(span), span.stop - span.start) + theta[-1] * self.rows.tail

    def _compute_neg_grad(self, state: FistaState) -> None:
        """Set neg_grad at the points z, in one pass over the rows."""
        found = self._products(state.y, state.ahead, state.keep)
        found /= self.rows.xp.asarray((state.share * self.count).astype(self.rows.dtype))
        state.neg_grad = found[:-1] - state.mean_x * (found[-1] / self.rows.dtype.type(self.rows.tail))
        state.neg_grad *= state.varies

    def _products(self, y: np.ndarray, ahead: np.ndarray | None = None, keep: np.ndarray | None = None) -> np.ndarray:
        """Return X' r [d + 1, a] with r = y [m, a], or y - X ahead if weights [d, a] are given, and 0 unless keep."""
        if self._packed:
            return self._by_tables(y, ahead, keep)
        xp = self.rows.xp
        # A GPU would copy all but the last column of the rows, so it multiplies the last one, too: by 0.
        if ahead is not None and xp is not np:
            ahead = xp.concatenate([ahead, xp.zeros_like(ahead[:1])])
        total = xp.zeros((self.rows.problem.columns + 1, y.shape[1]), dtype=self.rows.dtype)
        for batch in self.batches:
            x, local = self.rows.block(batch), slice(batch.start - self.span.start, batch.stop - self.span.start)
            right = y[local]
            if ahead is not None:
                right = x[:, : len(ahead)] @ ahead
                self._kernels.residuals(right, y[local], None if keep is None else keep[local])
            total += x.T @ right
        return total

    def _by_tables(self, y: np.ndarray, ahead: np.ndarray | None, keep: np.ndarray | None) -> np.ndarray:
        """Return what `_products` returns, from packed masks. Sums of r are those of numbers of `lookup.BITS` bits."""
        from datamodels.fit.kernels import lookup
        from datamodels.fit.kernels.membership import Sparse

        rows, (d, a) = self.rows, (self.rows.problem.columns, y.shape[1])
        found, total = np.zeros((a, d)), np.zeros(a)
        sparse = None if ahead is None else Sparse.of(ahead, rows.problem.center)
        for batch in self.batches:
            words, local = self.rows.words(batch), slice(batch.start - self.span.start, batch.stop - self.span.start)
            left = y[local].astype(np.float64)
            if sparse is not None:
                left -= sparse.sums(words, len(left))
                if keep is not None:
                    left *= keep[local]
            lookup.add_rounded(words, left, found)
            total += left.sum(axis=0)
        products = np.empty((d + 1, a), dtype=rows.dtype)
        for k in range(a):
            products[:-1, k] = found[k] - total[k] * rows.problem.center
        products[-1] = total * rows.tail
        return products


solve = functools.partial(rowwise.solve, method=Fista)
"""Fit a block of targets; see `contract.block.Solve`."""
SOLVER = Solver(solve, trial_columns=(2000, 4000), trial_targets=128)
