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
from datamodels.fit.contract.block import Solve
from datamodels.fit.contract.targets import Targets
from datamodels.fit.data import sums as known_sums
from datamodels.fit.data.means import Heldout
from datamodels.fit.data.problem import FOLDS, NO_COLUMN, OK, Problem, fold_of, is_heldout
from datamodels.fit.data.rows import CACHE_BYTES, Rows
from datamodels.fit.data.sums import Sums
from datamodels.fit.lasso import fista, gram
from datamodels.fit.pairs.pairs import MOST, Pairs
from datamodels.fit.residual import lasso, pooled, ridge
from datamodels.fit.residual.pooled import Mean
from datamodels.fit.residual.sample import GRAMS, TALL, Sample
from datamodels.fit.residual.scores import INPUTS, LASSO, LASSO_SHARED, LEAST_GAIN, PRIOR, RIDGE, WEIGHTED, Errors
from datamodels.run.estimators import Estimator
from datamodels.run.specs import FitSpec
from datamodels.telemetry import logger

log = logger(__name__)

FEWEST_FOLDS, JUDGED_ROWS = 2, 100
"""With many rows, not all folds are judged: at least two, and as many as make so many held-out rows."""
JUDGES = 256
"""Most targets on which the prior is fitted and a way is chosen, spread evenly over all."""
FEWEST_JUDGES = 96
"""Fewest of them. Beyond MANY_ROWS rows there are fewer in proportion, so that the outputs are as many."""
MANY_ROWS = 1000
RIDGE_JUDGES = 128
"""Most of them on which h is chosen. The prior mean, which is the better the more there are, is fitted to all.
Beyond MANY_ROWS rows there are fewer in proportion, too, and at least LASSO_JUDGES."""
FEATURE_BYTES = 2**28
"""Most bytes of their features, which a choice holds some times: beyond 18,000 columns there are fewer judges. 50,000
columns leave 89."""
LASSO_JUDGES = 48
"""Most of them on which ways by the LASSO are compared with others: a path takes longer than all values of h."""
JUDGED_GAP = 2.5e-3
"""Relative duality gap at which the LASSO with a lambda for each target is judged."""
VECTORS = 12
"""Vectors [d] of each target of a block in the last fit: prior means, weights, directions of both fits, temporaries."""

Tick = Callable[[], None]
Inner = tuple[np.ndarray, Sums]
"""Which rows the run holds out, bool[m], and sums over the rows outside of a fold, which hold out the same rows."""


@dataclasses.dataclass(frozen=True, eq=False)
class Choice:
    """How the prior is used for all targets.

    way       one of the names in `scores`
    strength  f if all targets have one lambda, h for RIDGE, 0 for others
    mean      what targets share of the prior mean, fitted to all rows; None without a prior
    errors    cross-validation error of each way that was tried, at its best strength
    by_order  whether correlations chose, because no error was below 1
    prior     what the prior mean is made of, in words; empty without a prior
    untried   why no way was tried whose lambda is the same for all targets; empty if they were
    """

    way: str
    strength: float
    mean: Mean | None
    errors: dict[str, float]
    by_order: bool = False
    prior: str = ""
    untried: str = ""

    def document(self, names: tuple[str, ...]) -> dict[str, Any]:
        """Return the choice as JSON values, for the record of the fit; `names` are those of the features."""
        beta = {} if self.mean is None else dict(zip(names, map(float, self.mean.beta), strict=True))
        found = {"way": self.way, "strength": self.strength, "errors": self.errors, "features": beta}
        found |= {"by_order": True} if self.by_order else {}
        found |= {"untried": self.untried} if self.untried else {}
        return found | ({"prior": self.prior} if self.prior else {})


def choose(rows: Rows, pairs: Pairs | None, settings: FitSpec, tick: Tick) -> Choice:
    """Choose the way with the smallest error; without pairs, between those without a prior.

    If no target can be judged, it is LASSO.
    """
    judges, known = judged(rows), rows.sums
    known = known.take(judges) if known is not None and known.folds and rows.xp is np else None
    if not len(judges):
        return Choice(LASSO, 0.0, None, {})
    features = None if pairs is None else pairs.of(judges, rows.xp)
    errors, untried = Errors(), _unable(rows)
    measured = None if pairs is None else pairs.gradients
    for number, fold in enumerate(folds(rows.problem, judges, by_sums=known is not None)):
        sums = None if known is None else known.without(number)
        sample = Sample.read(Rows(fold, xp=rows.xp, dtype=rows.dtype, threads=rows.threads, sums=sums))
        inner = None if known is None else (rows.problem.heldout, known.outside(number))
        if features is not None and pairs is not None:
            pairs.leave_out(features, judges, number, rows.xp)
        _judge(sample, inner, features, measured is not None, not untried, settings, errors, tick)
    ways = errors.best()
    way = next(iter(ways))
    found = {way: error for way, (_, error) in ways.items()}
    log.info(
        "prior weighed",
        way=way,
        strength=ways[way][0],
        errors={way: round(e, 5) for way, e in found.items()},
        untried=untried,
    )
    mean, prior = None, ""
    if features is not None and pairs is not None and way not in (LASSO, LASSO_SHARED):
        pairs.leave_out(features, judges, None, rows.xp)
        helps = way != INPUTS and measured is not None and found[PRIOR] < (1 - LEAST_GAIN) * found[INPUTS]
        count = len(features) if measured is None or helps else len(features) - 1
        mean = pooled.fit(features, sample.covariance(whole=True), sample.variance, count)
        made_of = [*(["inputs"] if pairs.given else []), *([measured.name] if measured is not None and helps else [])]
        prior = " + ".join(made_of) or "nothing"
    return Choice(way, ways[way][0], mean, found, errors.by_order, prior, untried)


