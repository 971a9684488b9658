"""Review the data of a run: list examples that help or harm overall, fragile targets, and likely errors in the data."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from datamodels.analyze.patterns import leakage
from datamodels.analyze.patterns.leakage import Pairs
from datamodels.analyze.quality import interval
from datamodels.analyze.quality.interval import TAILS
from datamodels.analyze.what_if import mislabel
from datamodels.analyze.what_if.mislabel import Suspects
from datamodels.analyze.what_if.support import FOUND, NO_WEIGHTS, WRONG, default_limit, limit_of, support
from datamodels.errors import InputError, NotReadyError
from datamodels.fit.data.problem import Solution
from datamodels.run.dataset import NOT_IN_POOL
from datamodels.run.runs import Run


@dataclasses.dataclass(frozen=True, eq=False)
class Overall:
    """Columns by their mean weight over targets, which is how much a column raises the mean output.

    If lower outputs are better, helpful columns have negative weights.

    column    int32[k]; strongest first
    mean      float64[k]
    interval  float64[k, 2]; at `interval.LEVEL`, of the mean over as many other targets, by a bootstrap over targets.
              It includes neither the selection of the strongest columns nor the noise of training
    measured  float64[k]; how much of each mean was measured, the rest is the prior; None as `Solution.measured`
    """

    column: np.ndarray
    mean: np.ndarray
    interval: np.ndarray
    measured: np.ndarray | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Fragile:
    """Targets with small supports: models get them wrong if few examples are removed.

    target     int32[k]; smallest support first
    size       int32[k]; sizes of the supports, in columns
    limit      the largest support that counts
    count      number of targets with a support
    of         number of targets that have weights and are predicted to be right
    wrong      number of targets that are predicted to be wrong with nothing removed
    """

    target: np.ndarray
    size: np.ndarray
    limit: int
    count: int
    of: int
    wrong: int

    @property
    def interval(self) -> tuple[float, float]:
        """Interval of the share count / of, over targets; NaN if there are none."""
        return interval.share(self.count, self.of) if self.of else (np.nan, np.nan)


def overall(run: Run, solution: Solution, k: int) -> tuple[Overall, Overall]:
    """Find the k columns that help most and the k that harm most; that raise and lower, if neither direction is better.

    Over the targets outside the pool, or, if there are none, over all. Raises InputError for k < 1, NotReadyError if no
    target has a model.
    """
    _check_k(k)
    chosen = solution.modelled
    outside = run.own == NOT_IN_POOL
    chosen &= outside if outside.any() else True
    targets = np.flatnonzero(chosen)
    if not len(targets):
        raise NotReadyError(f"run {run.name}: no target has weights; more models are needed")
    theta = solution.theta[targets].tocsc()
    mean = np.asarray(theta.sum(axis=0), dtype=np.float64).ravel() / len(targets)
    gain = run.predicted.sign * mean
    order = np.argsort(-gain, kind="stable")
    helpful, harmful = order[:k], order[::-1][:k]
    draws, parts = interval.draws(len(targets), run.spec.seed), solution.measured_parts
    if parts is not None:
        counted = parts * np.repeat(chosen, np.diff(solution.indptr))
        parts = np.bincount(solution.columns, counted, solution.d) / len(targets)

    def of(columns: np.ndarray) -> Overall:
        resampled = draws @ theta[:, columns].toarray().astype(np.float64) / len(targets)
        between = np.quantile(resampled, TAILS, axis=0).T
        return Overall(columns.astype(np.int32), mean[columns], between, None if parts is None else parts[columns])

    return of(helpful[gain[helpful] > 0]), of(harmful[gain[harmful] < 0])


def fragile(run: Run, solution: Solution, k: int, share: float) -> Fragile:
    """Find the k most fragile targets: those with the smallest supports, of at most this share of the columns.

    Raises InputError for k < 1, for a share that is not above 0 and at most 1, and if the output has no threshold.
    """
    _check_k(k)
    _check_share(share)
    return _fragile(run, solution, range(run.n), k, limit_of(run, share))


def _fragile(run: Run, solution: Solution, targets: Sequence[int], k: int, limit: int) -> Fragile:
    found = [support(run, solution, target, limit=limit) for target in targets]
    with_support = sorted((len(s.columns), s.target) for s in found if s.status == FOUND)
    wrong = sum(s.status == WRONG for s in found)
    return Fragile(
        target=np.array([target for _, target in with_support[:k]], dtype=np.int32),
        size=np.array([size for size, _ in with_support[:k]], dtype=np.int32),
        limit=limit,
        count=len(with_support),
        of=len(found) - wrong - sum(s.status == NO_WEIGHTS for s in found),
        wrong=wrong,
    )


@dataclasses.dataclass(frozen=True, eq=False)
class Fragility:
    """Share of targets, of those predicted to be right, that go wrong as columns are removed.

    fragile         all targets with a support, smallest first
    columns         int[c]; numbers of columns removed: 0, then every size of a support
    share           float64[c]; share of the targets that are then predicted to be wrong
    interval        float64[c, 2]; of the shares, at `interval.LEVEL`
    median          median size of the supports; NaN if there are none
    """

    fragile: Fragile
    columns: np.ndarray
    share: np.ndarray
    interval: np.ndarray
    median: float


def fragility(run: Run, solution: Solution, targets: Sequence[int]) -> Fragility:
    """Search for the supports of some targets, up to the default limit.

    Raises InputError if the output has no threshold.
    """
    found = _fragile(run, solution, targets, len(targets), default_limit(run))
    columns = np.concatenate([[0], np.unique(found.size)])
    wrong = np.searchsorted(found.size, columns, side="right")
    return Fragility(
        fragile=found,
        columns=columns,
        share=wrong / max(1, found.of),
        interval=np.array([interval.share(count, max(1, found.of)) for count in wrong.tolist()]),
        median=float(np.median(found.size)) if found.count else np.nan,
    )


@dataclasses.dataclass(frozen=True, eq=False)
class Review:
    """Tables of at most k rows each. A table that the run cannot have is None, and `left_out` says why."""

    helpful: Overall
    harmful: Overall
    fragile: Fragile | None
    suspects: Suspects | None
    leaked: Pairs | None
    left_out: dict[str, str]


def review(run: Run, solution: Solution, *, k: int, share: float) -> Review:
    """Compute all tables. Loads the run's data set, if it can, to compare inputs.

    Raises InputError for a k or a share out of range, NotReadyError if no target has a model.
    """
    helpful, harmful = overall(run, solution, k)
    _check_share(share)
    left_out = {}

    def if_possible(name: str, make: Callable[..., Any], *more: Any) -> Any:
        try:
            return make(run, solution, k, *more)
        except (InputError, NotReadyError) as error:
            left_out[name] = str(error)
            return None

    return Review(
        helpful,
        harmful,
        if_possible("fragile", fragile, share),
        if_possible("suspects", mislabel.suspects),
        if_possible("leaked", leakage.find),
        left_out,
    )


def _check_share(share: float) -> None:
    if not 0 < share <= 1:
        raise InputError(f"share = {share}: must be above 0 and at most 1")


def _check_k(k: int) -> None:
    if k < 1:
        raise InputError(f"k = {k}: must be at least 1")
