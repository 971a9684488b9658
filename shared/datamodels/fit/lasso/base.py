"""Define the interface between the lambda path and the algorithms that solve LASSOs: penalty, state and iteration.

The path (`path`) and the last fit (`refit`) decide when a target has converged, which lambda is next, and when a target
is done. An Iteration improves weights: over a span of rows (`rowwise`, with `saga` or `fista`) or over its Gram
(`shared_gram`). Its `start` makes a state, `epoch` improves the state, and `measure` computes how good it is.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol, Self, TypeVar, runtime_checkable

import numpy as np

from datamodels.fit.contract.block import Solve
from datamodels.fit.data.rows import Rows
from datamodels.fit.lasso import gap

DROP_SHARE = 1 / 16
"""Targets that are done are dropped from a state if they are more than this fraction: dropping copies the state."""
ROUNDING = 8 * float(np.finfo(np.float32).eps)
"""A lambda_max of standardised outputs of at most this counts as 0. It is 8 units of rounding of float32: outputs are
stored in no more than float32, so what is smaller may be rounding, also if the fit computes in float64."""


class State(Protocol):
    """Targets that are being solved.

    target   int64[a]; numbers of the targets, 0 to t - 1
    lambda_  float64[a]; lambdas for standardised outputs
    """

    target: np.ndarray
    lambda_: np.ndarray

    def take(self, chosen: np.ndarray) -> Self:
        """Return the state of the targets at some places, int[...]."""

    def __len__(self) -> int: ...


S = TypeVar("S", bound=State)


@dataclasses.dataclass(frozen=True)
class L1:
    """The penalty lambda * sum_c factor_c |theta_c| of t targets.

    factor  [t, d] of the array module, above 0; None if it is 1 everywhere
    """

    factor: np.ndarray | None = None

    def norm(self, theta: np.ndarray) -> np.ndarray:
        """Return sum_c factor_c |theta_c|, [t], of weights [t, d]."""
        return abs(theta if self.factor is None else self.factor * theta).sum(axis=1)

    def dual_norm(self, neg_grad: np.ndarray) -> np.ndarray:
        """Return max_c |neg_grad_c| / factor_c, [t]: the smallest lambda at which zero weights are the optimum."""
        return abs(neg_grad if self.factor is None else neg_grad / self.factor).max(axis=1)

    def take(self, places: np.ndarray) -> L1:
        """Return the penalty of some targets, int64[p]."""
        return L1(None if self.factor is None else self.factor.take(places, axis=0))


@dataclasses.dataclass(frozen=True)
class Measure:
    """Parts of the objective and of the duality gap of targets, float64[a] each; see `gap.relative`."""

    square: np.ndarray
    aligned: np.ndarray
    dual_norm: np.ndarray
    l1: np.ndarray
    zero: np.ndarray
    stale: np.ndarray | float = 0.0

    def gap(self, lambda_: np.ndarray) -> np.ndarray:
        """Return the relative duality gaps float64[a] at these lambdas float64[a]."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return gap.relative(lambda_=lambda_, **fields)


@dataclasses.dataclass(frozen=True)
class Certificate:
    """Duality gaps of the weights as they are saved, free of rounding and of outdated values of the iteration.

    weights    float32[p, d], raw
    intercept  float64[p], raw; the best one for the weights
    gap        float64[p]
    neg_grad   [p, d] of the array module; minus the gradient; None if the iteration does not use it
    """

    weights: np.ndarray
    intercept: np.ndarray
    gap: np.ndarray
    neg_grad: np.ndarray | None = None


class Iteration(Protocol[S]):
    """One way to solve the LASSOs of t targets over a span of rows.

    The iteration chooses the unit of lambdas and weights. It is the same for all spans of rows of one problem.

    rows           all rows of the problem, including those outside the span
    skips          whether a target that has converged may pass several lambdas before the next epoch
    certify_every  the last fit certifies all targets, converged or not, each time after so many epochs; 0 for never
    """

    rows: Rows
    skips: bool
    certify_every: int

    def start(self) -> tuple[S, np.ndarray]:
        """Return (t targets at zero weights, the lambda_max of each float64[t]: 0 if it is no more than rounding)."""

    def restart(self, lambda_: np.ndarray, weights: np.ndarray) -> S:
        """Return t targets at weights [t, d] and lambdas float64[t]; a lambda of 0 becomes lambda_max."""

    def set_lambda(self, state: S, places: np.ndarray, lambda_: np.ndarray) -> None:
        """Set the lambdas float64[p] of the targets at some places int64[p]."""

    def epoch(self, state: S, number: int, goal: np.ndarray) -> Measure:
        """Improve all targets, towards relative gaps of `goal`, float64[a]; `number` counts epochs from 0."""

    def measure(self, state: S) -> Measure: ...

    def heldout_error(self, state: S, places: np.ndarray) -> np.ndarray:
        """Return the mean squared errors float64[p] on the held-out rows that count."""

    def heldout_r2(self, error: np.ndarray) -> np.ndarray:
        """Return the explained variances float64[t] for mean squared errors float64[t] of `heldout_error`."""

    def weights(self, state: S, places: np.ndarray) -> np.ndarray:
        """Return weights [p, d] of the array module."""

    def raw_lambda(self, state: S) -> np.ndarray:
        """Return the lambdas float64[a] for the raw outputs."""

    def certify(self, state: S, places: np.ndarray, lambda_: np.ndarray) -> Certificate:
        """Certify the weights of some targets at raw lambdas float64[p]."""

    def correct(self, state: S, places: np.ndarray, neg_grad: np.ndarray) -> None:
        """Replace gradients by those of certificates whose gaps are larger than `measure` computed."""


@runtime_checkable
class Resumable(Iteration[S], Protocol[S]):
    """An Iteration whose states can be kept in a checkpoint. A block of any other Iteration starts again if it is
    interrupted.
    """

    def arrays(self, state: S) -> dict[str, np.ndarray]:
        """Return what `restored` needs besides the problem."""

    def restored(self, start: S, arrays: dict[str, np.ndarray]) -> S:
        """Return the state from which `arrays` was made. `start` is the state with which its targets started."""


AnyIteration = Iteration[Any]


@dataclasses.dataclass(frozen=True)
class Solver:
    """A solver of the LASSO, as a spec's `fit.solver` names it, and its properties.

    solve          fits a block of targets
    trial_columns  columns (small, large) of the two problems that `plan.fit` solves to predict how long a fit takes: in
                   some seconds
    trial_targets  most targets of each of these problems
    grams          whether it works from Grams of the masks if they fit in memory; if they do not, it works as `fista`
    table          whether it keeps a residual for each row and target, in files if the fit has a folder
    """

    solve: Solve
    trial_columns: tuple[int, int]
    trial_targets: int
    grams: bool = False
    table: bool = False


def lambda_max(dual_norm: np.ndarray) -> np.ndarray:
    """Return lambda_max for standardised outputs: 0 if it is only rounding, so that no column has a correlation."""
    return np.where(dual_norm > ROUNDING, dual_norm, 0)


def drop_done(state: S, done: np.ndarray) -> S:
    """Drop targets that are done, bool[t], if they are more than DROP_SHARE of the state."""
    retired = done[state.target]
    if retired.all() or retired.mean() > DROP_SHARE:
        return state.take(np.flatnonzero(~retired))
    return state
