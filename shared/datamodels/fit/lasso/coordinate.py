"""Solve many LASSOs over one Gram matrix. For target j,

    min_theta  1/2 theta' G theta - c_j . theta + lambda_j ||theta||_1          neg_grad = c_j - G theta

with G the Gram of the centred masks, c_j = X' y_j / m their covariance with the centred outputs, and neg_grad minus the
gradient of the smooth part. For the estimator `weighted` the penalty is lambda_j sum_c factor_jc |theta_c|: each column
has a threshold of its own.

Each step improves every target independently, and then computes neg_grad for all by one matrix product, theta G. The
duality gap follows from it. A target is improved in one of two ways:

- by coordinate descent on a working set, if the set is small or if gradient steps have not converged. The set has the
  columns with a weight, and those that the sequential strong rule keeps (Tibshirani et al. 2012):
  |neg_grad| >= 2 lambda - (previous lambda). A column that the rule missed is found by the next neg_grad, and is added;
- otherwise by one proximal gradient step. At a new lambda, it starts from an extrapolation of the last two solutions.
  If the Gram is conditioned well (m above about 6 d), the step size is 1 / (alpha (1 - alpha)), the inverse of
  the mean curvature. Otherwise it is 1 / L, with L the largest eigenvalue, and Nesterov's momentum is used. Momentum
  restarts for each target when it points uphill.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from datamodels.fit.data.moments import Masks
from datamodels.fit.kernels.batched import Batched
from datamodels.fit.lasso.base import Measure

SMALL_SET = 0.1
"""Working sets of up to this fraction of the columns are solved by coordinate descent. Measured at d = 2,000 and 5,000,
m = 6 d, up to two lambdas past the best: 0.05 and 0.15 are equal or a tenth slower, 0.2 a fifth, 0.4 at least half."""
STUBBORN = 200
"""Steps at one lambda after which a target is solved by coordinate descent, whatever the size of its working set.
Random masks need a tenth as many. If the Gram is conditioned badly (few rows, small lambda), gradient steps may take
thousands."""
SPARSE = 0.1
"""If at most this fraction of a target's weights has changed, rows of the Gram are added one by one. That costs a tenth
of a whole matrix product for each hundredth of the columns at d = 5,000."""
SAFE = 1.8
"""Largest product of step size and largest eigenvalue without momentum. At 2 the iteration diverges."""
WELL_CONDITIONED = 3.5
"""Largest eigenvalue over mean curvature up to which steps need no momentum. Random masks reach it at m = 1.3 d."""
CAUTION = 0.95
"""Step size times L with momentum, which needs at most 1. L, by power iteration, is up to one per cent too small."""
SWEEPS = 100
"""Most sweeps over a working set in one step."""
FINER = 0.3
"""Coordinate descent stops when no gradient changes by more than this times the wanted gap, relative to lambda. Each
further step at the same lambda halves it, at most FINEST times."""
FINEST = 6
ROUNDING = 4
"""Coordinate descent stops in any case at this many units of rounding of the largest product: gradients are differences
of such numbers."""


@dataclasses.dataclass
class DescentState:
    """Targets that are being solved. The first axis of every array is the target; `take` relies on it.

    Of the array module:

    theta       [a, d]
    products    [a, d]; the c_j
    neg_grad    [a, d]; at theta
    past_theta, past_neg_grad  [a, d]; at the previous lambda, or, with momentum, at the previous step
    base_theta, base_neg_grad  [a, d]; where neg_grad was last computed without rounding: later ones are changes from it
    factor      [a, d], above 0; multiplies lambda for each column; None if it is 1 everywhere

    Of NumPy:

    target   int64[a]; numbers of the targets in the block
    zero     float64[a]; variance of the outputs
    lambda_  float64[a]
    before   float64[a]; the previous lambda; infinite at the first
    steps    int64[a]; steps at this lambda
    speed    float64[a]; Nesterov's t
    reach    float64[a]; largest product
    """

    theta: np.ndarray
    products: np.ndarray
    neg_grad: np.ndarray
    past_theta: np.ndarray
    past_neg_grad: np.ndarray
    base_theta: np.ndarray
    base_neg_grad: np.ndarray
    target: np.ndarray
    zero: np.ndarray
    lambda_: np.ndarray
    before: np.ndarray
    steps: np.ndarray
    speed: np.ndarray
    reach: np.ndarray
    factor: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.target)

    def take(self, chosen: np.ndarray) -> DescentState:
        """Return the state of the targets at some places, int[...]."""
        arrays: dict[str, Any] = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        arrays |= {name: array.take(chosen, axis=0) for name, array in arrays.items() if array is not None}
        return DescentState(**arrays)


class Descent:
    """Takes steps for targets over the Gram of `masks`.

    small  largest working set, in columns, that is solved by coordinate descent; by default SMALL_SET of the columns
    loops  the loops for an array module other than NumPy, to which the Gram then belongs. With them, all steps are
           proximal gradient steps and products of whole matrices
    """

    def __init__(self, masks: Masks, small: int | None = None, loops: Batched | None = None):
        from datamodels.fit.kernels import coordinate_descent

        self._coordinates = coordinate_descent
        self._loops = loops or coordinate_descent
        self._xp = loops.xp if loops else np
        self._masks, self._gram = masks, masks.gram
        self._entries = getattr(masks.gram, "entries", masks.gram)  # of panels, or an array
        self._sparse_neg_grads = getattr(masks.gram, "sparse_neg_grads", coordinate_descent.sparse_neg_grads)
        curvature = self._host(masks.curvature)
        varying = curvature[curvature > 0]
        mean = float(varying.mean()) if len(varying) else 1.0
        edge = max(masks.edge, mean)
        self._momentum = edge > WELL_CONDITIONED * mean
        self._step = CAUTION / edge if self._momentum else min(1 / mean, SAFE / edge)
        sparse, most = getattr(masks.gram, "SPARSE", SPARSE), getattr(masks.gram, "SMALL_SET", SMALL_SET)
        self._sparse = -1 if loops else int(sparse * len(self._gram))
        self._small = -1 if loops else int(most * len(self._gram)) if small is None else small
        self._stubborn = np.inf if loops else STUBBORN

    def start(
        self,
        products: np.ndarray,
        zero: np.ndarray,
        target: np.ndarray,
        theta: np.ndarray | None,
        factor: np.ndarray | None = None,
    ) -> DescentState:
        """Return the state of targets at the start. `set_lambda` sets their lambdas.

        products  float64[a, d] of the array module
        zero      float64[a]; variances of the outputs
        target    int64[a]; which of the targets of the block
        theta     [a, d] of the array module; None for zero weights
        factor    [a, d] of the array module; None if it is 1 everywhere
        """
        a, dtype = len(target), self._gram.dtype
        neg_grad = products if theta is None else products - self._masks.exactly(theta.astype(np.float64))
        theta = self._xp.zeros(neg_grad.shape, dtype) if theta is None else theta.astype(dtype)
        neg_grad = neg_grad.astype(dtype)
        return DescentState(
            theta=theta,
            products=products.astype(dtype),
            neg_grad=neg_grad,
            past_theta=theta.copy(),
            past_neg_grad=neg_grad.copy(),
            base_theta=theta.copy(),
            base_neg_grad=neg_grad.copy(),
            target=target,
            zero=zero,
            lambda_=np.zeros(a),
            before=np.full(a, np.inf),
            steps=np.zeros(a, dtype=np.int64),
            speed=np.ones(a),
            reach=self._host(abs(products).max(axis=1)),
            factor=None if factor is None else factor.astype(dtype),
        )

    def set_lambda(self, state: DescentState, places: np.ndarray, lambda_: np.ndarray) -> None:
        """Set new lambdas float64[p] of the targets at some places, int64[p]. They keep their weights."""
        state.before[places] = np.where(state.lambda_[places] > 0, state.lambda_[places], np.inf)
        state.lambda_[places] = lambda_
        state.steps[places] = 0
        state.speed[places] = 1

    def step(self, state: DescentState, goal: np.ndarray) -> None:
        """Take one step of all targets, towards relative duality gaps of `goal`, float64[a]."""
        dtype = self._gram.dtype
        fresh = state.steps == 0
        screen = np.where(fresh & np.isfinite(state.before), 2 * state.lambda_ - state.before, state.lambda_)
        screen = np.maximum(screen, np.finfo(dtype).tiny).astype(dtype)
        lambda_ = state.lambda_.astype(dtype)
        small = np.zeros(len(state), dtype=bool)
        if self._xp is np:
            sizes = self._coordinates.working_set_sizes(state.theta, state.neg_grad, screen, state.factor)
            small = (sizes <= self._small) | (state.steps >= self._stubborn)
        few, many = np.flatnonzero(small), np.flatnonzero(~small)

        if len(few):
            state.past_theta[few[fresh[few]]] = state.theta[few[fresh[few]]]
            state.past_neg_grad[few[fresh[few]]] = state.neg_grad[few[fresh[few]]]
            fine = FINER * goal * 0.5 ** np.minimum(state.steps, FINEST) * state.lambda_
            fine = np.maximum(fine, ROUNDING * np.finfo(dtype).eps * state.reach).astype(dtype)
            self._coordinates.descend(
                few, sizes, state.theta, state.neg_grad, self._entries, lambda_, screen, fine, SWEEPS, state.factor
            )
        if len(many):
            self._proximal(state, many, lambda_, fresh)
        self._refresh(state)
        state.steps += 1

    def _refresh(self, state: DescentState) -> None:
        """Set neg_grad of all targets: from rows of the Gram if few weights changed, else by a matrix product."""
        many = np.arange(len(state))
        if self._sparse >= 0:
            counts = self._coordinates.nonzeros(state.theta, state.base_theta)
            few, many = np.flatnonzero(counts <= self._sparse), np.flatnonzero(counts > self._sparse)
            self._sparse_neg_grads(
                few, counts, state.theta, state.base_theta, state.base_neg_grad, self._entries, state.neg_grad
            )
        if len(many):
            chosen = slice(None) if len(many) == len(state) else many
            change = state.theta[chosen] - state.base_theta[chosen]
            state.neg_grad[chosen] = state.base_neg_grad[chosen] - change @ self._gram

    def _proximal(self, state: DescentState, many: np.ndarray, lambda_: np.ndarray, fresh: np.ndarray) -> None:
        dtype = self._gram.dtype.type
        if self._momentum:
            speed = (1 + np.sqrt(1 + 4 * state.speed**2)) / 2
            ahead, remember = np.where(fresh, 0, (state.speed - 1) / speed), np.ones(len(state), dtype=bool)
            state.speed = speed
        else:
            ahead, remember = np.where(fresh & np.isfinite(state.before), state.lambda_ / state.before, 0), fresh
        uphill = self._loops.proximal(
            many,
            state.theta,
            state.neg_grad,
            lambda_,
            dtype(self._step),
            ahead.astype(dtype),
            state.past_theta,
            state.past_neg_grad,
            remember,
            state.factor,
        )
        state.speed[uphill > 0] = 1

    def correct(self, state: DescentState, places: np.ndarray, neg_grad: np.ndarray) -> None:
        """Replace neg_grad by float64[p, d] without rounding. Later steps add changes to it."""
        chosen = self._xp.asarray(places)
        state.neg_grad[chosen] = neg_grad
        state.base_neg_grad[chosen] = neg_grad
        state.base_theta[chosen] = state.theta[chosen]

    def _host(self, array) -> np.ndarray:
        return np.asarray(array) if self._xp is np else self._loops.host(array)

    def measure(self, state: DescentState) -> Measure:
        """Return the parts of the gaps of all targets, in the precision of the Gram."""
        l1, aligned, norm, explained = self._loops.measure(state.theta, state.neg_grad, state.products, state.factor)
        square = np.maximum(state.zero - explained, 0)
        return Measure(square=square, aligned=aligned, dual_norm=norm, l1=l1, zero=state.zero)