def _unable(rows: Rows) -> str:
    """Return why ways with one lambda for all targets are not tried; empty if they are."""
    given = rows.problem
    leave_out = bool((given.own_column >= 0).any())
    return lasso.unable(given.rows, given.columns, rows.dtype.itemsize, rows.xp, leave_out=leave_out)


def bytes_of(m: int, d: int, targets: int, features: int, item: int, *, known: bool = False) -> int:
    """Return the bytes of a choice for some targets.

    features  bytes of one target's features
    known     whether it is made from sums over the rows, not from the rows
    """
    judges = min(targets, most_judges(m, d))
    shifts = 2 * len(ridge.SHARES) * min(judges, RIDGE_JUDGES)
    floats = m * (d + 1) * item
    rows = (floats if floats <= CACHE_BYTES else 0) + 2 * m * judges * item
    grams = gram.bytes_of(d, item) if gram.bytes_of(d, item) <= gram.GRAM_BYTES else 0
    shared = grams + d * d * item if known else rows + grams
    return shared + 4 * judges * features + (shifts + 6 * judges) * d * item


def feature_bytes(known: Estimator, d: int) -> int:
    """Return the most bytes of the features of one target that an estimator makes."""
    return MOST * 4 * d if known.prior else 0


def judged(rows: Rows) -> np.ndarray:
    """Return the targets int64[t] that a way is chosen on, in random order: at most JUDGES that each fold can fit."""
    given = rows.problem
    most = most_judges(given.rows, given.columns)
    some = np.unique(np.linspace(0, given.n - 1, min(most, given.n)).round().astype(np.int64))
    able = np.ones(len(some), dtype=bool)
    if rows.sums is not None:
        able = Targets.of_sums(rows, rows.sums.take(some), 0, len(some)).status == OK
        return np.random.default_rng(0).permutation(some[able])
    for fold in folds(given, some):
        here = Rows(fold, xp=rows.xp, dtype=rows.dtype)
        status, _ = sorting.sort(here, here.outputs(0, len(some)), here.keep(0, len(some)))
        able &= status == OK
    return np.random.default_rng(0).permutation(some[able])


