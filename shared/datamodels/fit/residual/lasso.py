"""Fit weights by the LASSO with one lambda for all targets, in units of the noise, to the outputs or to what a prior
mean leaves of them.

The lambda of target j is f sigma_j sqrt(2 ln d / m) sqrt(v), with sigma_j the standard deviation of what is fitted and
v the mean variance of a column of the masks. At f = 1, outputs that no column changes get weights of 0 with high
probability (Donoho and Johnstone 1994); the best f is smaller, the same for all targets, and hardly changes with m.
Beside a prior mean B, the penalty of a column is multiplied by w_ji, proportional to (|B_ji| / rms_j + FLOOR)^(-1/2)
with mean 1.

It is solved from the Gram of the masks. If that takes too much memory, from 20,700 columns on, it is solved by the rows
as long as their masks are kept as floats: up to 21,000 models on 50,000 columns.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from datamodels.fit.contract.choice import Choice
from datamodels.fit.contract.targets import Targets
from datamodels.fit.data import moments
from datamodels.fit.data import rows as row_blocks
from datamodels.fit.data.means import Heldout, Means
from datamodels.fit.data.moments import Masks, Outputs
from datamodels.fit.data.problem import OK, Solution
from datamodels.fit.data.rows import Rows
from datamodels.fit.lasso import gram
from datamodels.fit.lasso.base import L1, Iteration
from datamodels.fit.lasso.fista import Fista
from datamodels.fit.lasso.refit import Refit
from datamodels.fit.lasso.rowwise import RowIteration
from datamodels.fit.lasso.shared_gram import GramIteration, Standardised
from datamodels.fit.residual import kept
from datamodels.fit.residual.sample import GRAMS, Sample
from datamodels.run.specs import FitSpec

FRACTIONS = tuple((1.6 * 0.64**i) for i in range(14))
"""Values of f that are tried, going down until the error rises. `folds.Errors` interpolates between them: steps of 0.8
and no interpolation take twice as long, and choose no better."""
RISES = 2
"""How often in a row errors and correlations become worse before a walk ends, as long as no error is below that of the
mean. After that, one rise of the error ends it."""
ABOVE = 2
"""Values above the best one of the folds before with which a fold begins. Weights there are few, and found fast."""
ON_THE_WAY = (4.0, 2.0, 1.0)
"""Lambdas of the last fit, over the chosen one: each starts at the weights of the one before."""
FLOOR = 0.1
"""Added to |B| over its root mean square, so that the penalty of a column without a prior mean is finite."""
GAP = 5e-3
"""Mean relative duality gap of the targets at which errors of lambdas are compared: the errors are means, too. The last
few targets take half of the steps."""


def penalty(prior: np.ndarray | None) -> L1:
    """Return the penalty factors of prior means [a, d]; None for no factors."""
    if prior is None:
        return L1()
    size = np.sqrt((prior**2).mean(axis=1, keepdims=True))
    factor = 1 / np.sqrt(np.abs(prior) / np.where(size > 0, size, 1) + prior.dtype.type(FLOOR))
    return L1(factor / factor.mean(axis=1, keepdims=True))


def by_gram(rows: Rows) -> bool:
    """Tell whether targets are solved from the Gram of the masks, and not by the rows."""
    return gram.applies(rows, GRAMS)


def unable(rows: int, columns: int, itemsize: int, xp: ModuleType = np, *, leave_out: bool) -> str:
    """Return why a fit of this size is not solved, for people; empty if it is.

    leave_out  whether targets are training examples
    """
    if leave_out:
        return "targets are training examples"
    kept = row_blocks.bytes_of(rows, columns, itemsize) <= row_blocks.CACHE_BYTES
    return "" if kept or gram.fits(columns, itemsize, xp, GRAMS) else f"{rows:,} models on {columns:,} columns"


def lambda_of(rows: Rows, span: slice, fraction: float) -> float:
    """Return the lambda of standardised outputs over a span of rows: the same for all targets."""
    variance = rows.problem.center * (1 - rows.problem.center)
    varying = np.maximum((variance > 0).sum(), 2)
    unit = np.sqrt(2 * np.log(varying) / (span.stop - span.start) * variance.sum() / varying)
    return float(fraction * unit)


@dataclasses.dataclass(frozen=True, eq=False)
class Rest:
    """What a prior mean leaves of the outputs of a targets, as LASSOs to be solved over a span of rows.

    iteration  solves them
    unit       float64[a]; what lambdas for standardised outputs are multiplied by, for the iteration
    scale      float64[a]; what its weights and predictions are multiplied by, to be those of raw outputs
    """

    iteration: Iteration[Any]
    unit: np.ndarray
    scale: np.ndarray

    @classmethod
    def of(cls, sample: Sample, prior: np.ndarray | None, *, whole: bool) -> Rest:
        """Take the rows to fit, or all rows; prior [a, d], or None to leave all of the outputs."""
        return (cls._by_gram if by_gram(sample.rows) else cls._by_rows)(sample, prior, whole)

    @classmethod
    def _by_gram(cls, sample: Sample, prior: np.ndarray | None, whole: bool) -> Rest:
        rows, data = sample.rows, standardised(sample, prior)
        iteration = GramIteration(rows, data, penalty(prior), moments.of_masks(rows), whole=whole)
        return cls(iteration, np.ones(len(data.spread)), data.spread)

    @classmethod
    def _by_rows(cls, sample: Sample, prior: np.ndarray | None, whole: bool) -> Rest:
        rows, a = sample.rows, len(sample.variance)
        assert sample.y is not None
        left = sample.y
        if prior is not None:
            left = left.copy()
            for piece in row_blocks.partition(rows.whole, row_blocks.MEASURED_ROWS):
                left[piece] -= rows.block(piece)[:, :-1] @ prior.T
        targets = Targets(rows, 0, left, None, np.full(a, OK, dtype=object), np.zeros(a), np.arange(a))
        factor = penalty(prior).factor
        factor = None if factor is None else rows.xp.ascontiguousarray(factor.T)
        fista = Fista(rows, rows.whole if whole else rows.fit, factor=factor)
        iteration = RowIteration(fista, targets, batch=row_blocks.MEASURED_ROWS, factor=factor)
        spread = rows.host(left.std(axis=0, dtype=np.float64))
        return cls(iteration, np.where(spread > 0, spread, 1), np.ones(a))


def standardised(sample: Sample, prior: np.ndarray | None) -> Standardised:
    """Return the targets of a sample, less the predictions by a prior mean [a, d], standardised.

    All rows must count for all targets. The sums come from those of the sample and the counts of the masks, so at most
    the held-out rows are read.
    """
    rows = sample.rows
    spans, center = moments.of_masks(rows), rows.center.astype(np.float64)
    fit, whole = (
        _less(sample.sums(whole=which), masks, center, prior)
        for which, masks in ((False, spans.fit), (True, spans.whole))
    )
    location = whole.total / whole.rows
    variance = whole.square / whole.rows - location**2
    spread = rows.xp.where(variance > 0, rows.xp.sqrt(rows.xp.maximum(variance, 0)), 1)

    def scaled(found: Outputs, masks: Masks) -> Outputs:
        return Outputs(
            found.rows,
            (found.products - np.outer(location, found.rows * (masks.mean - center))) / spread[:, None],
            (found.total - found.rows * location) / spread,
            np.maximum(found.square - 2 * location * found.total + found.rows * location**2, 0) / spread**2,
        )

    fit, whole = scaled(fit, spans.fit), scaled(whole, spans.whole)
    held = sample.held
    if held is not None:
        held = held if prior is None else held - rows.unpacked(rows.heldout)[:, :-1] @ prior.T
        held = ((held - location) / spread).astype(rows.dtype)
    return Standardised(
        location=rows.host(location),
        spread=rows.host(spread),
        heldout_z=held,
        fit=fit,
        heldout=whole - fit,
    )


def _less(found: Means, masks: Masks, center: np.ndarray, prior: np.ndarray | None) -> Outputs:
    """Return sums of the outputs less the predictions by a prior mean [a, d] of masks less `center`."""
    plain = Outputs(masks.rows, found.products, found.total, found.square)
    if prior is None:
        return plain
    theta, shift = prior.astype(np.float64), masks.mean - center
    along = theta @ shift
    products = masks.rows * (masks.exactly(theta) + np.outer(along, shift))
    return Outputs(
        masks.rows,
        plain.products - products,
        plain.total - masks.rows * along,
        plain.square + np.einsum("ij,ij->i", theta, products - 2 * plain.products),
    )


class Walk:
    """Walks down lambdas that all targets share, over the rows to fit.

    error    float64[t]; mean squared errors on held-out rows at the last lambda, of what prior means leave
    weights  [t, d]; at the last lambda, in the unit of the iteration
    """

    def __init__(self, rest: Rest, settings: FitSpec, tick: Callable[[], None]):
        """Start at zero weights."""
        self._rest, self._iteration, self._settings, self._tick = rest, rest.iteration, settings, tick
        self._state, _ = rest.iteration.start()
        self._every = np.arange(len(self._state))

    def to(self, fraction: float) -> None:
        """Solve at the next fraction."""
        iteration, state = self._iteration, self._state
        lambda_ = lambda_of(iteration.rows, iteration.rows.fit, fraction)
        iteration.set_lambda(state, self._every, lambda_ * self._rest.unit)
        goal = np.full(len(state), GAP)
        measure = iteration.measure(state)
        for number in range(self._settings.max_epochs):
            if measure.gap(state.lambda_).mean() <= GAP:
                break
            self._tick()
            measure = iteration.epoch(state, number, goal)

    @property
    def error(self) -> np.ndarray:
        return self._iteration.heldout_error(self._state, self._every) * self._rest.scale**2

    @property
    def weights(self) -> np.ndarray:
        return self._iteration.weights(self._state, self._every)


def walk(
    sample: Sample,
    prior: np.ndarray | None,
    settings: FitSpec,
    tick: Callable[[], None],
    around: float | None = None,
) -> Iterator[tuple[float, Heldout]]:
    """Yield fractions, going down, with how well weights at them predict the held-out rows.

    Ends when the mean error over the variance rises. While it is not below 1, it says only how little to predict: then
    the walk ends when error and mean correlation have each become worse RISES times in a row.

    prior   prior means [a, d], to fit what they leave of the outputs; None for the plain LASSO
    around  the best fraction of other folds; None to begin with the largest
    """
    first = 0 if around is None else max(0, FRACTIONS.index(around) - ABOVE)
    rest, rows = Rest.of(sample, prior, whole=False), sample.rows
    on_the_way = Walk(rest, settings, tick)
    scale, variance = rows.xp.asarray(rest.scale[:, None].astype(rows.dtype)), rows.host(sample.variance)
    choice = Choice(np.array(FRACTIONS[first:]), np.ones(2), RISES)  # by the error, and by the correlation
    for fraction in FRACTIONS[first:]:
        on_the_way.to(fraction)
        found = sample.heldout(on_the_way.weights * scale + (0 if prior is None else prior))
        yield fraction, found
        means = np.array([(found.error / variance).mean(), -found.correlation.mean()])
        left = np.flatnonzero(~choice.done)
        choice.record_error(left, means[left])
        if not choice.active or (choice.best_error[0] < 1 and choice.rises[0]):
            return


def solve(
    targets: Targets,
    sample: Sample,
    priors: Sequence[np.ndarray | None],
    fraction: float,
    settings: FitSpec,
    tick: Callable[[], None],
    *,
    classes: np.ndarray | None = None,
) -> Solution:
    """Fit targets at one fraction, to what prior means leave of their outputs.

    priors   prior means [a, d] fitted to the rows to fit, and to all rows; two None for the plain LASSO
    classes  as for `kept.largest`; needed beside prior means
    """
    rows = targets.rows
    fit, last = (Rest.of(sample, prior, whole=whole) for prior, whole in zip(priors, (False, True), strict=True))
    on_the_way = Walk(fit, settings, tick)
    for times in ON_THE_WAY:
        on_the_way.to(times * fraction)
    lambda_ = lambda_of(rows, rows.whole, fraction)
    refit = Refit(last.iteration, settings, lambda_ * last.unit, on_the_way.weights)
    while refit.active:
        tick()
        refit.epoch()
    found, measured = refit.weights, None
    if priors[1] is not None and classes is not None:
        measured, whole = refit.weights, (refit.weights + rows.host(priors[1])).astype(np.float32)
        found = kept.largest(whole, rows.host(sample.curvature), classes)
    return targets.solution(
        found,
        lambda_=refit.lambda_,
        gap=refit.gap,
        intercept=rows.host(sample.intercept(rows.xp.asarray(found))),
        heldout_r2=sample.heldout_r2(on_the_way.error),
        tolerance=settings.tolerance,
        measured=measured,
    )
