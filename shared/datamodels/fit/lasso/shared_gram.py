"""Compute exact LASSO paths of targets that count all rows, from the Gram of the masks, which they share.

One pass over the rows computes their products with the outputs. After it, a step costs d^2 for each target, not d m.
The lambdas, the choice between them and the statuses are those of `path` and `refit`. Gaps are certified in float64,
from counts that nothing has rounded and products in float64. Nothing here is random.

Arrays with an entry for each column or row are of the array module. Arrays with one number for each target are NumPy's.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import numpy as np

from datamodels.fit.contract import targets as sorting
from datamodels.fit.contract.block import BlockProgress, Tick
from datamodels.fit.contract.targets import Targets
from datamodels.fit.data import means, moments
from datamodels.fit.data import rows as row_blocks
from datamodels.fit.data.moments import PASS_ROWS, Masks, Outputs, Spans
from datamodels.fit.data.problem import Solution
from datamodels.fit.data.rows import Rows
from datamodels.fit.data.sums import Sums
from datamodels.fit.kernels.batched import Batched
from datamodels.fit.lasso import base, block, gap
from datamodels.fit.lasso.base import L1, ROUNDING, Certificate, Measure
from datamodels.fit.lasso.coordinate import Descent, DescentState
from datamodels.fit.lasso.path import Path
from datamodels.run.specs import FitSpec

CERTIFIED_EPOCHS = 16
"""Epochs of the last fit after which gaps are certified even if they look too large."""


def solve(
    rows: Rows,
    settings: FitSpec,
    first: int,
    last: int,
    *,
    spans: Spans,
    tick: Tick,
    factor: Callable[[np.ndarray], np.ndarray] | None,
) -> Solution:
    """Fit the targets first <= j < last, which all count all rows.

    spans   the moments of the masks
    factor  as for `gram.solve`
    """
    sums = rows.sums
    targets = Targets.read(rows, first, last) if sums is None else Targets.of_sums(rows, sums, first, last)
    if not len(targets.able):
        return targets.unfitted()
    if sums is None:
        data = Standardised.of(rows, targets.columns(rows.whole)[0])
    else:
        data = Standardised.of_sums(rows, sums, targets.numbers)
    penalty = L1(None if factor is None else factor(targets.numbers))
    return block.solve(
        settings,
        targets,
        lambda: GramIteration(rows, data, penalty, spans, whole=False),
        lambda: GramIteration(rows, data, penalty, spans, whole=True),
        tick=tick,
    )


def heldout_errors(rows: Rows, settings: FitSpec, outputs: np.ndarray, penalty: L1, tick: Tick) -> np.ndarray:
    """Return float64[t]: the smallest held-out mean squared errors on the paths of outputs [m, t], over their
    variances.

    The status of all targets must be ok.
    """
    path = Path(
        GramIteration(rows, Standardised.of(rows, outputs), penalty, moments.of_masks(rows), whole=False), settings
    )
    while path.choice.active:
        tick(BlockProgress.on_path(0.0, 0.0))
        path.epoch()
    return path.choice.best_error


@dataclasses.dataclass(frozen=True, eq=False)
class Standardised:
    """The t targets of a block that can be fitted, standardised over all rows: raw output = location + spread * z.

    location, spread  float64[t] of NumPy
    heldout_z         [held-out rows, t] of the array module; None if sums over the rows are known: these say enough
    fit, heldout      sums over the rows to fit and over the held-out rows
    """

    location: np.ndarray
    spread: np.ndarray
    heldout_z: np.ndarray | None
    fit: Outputs
    heldout: Outputs

    @classmethod
    def of(cls, rows: Rows, outputs: np.ndarray) -> Standardised:
        """Standardise outputs [m, t]."""
        location = outputs.mean(axis=0, dtype=np.float64)
        square = rows.xp.zeros(len(location))
        for piece in row_blocks.partition(rows.whole, PASS_ROWS):
            miss = outputs[piece] - location
            square += rows.dots(miss, miss)
        square /= len(outputs)
        spread = rows.xp.where(square > 0, rows.xp.sqrt(square), 1)
        return cls(
            location=rows.host(location),
            spread=rows.host(spread),
            heldout_z=((outputs[rows.heldout] - location) / spread).astype(rows.dtype),
            fit=moments.of_outputs(rows, rows.fit, outputs[rows.fit], location, spread),
            heldout=moments.of_outputs(rows, rows.heldout, outputs[rows.heldout], location, spread),
        )

    @classmethod
    def of_sums(cls, rows: Rows, known: Sums, targets: np.ndarray) -> Standardised:
        """Standardise targets int64[t] of the problem from sums over the rows: reads no row."""
        shift = known.shift[targets]
        mean = (known.fit.total + known.heldout.total)[targets] / known.rows
        variance = (known.fit.square + known.heldout.square)[targets] / known.rows - mean**2
        location, spread = shift + mean, np.where(variance > 0, np.sqrt(np.maximum(variance, 0)), 1)
        center = rows.problem.center.astype(np.float64)
        fit, heldout = (
            moments.of_sums(span, targets, shift, location, spread, center) for span in (known.fit, known.heldout)
        )
        return cls(
            location=location,
            spread=spread,
            heldout_z=None,
            fit=fit.on(rows.xp),
            heldout=heldout.on(rows.xp),
        )


class GramIteration:
    """An Iteration (`base`) over the Gram of the rows to fit, or of all rows, for standardised outputs.

    It is not resumed: its states are some times as large as the weights, and a block takes no longer than a few
    checkpoints of them would.
    """

    skips = False
    certify_every = CERTIFIED_EPOCHS

    def __init__(self, rows: Rows, data: Standardised, penalty: L1, spans: Spans, *, whole: bool):
        self.rows, self._data, self._penalty = rows, data, penalty
        self._masks: Masks = spans.whole if whole else spans.fit
        self._heldout_masks = spans.heldout
        self._whole = whole
        self._center = rows.xp.asarray(rows.problem.center.astype(np.float64))
        self._descent = Descent(self._masks, loops=None if rows.xp is np else Batched(rows.xp))

    def start(self) -> tuple[DescentState, np.ndarray]:
        products, state = self._start(None)
        return state, base.lambda_max(self.rows.host(self._penalty.dual_norm(products)))

    def _start(self, weights: np.ndarray | None) -> tuple[np.ndarray, DescentState]:
        """Return (covariances of masks and outputs float64[t, d], targets at weights [t, d], or at zero weights)."""
        sums = self._data.fit + self._data.heldout if self._whole else self._data.fit
        self._mean = self.rows.host(sums.total / sums.rows)
        products, zero = sums.centred(self._masks, self._center)
        every = np.arange(len(zero))
        return products, self._descent.start(products, self.rows.host(zero), every, weights, self._penalty.factor)

    def restart(self, lambda_: np.ndarray, weights: np.ndarray) -> DescentState:
        self._products, state = self._start(weights)
        top = self.rows.host(self._penalty.dual_norm(self._products)) + ROUNDING
        self._descent.set_lambda(state, state.target, np.where(lambda_ > 0, lambda_, top))
        return state

    def set_lambda(self, state: DescentState, places: np.ndarray, lambda_: np.ndarray) -> None:
        self._descent.set_lambda(state, places, lambda_)

    def epoch(self, state: DescentState, number: int, goal: np.ndarray) -> Measure:
        """Take one step of all targets."""
        self._descent.step(state, goal)
        return self._descent.measure(state)

    def measure(self, state: DescentState) -> Measure:
        return self._descent.measure(state)

    def heldout_error(self, state: DescentState, places: np.ndarray) -> np.ndarray:
        """Return float64[p], at the intercepts that are best for the rows to fit."""
        data, rows = self._data, self.rows
        theta, mine = state.theta.take(places, axis=0), rows.xp.asarray(state.target[places])
        if self._heldout_masks is not None:
            products, variance, move, bias = self._held
            explained = 2 * (theta * products.take(mine, axis=0)).sum(axis=1, dtype=np.float64)
            explained -= self._heldout_masks.squares(theta)
            return rows.host((variance[mine] - explained).clip(0) + (bias[mine] - theta @ move) ** 2)
        assert data.heldout_z is not None
        shift = (data.fit.total / data.fit.rows)[mine] + theta @ (self._center - self._masks.mean)
        if self._masks.counts is None:
            miss = self._sparse_predictions(theta) - data.heldout_z[:, mine] + (shift - theta @ self._center)
            return np.einsum("ij,ij->j", miss, miss) / len(miss)
        x = rows.once("held-out", lambda: rows.unpacked(rows.heldout))[:, :-1]
        miss = x @ theta.T - data.heldout_z[:, mine] + shift.astype(theta.dtype)
        return rows.host(rows.dots(miss, miss, dtype=np.float64) / len(miss))

    @functools.cached_property
    def _held(self) -> tuple[np.ndarray, ...]:
        """What errors on the held-out rows follow from, if these are not read.

        Covariances of masks and outputs [t, d], variances of the outputs float64[t], and how far the means of the masks
        [d] and of the outputs float64[t] are from those of the rows to fit.
        """
        data, masks, dtype = self._data, self._heldout_masks, self.rows.dtype
        assert masks is not None
        products, variance = data.heldout.centred(masks, self._center)
        bias = data.heldout.total / data.heldout.rows - data.fit.total / data.fit.rows
        return products.astype(dtype), variance, (masks.mean - self._masks.mean).astype(dtype), bias

    def _sparse_predictions(self, theta: np.ndarray) -> np.ndarray:
        """Return the masks of the held-out rows times weights [p, d], float64[held-out rows, p]."""
        from datamodels.fit.kernels import membership

        rows, d = self.rows, theta.shape[1]
        words = rows.once(
            "held-out words", lambda: membership.words_of(rows.problem.masks[rows.order[rows.heldout]], d)
        )
        target, column = np.nonzero(theta)
        indptr = np.searchsorted(target, np.arange(len(theta) + 1))
        weights = theta[target, column].astype(np.float32)
        count = rows.heldout.stop - rows.heldout.start
        return membership.sums(indptr, column, weights, np.arange(len(theta)), words, count)

    def heldout_r2(self, error: np.ndarray) -> np.ndarray:
        if self._data.heldout_z is not None:
            return sorting.explained(self.rows, self._data.heldout_z, None, error)
        held = self._data.heldout
        square = held.square / held.rows
        variance = square - (held.total / held.rows) ** 2
        return sorting.explained_of(variance, variance > means.ROUNDING * square, error)

    def weights(self, state: DescentState, places: np.ndarray) -> np.ndarray:
        return state.theta.take(places, axis=0)

    def raw_lambda(self, state: DescentState) -> np.ndarray:
        return state.lambda_ * self._data.spread[state.target]

    def certify(self, state: DescentState, places: np.ndarray, lambda_: np.ndarray) -> Certificate:
        """Certify the weights as they are saved, from counts and products that nothing has rounded.

        The dual point is made of the residuals of the current weights, not of those of the saved ones: their rounding
        to float32 then adds only a term of second order to the gap (`gap.relative`, stale).
        """
        rows, data, mine = self.rows, self._data, state.target[places]
        spread = rows.xp.asarray(data.spread[mine])[:, None]
        current = state.theta.take(places, axis=0).astype(np.float64)
        weights = (current * spread).astype(np.float32)
        theta, penalty = weights.astype(np.float64) / spread, self._penalty.take(mine)
        products, zero = self._products.take(mine, axis=0), state.zero[places]
        neg_grad = products - self._masks.exactly(current)
        rounding = abs(theta - current) @ rows.xp.sqrt(rows.xp.maximum(self._masks.curvature, 0))
        gaps = gap.relative(
            square=np.maximum(zero - rows.host((current * (products + neg_grad)).sum(axis=1)), 0),
            aligned=rows.host((theta * neg_grad).sum(axis=1)),
            dual_norm=rows.host(penalty.dual_norm(neg_grad)),
            l1=rows.host(penalty.norm(theta)),
            lambda_=lambda_ / data.spread[mine],
            zero=zero,
            stale=rows.host(rounding) ** 2,
        )
        mean = data.location[mine] + data.spread[mine] * self._mean[mine]
        intercept = mean - rows.host(weights.astype(np.float64) @ self._masks.mean)
        return Certificate(rows.host(weights), intercept, gaps, neg_grad)

    def correct(self, state: DescentState, places: np.ndarray, neg_grad: np.ndarray) -> None:
        self._descent.correct(state, places, neg_grad)