def most_judges(rows: int, d: int) -> int:
    """Return the most targets that a way is chosen on."""
    return min(_fewer(JUDGES, FEWEST_JUDGES, rows), max(LASSO_JUDGES, FEATURE_BYTES // (MOST * 4 * d)))


def _fewer(most: int, least: int, rows: int) -> int:
    return max(least, min(most, most * MANY_ROWS // max(rows, 1)))


def folds(given: Problem, targets: np.ndarray, *, by_sums: bool = False) -> Iterator[Problem]:
    """Yield the problem of each fold that is judged, of some targets int64[t]. Its held-out rows are the fold's.

    by_sums  whether sums over the rows are known: then no outputs are read
    """
    some, of_row = _unread(given, len(targets)) if by_sums else _of_targets(given, targets), fold_of(given.pairs)
    for fold in range(count(given.rows)):
        yield dataclasses.replace(some, heldout=of_row == fold)


def count(rows: int) -> int:
    """Return the number of folds that are judged."""
    return min(FOLDS, max(FEWEST_FOLDS, -(-JUDGED_ROWS * FOLDS // max(rows, 1))))


def uses_sums(given: Problem) -> bool:
    """Return whether a fit uses sums over the rows without each of the first FEWEST_FOLDS folds.

    These have to be all the folds that are judged, and to have none of the rows that the run holds out. Everything else
    has to be computed from Grams, which are float64 at most.
    """
    d = given.columns
    judged_rows = fold_of(given.pairs) < FEWEST_FOLDS
    return bool(
        count(given.rows) == FEWEST_FOLDS
        and (given.own_column < 0).all()
        and TALL * d < (1 - 1 / FOLDS) * given.rows
        and gram.bytes_of(d, np.dtype(np.float64).itemsize) <= gram.GRAM_BYTES
        and given.heldout.any()
        and not given.heldout[judged_rows].any()
        and known_sums.fits(d, given.n, FEWEST_FOLDS)
    )


def _of_targets(given: Problem, targets: np.ndarray) -> Problem:
    """Return a problem of some targets int64[t]."""
    outputs = np.ascontiguousarray(given.outputs[:, targets])
    return dataclasses.replace(given, outputs=outputs, own_column=given.own_column[targets], prior=None)


def _unread(given: Problem, targets: int) -> Problem:
    """Return a problem of some targets whose sums are known. Each target counts all rows.

    Its outputs are NaN and take no memory: nobody reads them.
    """
    outputs = np.broadcast_to(np.float16(np.nan), (given.rows, targets))
    return dataclasses.replace(given, outputs=outputs, own_column=np.full(targets, NO_COLUMN), prior=None)


def _judge(
    sample: Sample,
    inner: Inner | None,
    features: np.ndarray | None,
    measured: bool,
    shared: bool,
    settings: FitSpec,
    errors: Errors,
    tick: Tick,
) -> None:
    """Add the errors of all ways that may be the best on the held-out rows of one fold.

    inner     as for `_with_a_lambda_each`
    measured  whether the last feature is scores by gradients
    shared    whether ways with one lambda for all targets are tried
    """
    rows, few = sample.rows, sample.take(LASSO_JUDGES)

    def add(way: str, strength: float, found: Heldout, of: Sample) -> None:
        errors.add(way, strength, found, rows.host(of.variance))

    ways = [way for way in (LASSO, LASSO_SHARED, PRIOR, RIDGE, WEIGHTED) if errors.may_be_best(way)]
    tick()
    if LASSO in ways:
        add(LASSO, 0.0, _with_a_lambda_each(few, inner, settings, tick), few)
    if shared and LASSO_SHARED in ways:
        for fraction, found in lasso.walk(few, None, settings, tick, errors.best_tried(LASSO_SHARED)):
            add(LASSO_SHARED, fraction, found, few)
    if features is None or not {PRIOR, RIDGE, WEIGHTED} & set(ways):
        return
    covariance = sample.covariance(whole=False)
    counts = [len(features), len(features) - 1] if measured else [len(features)]
    mean, *others = pooled.fits(features, covariance, sample.variance, counts)
    prior = pooled.weights(features, mean, covariance)
    if PRIOR in ways:
        add(PRIOR, 0.0, sample.heldout(prior), sample)
        for other in others:
            plain = pooled.weights(features, other, covariance)
            add(INPUTS, 0.0, sample.heldout(plain), sample)
    if RIDGE in ways:
        some = sample.take(_fewer(RIDGE_JUDGES, LASSO_JUDGES, rows.problem.rows))
        given = prior[: len(some.variance)], some.covariance(whole=False), np.array(ridge.SHARES)
        deltas, _ = ridge.solve(*given, ridge.CHOICE_GAP, ridge.CHOICE_STEPS, tick)
        for share, delta in zip(ridge.SHARES, deltas, strict=True):
            add(RIDGE, share, some.heldout(given[0] + delta), some)
    if shared and WEIGHTED in ways:
        for fraction, found in lasso.walk(few, prior[:LASSO_JUDGES], settings, tick, errors.best_tried(WEIGHTED)):
            add(WEIGHTED, fraction, found, few)


def _with_a_lambda_each(sample: Sample, inner: Inner | None, settings: FitSpec, tick: Tick) -> Heldout:
    """Tell how well the LASSO predicts the held-out rows.

    It is fitted to the rows to fit, some of which are held out in turn to choose a lambda for each target.

    inner  what is held out in turn, if sums are known; else every tenth pair or so, by `fit.holdout`
    """
    rows = sample.rows
    given, some, t = rows.problem, rows.order[rows.fit], len(sample.variance)
    if inner is None:
        assert sample.y is not None
        held, sums, location = is_heldout(np.arange(len(some)), settings.holdout), None, np.zeros(t)
        masks, outputs = given.masks[some], rows.host(sample.y[rows.fit])
    else:
        held, sums, location = inner[0][some], inner[1].take(np.arange(t)), sample.location
        masks, outputs = np.broadcast_to(np.uint8(0), (len(some), given.masks.shape[1])), given.outputs[: len(some), :t]
    part = dataclasses.replace(
        given, masks=masks, outputs=outputs, own_column=given.own_column[:t], heldout=held, order=None, pair=None
    )
    here = Rows(part, xp=rows.xp, dtype=rows.dtype, threads=rows.threads, sums=sums)
    settings = settings.model_copy(update={"tolerance": max(settings.tolerance, JUDGED_GAP)})
    # Grams in panels would take 4 d^2 bytes, and longer than some epochs of few targets do.
    by_rows = (part.own_column < 0).any() and not gram.applies(here, GRAMS)
    solve: Solve = fista.solve if by_rows else gram.solve
    solution = solve(here, settings, 0, t, seed=0, tick=lambda progress: tick())
    theta = solution.dense(range(t))
    return sample.compared(
        rows.xp.asarray(theta), rows.xp.asarray(solution.intercept - location + theta @ given.center)
    )
