"""Make an Iteration of an algorithm that reads the rows again in each epoch: of `saga` or `fista`.

Lambdas and weights are those of the raw outputs, because the rows to fit and all rows are standardised differently.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, ClassVar, Protocol, Self, TypeVar

import numpy as np

from datamodels.fit.contract.block import Arrays, Tick
from datamodels.fit.contract.targets import Targets
from datamodels.fit.data.problem import Solution
from datamodels.fit.data.rows import Rows, columns, partition, squeezed
from datamodels.fit.lasso import base, block, gap
from datamodels.fit.lasso.base import ROUNDING, Certificate, Measure
from datamodels.run.specs import FitSpec

REFRESH = 64
"""Epochs after which accumulated sums are computed afresh, to remove their rounding."""


@dataclasses.dataclass(kw_only=True)
class RowwiseState:
    """Targets that are being solved, for outputs standardised over the span of rows.

    The last axis of every array is the target; `take` relies on it. In the shapes, c is d, or d + 1 with the intercept.
    Arrays of the array module (numpy or cupy), float32 or float64:

    theta   [c, a]; weights for standardised outputs
    y       [m, a]; standardised outputs, 0 if the row does not count
    keep    bool[m, a]; which rows count; None if all do
    mean_x  [c, a]; mean of the rows that count
    varies  bool[d, a]; columns that vary among the rows that count; the gradient of the others is 0

    Arrays of NumPy, float64 unless stated:

    target   int64[a]; which of the targets of the block
    share    [a]; fraction of the rows that count
    location, spread  [a]; mean and deviation of the raw outputs over the rows that count
    lambda_  [a]; for the standardised outputs: raw lambda / spread
    step     [a]; step size
    """

    theta: np.ndarray
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

    REUSED: ClassVar[tuple[str, ...]] = ()
    """Arrays whose memory `take` uses again: after it, the state that they were taken from must not be used."""

    def __len__(self) -> int:
        """Number of targets."""
        return len(self.target)

    def take(self, chosen: np.ndarray) -> Self:
        """Return the state of the targets at some places, int[...]."""
        arrays = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        reused = {name: squeezed(arrays.pop(name), chosen) for name in self.REUSED}
        return type(self)(**reused, **{name: columns(array, chosen) for name, array in arrays.items()})


S = TypeVar("S", bound=RowwiseState)


class Method(Protocol[S]):
    """One algorithm over a span of rows, for standardised outputs. `saga.Saga` describes the calls."""

    rows: Rows
    span: slice

    def start(self, outputs: np.ndarray, keep: np.ndarray | None, target: np.ndarray) -> S: ...

    def warm_start(self, state: S, theta: np.ndarray) -> None: ...

    def set_lambda(self, state: S, lambda_: np.ndarray) -> None: ...

    def epoch(self, state: S, number: int) -> None: ...

    def refresh(self, state: S) -> None: ...

    def measure(self, state: S) -> Measure: ...

    def stabilise(self, state: S) -> Measure: ...

    def predictor(self, state: S, places: np.ndarray) -> np.ndarray: ...

    def predictions(self, span: slice, theta: np.ndarray) -> np.ndarray: ...

    def weights(self, state: S, places: np.ndarray) -> np.ndarray: ...

    def arrays(self, state: S) -> dict[str, np.ndarray]: ...

    def restored(self, start: S, arrays: dict[str, np.ndarray]) -> S: ...


class MakeMethod(Protocol):
    """Makes a method over a span of rows.

    batch  rows of one step, for methods that draw rows
    seed   seed of the draws
    """

    def __call__(self, rows: Rows, span: slice, *, batch: int, seed: list[int]) -> Method[Any]: ...


class RowIteration:
    """An Iteration (`base`) that improves weights by a method over its span of rows."""

    skips = True
    certify_every = 0

    def __init__(self, method: Method[Any], targets: Targets, *, batch: int, factor: np.ndarray | None = None):
        """Take a method.

        batch   number of held-out rows to predict at a time
        factor  [d, t]; factors of the penalty, as the method has them; None if they are 1
        """
        self.rows, self._method, self._targets, self._batch = method.rows, method, targets, batch
        self._factor = factor

    def start(self) -> tuple[RowwiseState, np.ndarray]:
        state = self._start()
        return state, base.lambda_max(self._method.measure(state).dual_norm) * state.spread

    def _start(self) -> RowwiseState:
        return self._method.start(*self._targets.columns(self._method.span), np.arange(len(self._targets.able)))

    def restart(self, lambda_: np.ndarray, weights: np.ndarray) -> RowwiseState:
        state = self._start()
        top = self._method.measure(state).dual_norm + ROUNDING
        self._method.set_lambda(state, np.where(lambda_ > 0, lambda_ / _spread(state), top))
        self._method.warm_start(state, self.rows.xp.ascontiguousarray(weights.T))
        return state

    def set_lambda(self, state: RowwiseState, places: np.ndarray, lambda_: np.ndarray) -> None:
        standard = state.lambda_.copy()
        standard[places] = lambda_ / _spread(state)[places]
        self._method.set_lambda(state, standard)

    def epoch(self, state: RowwiseState, number: int, goal: np.ndarray) -> Measure:
        """Improve all targets by one epoch of the method. `goal` is not used."""
        self._method.epoch(state, number)
        if (number + 1) % REFRESH == 0:
            self._method.refresh(state)
        return self._method.stabilise(state)

    def measure(self, state: RowwiseState) -> Measure:
        return self._method.measure(state)

    def heldout_error(self, state: RowwiseState, places: np.ndarray) -> np.ndarray:
        rows, xp = self.rows, self.rows.xp
        theta = self._method.predictor(state, places)
        spread, location = (xp.asarray(array[places]) for array in (state.spread, state.location))
        total, count = xp.zeros(len(places)), xp.zeros(len(places))
        for span in partition(rows.heldout, self._batch):
            outputs, counts = self._targets.columns(span, state.target[places])
            miss = self._method.predictions(span, theta) * spread + location - outputs
            keep = xp.ones((1, 1), dtype=bool) if counts is None else counts
            total += (xp.where(keep, miss, 0) ** 2).sum(axis=0)
            count += xp.broadcast_to(keep, miss.shape).sum(axis=0)
        return rows.host(total / count)

    def heldout_r2(self, error: np.ndarray) -> np.ndarray:
        return self._targets.heldout_r2(error)

    def weights(self, state: RowwiseState, places: np.ndarray) -> np.ndarray:
        return self._method.weights(state, places).T

    def raw_lambda(self, state: RowwiseState) -> np.ndarray:
        return state.lambda_ * _spread(state)

    def certify(self, state: RowwiseState, places: np.ndarray, lambda_: np.ndarray) -> Certificate:
        # SAGA gives a weight to a column that never varies until the intercept, which makes up for it, has converged.
        varies = columns(state.varies, places)
        current = self._method.weights(state, places) * varies
        weights = current.astype(np.float32)
        outputs, keep = self._targets.columns(self.rows.whole, state.target[places])
        factor = columns(self._factor, state.target[places])
        gaps, intercept = gap.certify(self.rows, self.rows.whole, outputs, keep, weights, lambda_, current, factor)
        return Certificate(self.rows.host(weights).T, intercept, gaps)

    def correct(self, state: RowwiseState, places: np.ndarray, neg_grad: np.ndarray) -> None:
        """Do nothing, because these certificates have no gradient."""

    def arrays(self, state: RowwiseState) -> dict[str, np.ndarray]:
        return self._method.arrays(state)

    def restored(self, start: RowwiseState, arrays: dict[str, np.ndarray]) -> RowwiseState:
        return self._method.restored(start, arrays)


def _spread(state: RowwiseState) -> np.ndarray:
    """Return float64[a]: raw lambda over standardised lambda. It is the deviation, or 1 for constant outputs."""
    return np.where(state.spread > 0, state.spread, 1)


def solve(
    rows: Rows,
    settings: FitSpec,
    first: int,
    last: int,
    *,
    seed: int,
    tick: Tick,
    resume: Arrays | None = None,
    method: MakeMethod,
) -> Solution:
    """Fit a block of targets; see `contract.block.Solve`."""
    targets = Targets.read(rows, first, last)

    def iteration_over(span: slice, number: int) -> RowIteration:
        made = method(rows, span, batch=settings.batch_size, seed=[seed, first, number])
        return RowIteration(made, targets, batch=settings.batch_size)

    whole = functools.partial(iteration_over, rows.whole, 1)
    return block.solve(
        settings, targets, functools.partial(iteration_over, rows.fit, 0), whole, tick=tick, resume=resume
    )
