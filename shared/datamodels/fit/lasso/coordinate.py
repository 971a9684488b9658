"""Many LASSOs over one Gram. For target j, with G the Gram of centred masks and c_j = X' y_j / m, both centred,

    min_theta  1/2 theta' G theta - c_j . theta + lambda_j ||theta||_1,     pull = c_j - G theta  (minus its gradient)

or, for the estimator `weighted`, with lambda_j sum_c factor_jc |theta_c|: each column has a threshold of its own.

Every step does something cheap for each target and then one matrix product for all of them, theta G, which gives the
pull at all columns and with it the duality gap. The cheap thing is

- coordinate descent on a working set, while that is small: the columns with a weight, and those that the sequential
  strong rule keeps (Tibshirani et al. 2012): |pull| >= 2 lambda - (lambda before). What the rule missed shows in the
  next pull and joins;
- else one proximal gradient step. At a new lambda it starts ahead of the old solution, on the line through the one
  before. Its step size suits the population, 1 / (alpha (1 - alpha)), where that converges (m above about 6 d); where
  the Gram is conditioned worse, it is 1 / L with Nesterov's momentum, started again per target when it points uphill.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from datamodels.fit.data.moments import Masks
from datamodels.fit.kernels.batched import Batched
from datamodels.fit.lasso.base import Measure

SMALL_SET = 0.1
"""Working sets of up to this share of the columns are solved by coordinate descent. Measured at d = 2,000 and 5,000,
m = 6 d, up to two lambdas past the best: 0.05 and 0.15 are alike or a tenth slower, 0.2 a fifth, 0.4 at least half."""
SPARSE = 0.1
"""Where no more than this share of a target's weights has changed, the rows of the Gram are added up one by one, which
costs a tenth of a whole matrix product for each hundredth of the columns at d = 5,000."""
SAFE = 1.8
"""Largest step times largest eigenvalue without momentum; 2 is where it diverges."""
WELL_CONDITIONED = 3.5
"""Largest eigenvalue over mean curvature up to which steps need no momentum: m of about 1.3 d."""
CAUTION = 0.95
"""Momentum needs steps of at most 1 / L, and the L that we know is up to one per cent too small."""
SWEEPS = 100
"""Most sweeps over a working set in one step."""
FINER = 0.3
"""Coordinate descent stops when no gradient moves by more than this times the gap wanted, relative to lambda; each
further step at the same lambda halves it, FINEST times at most."""
FINEST = 6
ROUNDING = 4
"""It stops in any case at so many units of rounding of the largest product: pulls are differences of such numbers."""


@dataclasses.dataclass
class State:
    """Targets in the making; the first axis of every array is the target, and `take` relies on that.

    Of the array module:

    theta, products, pull    [a, d]; products are the c_j
    past_theta, past_pull    [a, d]; at the lambda before, or, with momentum, at the step before
    base_theta, base_pull    [a, d]; where the pull was computed without rounding: later ones are changes from there
    factor                   [a, d], above 0: what each column's lambda is multiplied by; None where that is 1
    and of NumPy:

    target   int64[a]; which target of the block
    zero     float64[a]; variance of the outputs
    lambda_  float64[a]; `before` float64[a] is the lambda before
    steps    int64[a]; done at this lambda
    speed    float64[a]; Nesterov's t
    reach    float64[a]; largest product
    """

    theta: np.ndarray
    products: np.ndarray
    pull: np.ndarray
    past_theta: np.ndarray
    past_pull: np.ndarray
    base_theta: np.ndarray
    base_pull: np.ndarray
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

    def take(self, chosen: np.ndarray) -> State:
        """Only the targets at these places, int[...], all that belongs to each with it."""
        arrays: dict[str, Any] = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        arrays |= {name: array.take(chosen, axis=0) for name, array in arrays.items() if array is not None}
        return State(**arrays)


class Descent:
    """Steps for targets over the Gram of `masks`; working sets of at most `small` columns are solved by coordinates.

    With `loops` for an array module, which has the Gram then, all steps are proximal ones and whole products.
    """

    def __init__(self, masks: Masks, small: int | None = None, loops: Batched | None = None):
        from datamodels.fit.kernels import coordinate_descent

        self._coordinates = coordinate_descent
        self._loops = loops or coordinate_descent
        self._xp = loops.xp if loops else np
        self._masks, self._gram = masks, masks.gram
        curvature = self._host(masks.curvature)
        varying = curvature[curvature > 0]
        mean = float(varying.mean()) if len(varying) else 1.0
        edge = max(masks.edge, mean)
        self._momentum = edge > WELL_CONDITIONED * mean
        self._step = CAUTION / edge if self._momentum else min(1 / mean, SAFE / edge)
        self._sparse = -1 if loops else int(SPARSE * len(self._gram))
        self._small = -1 if loops else int(SMALL_SET * len(self._gram)) if small is None else small

    def start(
        self,
        products: np.ndarray,
        zero: np.ndarray,
        target: np.ndarray,
        theta: np.ndarray | None,
        factor: np.ndarray | None = None,
    ) -> State:
        """Targets with products float64[a, d] at weights theta [a, d], or zero weights; their lambdas are to be set.

        products, theta, factor  of the array module; zero float64[a] and target int64[a] of NumPy
        """
        a, dtype = len(target), self._gram.dtype
        pull = products if theta is None else products - self._masks.exactly(theta.astype(np.float64))
        theta, pull = self._xp.zeros(pull.shape, dtype) if theta is None else theta.astype(dtype), pull.astype(dtype)
        return State(
            theta=theta,
            products=products.astype(dtype),
            pull=pull,
            past_theta=theta.copy(),
            past_pull=pull.copy(),
            base_theta=theta.copy(),
            base_pull=pull.copy(),
            target=target,
            zero=zero,
            lambda_=np.zeros(a),
            before=np.full(a, np.inf),
            steps=np.zeros(a, dtype=np.int64),
            speed=np.ones(a),
            reach=self._host(abs(products).max(axis=1)),
            factor=None if factor is None else factor.astype(dtype),
        )

    def aim(self, state: State, places: np.ndarray, lambda_: np.ndarray) -> None:
        """Sends targets, given by their places, to a new lambda, float64[p]; they start from where they are."""
        state.before[places] = np.where(state.lambda_[places] > 0, state.lambda_[places], np.inf)
        state.lambda_[places] = lambda_
        state.steps[places] = 0
        state.speed[places] = 1

    def step(self, state: State, goal: np.ndarray) -> None:
        """One step of all targets towards relative duality gaps `goal`, float64[a]."""
        dtype = self._gram.dtype
        fresh = state.steps == 0
        screen = np.where(fresh & np.isfinite(state.before), 2 * state.lambda_ - state.before, state.lambda_)
        screen = np.maximum(screen, np.finfo(dtype).tiny).astype(dtype)
        lambda_ = state.lambda_.astype(dtype)
        sizes = self._loops.working_set_sizes(state.theta, state.pull, screen, state.factor)
        small = sizes <= self._small
        few, many = np.flatnonzero(small), np.flatnonzero(~small)

        if len(few):
            state.past_theta[few[fresh[few]]] = state.theta[few[fresh[few]]]
            state.past_pull[few[fresh[few]]] = state.pull[few[fresh[few]]]
            fine = FINER * goal * 0.5 ** np.minimum(state.steps, FINEST) * state.lambda_
            fine = np.maximum(fine, ROUNDING * np.finfo(dtype).eps * state.reach).astype(dtype)
            self._coordinates.descend(
                few, sizes, state.theta, state.pull, self._gram, lambda_, screen, fine, SWEEPS, state.factor
            )
        if len(many):
            self._proximal(state, many, lambda_, fresh)
        self._pull(state)
        state.steps += 1

    def _pull(self, state: State) -> None:
        """Where all targets are now: by the rows of the Gram that matter where those are few, else by one product."""
        many = np.arange(len(state))
        if self._sparse >= 0:
            counts = self._coordinates.nonzeros(state.theta, state.base_theta)
            few, many = np.flatnonzero(counts <= self._sparse), np.flatnonzero(counts > self._sparse)
            self._coordinates.sparse_pulls(
                few, counts, state.theta, state.base_theta, state.base_pull, self._gram, state.pull
            )
        if len(many):
            chosen = slice(None) if len(many) == len(state) else many
            change = state.theta[chosen] - state.base_theta[chosen]
            state.pull[chosen] = state.base_pull[chosen] - change @ self._gram

    def _proximal(self, state: State, many: np.ndarray, lambda_: np.ndarray, fresh: np.ndarray) -> None:
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
            state.pull,
            lambda_,
            dtype(self._step),
            ahead.astype(dtype),
            state.past_theta,
            state.past_pull,
            remember,
            state.factor,
        )
        state.speed[uphill > 0] = 1

    def correct(self, state: State, places: np.ndarray, pull: np.ndarray) -> None:
        """Takes over pulls float64[p, d] that nothing has rounded; from here on only changes are."""
        chosen = self._xp.asarray(places)
        state.pull[chosen] = pull
        state.base_pull[chosen] = pull
        state.base_theta[chosen] = state.theta[chosen]

    def _host(self, array) -> np.ndarray:
        return np.asarray(array) if self._xp is np else self._loops.host(array)

    def measure(self, state: State) -> Measure:
        """Parts of the gaps of all targets, in the precision of the Gram."""
        l1, aligned, norm, explained = self._loops.measure(state.theta, state.pull, state.products, state.factor)
        square = np.maximum(state.zero - explained, 0)
        return Measure(square=square, aligned=aligned, dual_norm=norm, l1=l1, zero=state.zero)
