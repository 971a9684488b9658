"""Choose by cross-validation how a prior is used: one choice for all targets, from the errors of some of them.

Each fold fits everything anew to the other folds: the prior's numbers, what it leaves, the plain LASSO. The error of a
way is sum_j ||errors_j||^2 / var(y_j) over the held-out rows of all folds, so it is about 1 for predictions no better
than the mean. Models of one pair stay together, because in a complement design one subset determines the other.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from datamodels.fit.contract import targets as sorting
from datamodels.fit.data import means
from datamodels.fit.data.problem import OK, Problem, is_heldout
from datamodels.fit.data.rows import CACHE_BYTES, Rows
from datamodels.fit.lasso import gram
from datamodels.fit.lasso.base import L1
from datamodels.fit.pairs.pairs import Pairs
from datamodels.fit.residual import lasso, pooled, ridge
from datamodels.fit.residual.pooled import Mean
from datamodels.fit.residual.sample import Sample
from datamodels.run.specs import FitSpec
from datamodels.telemetry import logger

log = logger(__name__)

LASSO, LASSO_SHARED = "lasso", "lasso with one lambda"
"""The plain LASSO with a lambda for each target, or with one for all."""
PRIOR, RIDGE = "prior alone", "prior + ridge"
"""The prior mean, alone or with the rest fitted by ridge regression."""
WEIGHTED = "prior + lasso"
"""The prior mean, with the rest fitted by the LASSO with one lambda for all targets. With one for each, its error was
larger than the smaller of this and LASSO in all fits tried: 50 to 2,000 models on text and breast-cancer."""
FOLDS = 5
"""Parts of the rows. Fits to four fifths of them are close to the fit to all of them that the choice is for."""
FEWEST_FOLDS, JUDGED_ROWS = 2, 200
"""With many rows, not all folds are judged: at least two, and as many as make so many held-out rows."""
JUDGES = 256
"""Most targets on which the prior is fitted and a way is chosen, spread evenly over all."""
RIDGE_JUDGES = 128
"""Most of them on which h is chosen. The prior mean, which is the better the more there are, is fitted to all."""
LASSO_JUDGES = 48
"""Most of them on which ways by the LASSO are compared with others: a path takes longer than all values of h."""

VECTORS = 12
"""Vectors [d] of each target of a block in the last fit: prior means, weights, directions of both fits, temporaries."""

Tick = Callable[[], None]


@dataclasses.dataclass(frozen=True, eq=False)
class Choice:
    """How the prior is used for all targets.

    way       one of the names above
    strength  f if all targets have one lambda, h for RIDGE, 0 for others
    mean      what targets share of the prior mean, fitted to all rows; None without a prior
    errors    smallest cross-validation error of each way that was tried
    """

    way: str
    strength: float
    mean: Mean | None
    errors: dict[str, float]

    def document(self, names: tuple[str, ...]) -> dict[str, Any]:
        """Return the choice as JSON values, for the record of the fit; `names` are those of the features."""
        beta = {} if self.mean is None else dict(zip(names, map(float, self.mean.beta), strict=True))
        return {"way": self.way, "strength": self.strength, "errors": self.errors, "features": beta}


def choose(rows: Rows, pairs: Pairs | None, settings: FitSpec, tick: Tick) -> Choice:
    """Choose the way with the smallest error; without pairs, between those without a prior.

    If no target can be judged, it is LASSO.
    """
    judges = judged(rows)
    if not len(judges):
        return Choice(LASSO, 0.0, None, {})
    features = None if pairs is None else pairs.of(judges)
    errors = Errors()
    for fold in folds(rows.problem, judges):
        _judge(Rows(fold, dtype=rows.dtype, threads=rows.threads), features, settings, errors, tick)
    ways = errors.best()
    way = min(ways, key=lambda way: ways[way][1])
    found = {way: error for way, (_, error) in ways.items()}
    log.info("prior weighed", way=way, strength=ways[way][0], errors={way: round(e, 5) for way, e in found.items()})
    mean = None
    if features is not None and way not in (LASSO, LASSO_SHARED):
        sample = Sample.read(Rows(_of_targets(rows.problem, judges), dtype=rows.dtype, threads=rows.threads))
        mean = pooled.fit(features, sample.covariance(whole=True), sample.variance)
    return Choice(way, ways[way][0], mean, found)


def bytes_of(m: int, d: int, judges: int, features: int, item: int) -> int:
    """Return the bytes of a choice on some judges. `features` are the bytes of one target's features."""
    shifts = 2 * len(ridge.SHARES) * min(judges, RIDGE_JUDGES)
    floats = m * (d + 1) * item
    rows = floats if floats <= CACHE_BYTES else 0
    grams = gram.bytes_of(d, item) if gram.bytes_of(d, item) <= gram.GRAM_BYTES else 0
    return rows + 2 * m * judges * item + grams + 4 * judges * features + (shifts + 6 * judges) * d * item


def judged(rows: Rows) -> np.ndarray:
    """Return the targets int64[t] that a way is chosen on, in random order: at most JUDGES that each fold can fit."""
    given = rows.problem
    some = np.unique(np.linspace(0, given.n - 1, min(JUDGES, given.n)).round().astype(np.int64))
    able = np.ones(len(some), dtype=bool)
    for fold in folds(given, some):
        here = Rows(fold, dtype=rows.dtype)
        status, _ = sorting.sort(here, here.outputs(0, len(some)), here.keep(0, len(some)))
        able &= status == OK
    return np.random.default_rng(0).permutation(some[able])


def folds(given: Problem, targets: np.ndarray) -> Iterator[Problem]:
    """Yield the problem of each fold that is judged, of some targets int64[t]. Its held-out rows are the fold's."""
    some = _of_targets(given, targets)
    for fold in range(min(FOLDS, max(FEWEST_FOLDS, -(-JUDGED_ROWS * FOLDS // max(given.rows, 1))))):
        yield dataclasses.replace(some, heldout=given.pairs % FOLDS == fold)


def _of_targets(given: Problem, targets: np.ndarray) -> Problem:
    outputs = np.ascontiguousarray(given.outputs[:, targets])
    return dataclasses.replace(given, outputs=outputs, own_column=given.own_column[targets], prior=None)


def _judge(rows: Rows, features: np.ndarray | None, settings: FitSpec, errors: Errors, tick: Tick) -> None:
    """Add the errors of all ways on the held-out rows of one fold."""
    sample = Sample.read(rows)
    few = sample.take(LASSO_JUDGES)
    tick()
    errors.add(LASSO, 0.0, _error_with_a_lambda_each(few, settings, tick) / few.variance)
    by_gram = sample.keep is None and gram.applies(rows)
    if by_gram:
        for fraction, error in lasso.walk(rows, few.y, L1(), settings, tick):
            errors.add(LASSO_SHARED, fraction, error / few.variance)
    if features is None:
        return
    covariance = sample.covariance(whole=False)
    mean = pooled.fit(features, covariance, sample.variance)
    prior = pooled.weights(features, mean, covariance)
    errors.add(PRIOR, 0.0, sample.heldout_error(prior) / sample.variance)
    some = sample.take(RIDGE_JUDGES)
    given = prior[:RIDGE_JUDGES], some.covariance(whole=False), np.array(ridge.SHARES)
    deltas, _ = ridge.solve(*given, ridge.CHOICE_GAP, ridge.CHOICE_STEPS, tick)
    for share, delta in zip(ridge.SHARES, deltas, strict=True):
        errors.add(RIDGE, share, some.heldout_error(given[0] + delta) / some.variance)
    if by_gram:
        first = prior[:LASSO_JUDGES]
        for fraction, error in lasso.walk(rows, lasso.less(rows, few.y, first), lasso.penalty(first), settings, tick):
            errors.add(WEIGHTED, fraction, error / few.variance)


def _error_with_a_lambda_each(sample: Sample, settings: FitSpec, tick: Tick) -> np.ndarray:
    """Return mean squared errors float64[t] of the LASSO on held-out rows.

    It is fitted to the rows to fit, some of which are held out in turn to choose a lambda for each target.
    """
    rows = sample.rows
    given, some, t = rows.problem, rows.order[rows.fit], len(sample.variance)
    part = dataclasses.replace(
        given,
        masks=given.masks[some],
        outputs=sample.y[rows.fit],
        own_column=given.own_column[:t],
        heldout=is_heldout(np.arange(len(some)), settings.holdout),
        order=None,
        pair=None,
    )
    here = Rows(part, dtype=rows.dtype, threads=rows.threads)
    solution = gram.solve(here, settings, 0, t, seed=0, tick=lambda progress: tick())
    theta = solution.dense(range(t))
    return means.heldout_error(rows, sample.y, sample.keep, theta, solution.intercept + theta @ given.center)


class Errors:
    """Mean squared errors of each way at each of its strengths, over the variance of the outputs, summed over folds."""

    def __init__(self) -> None:
        self._sums: dict[tuple[str, float], np.ndarray] = {}
        self._folds: dict[tuple[str, float], int] = {}

    def add(self, way: str, strength: float, relative: np.ndarray) -> None:
        """Add the errors of a fold, float64[t], of its first t targets."""
        key = way, strength
        self._sums[key] = self._sums.get(key, 0.0) + relative
        self._folds[key] = self._folds.get(key, 0) + 1

    def best(self) -> dict[str, tuple[float, float]]:
        """Return (best strength, its mean error) of each way. Errors of all ways are over the same targets.

        The best strength is by all targets that the way was tried on. One that was not tried in all folds does not
        count.
        """
        most = max(self._folds.values())
        tried = {key: found / most for key, found in self._sums.items() if self._folds[key] == most}
        few = min(len(found) for found in tried.values())
        best: dict[str, float] = {}
        for (way, strength), found in tried.items():
            if way not in best or found.mean() < tried[way, best[way]].mean():
                best[way] = strength
        return {way: (strength, float(tried[way, strength][:few].mean())) for way, strength in best.items()}
