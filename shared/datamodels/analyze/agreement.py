"""Predicted against true outputs on unseen subsets: of single models, and of means of R (the review's figures 3 and 4).

A datamodel predicts the mean output of many models. A single model lies around that mean by what training adds by
chance, which no prediction can know; the mean of R models lies R times nearer in variance. So R^2 is given against
both, each beside the most that chance leaves to be predicted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from datamodels import sample
from datamodels.aggregate.manifest import Snapshot
from datamodels.analyze import evaluate, interval
from datamodels.analyze.interval import RESAMPLES
from datamodels.errors import NotReadyError
from datamodels.fit import problem
from datamodels.fit.problem import Solution
from datamodels.run import Run
from datamodels.storage import ObjectStore

POINTS = 4000
"""Pairs of a subset and a target to draw, at most."""
BLOCK = 50
"""Resamples reckoned at once."""


@dataclasses.dataclass(frozen=True, eq=False)
class Agreement:
    """How much of the variance of true outputs over unseen subsets the predictions explain.

    models      whose mean is the truth: 1, or R
    r2          mean over the scored targets of 1 - sum (true - predicted)^2 / sum (true - mean true)^2
    interval    of r2, at `interval.LEVEL`; a centred bootstrap over subsets
    ceiling     mean over targets of the largest r2 that chance leaves, 1 - variance by chance / variance of the truth
    per_target  float64[n]; r2 of each, NaN where it is not scored, or where its true outputs do not vary
    """

    models: int
    r2: float
    interval: tuple[float, float]
    ceiling: float
    per_target: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Points:
    """Pairs of a subset and a target, to be drawn. All [p].

    target     int32
    predicted  float32
    single     float32; the output of one model
    mean       float32; of all models of the subset
    """

    target: np.ndarray
    predicted: np.ndarray
    single: np.ndarray
    mean: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Quality:
    evaluation: evaluate.Evaluation
    single: Agreement
    mean: Agreement
    points: Points


def of_fit(
    run: Run,
    snapshot: Snapshot,
    store: ObjectStore,
    solution: Solution,
    *,
    resamples: int = RESAMPLES,
    progress: Callable[[float], None] = lambda fraction: None,
) -> Quality:
    """How good a fit is on the unseen subsets that a snapshot has.

    progress  called now and then with the share that is done; what it raises stops the work

    Raises NotReadyError where there are too few of them, CorruptObjectError.
    """
    evaluate.require_unseen(run)
    outputs = evaluate.gather(run, snapshot, store)
    masks = evaluate.unseen(run)
    predictions = solution.predict(sample.unpack(masks, run.design.columns))
    counts = evaluate.countable(run, masks, ~np.isin(solution.status, problem.UNFITTED))
    asked: dict[str, Any] = {"counts": counts, "seed": run.spec.seed}

    def part(start: float, width: float) -> Callable[[float], None]:
        return lambda fraction: progress(start + width * fraction)

    return Quality(
        evaluate.evaluate(predictions, outputs, **asked, resamples=resamples, progress=part(0.0, 0.8)),
        agreement(predictions, outputs, **asked, single=True, resamples=resamples, progress=part(0.8, 0.1)),
        agreement(predictions, outputs, **asked, single=False, resamples=resamples, progress=part(0.9, 0.1)),
        points(predictions, outputs, **asked),
    )


def agreement(
    predictions: np.ndarray,
    outputs: np.ndarray,
    *,
    single: bool,
    counts: np.ndarray | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
    progress: Callable[[float], None] = lambda fraction: None,
) -> Agreement:
    """R^2 of predictions float[s, n] of outputs float[s, r, n]; both, and the others, as for `evaluate.evaluate`.

    single  the truth is each output, else the mean of the r outputs of a subset
    """
    sums = _sums(predictions, outputs, counts, single)
    r2, ceiling = _shares(sums.sum(axis=1))
    scored = ((sums[0] > 0).sum(axis=0) >= 3) & ~np.isnan(r2)
    if not scored.any():
        raise NotReadyError("no target has 3 unseen subsets on which its outputs differ: more of them are needed")
    draws = interval.draws(sums.shape[1], seed, resamples).astype(np.float64)
    resampled = np.empty(resamples)
    for first in range(0, resamples, BLOCK):
        block = slice(first, first + BLOCK)
        found = _shares(draws[block] @ sums)[0][:, scored]
        told = ~np.isnan(found)
        resampled[block] = np.nansum(found, axis=1) / np.maximum(told.sum(axis=1), 1)
        resampled[block][~told.any(axis=1)] = np.nan
        progress(min(1.0, block.stop / resamples))
    resampled = resampled[~np.isnan(resampled)]  # of few subsets, one alone may be drawn
    value = float(r2[scored].mean())
    return Agreement(
        models=1 if single else outputs.shape[1],
        r2=value,
        interval=interval.around(value, resampled - resampled.mean(), most=1.0),
        ceiling=float(ceiling[scored].mean()),
        per_target=np.where(scored, r2, np.nan),
    )


def points(
    predictions: np.ndarray, outputs: np.ndarray, *, counts: np.ndarray | None = None, seed: int = 0, most: int = POINTS
) -> Points:
    """Pairs to draw, at most `most`, taken at random; arguments as for `agreement`."""
    rng = np.random.default_rng(seed)
    found = []
    rows = list(_usable(outputs, counts))
    for i, y, counted in rows:
        targets = np.flatnonzero(np.broadcast_to(counted, y.shape[1]))
        targets = rng.permutation(targets)[: -(-most // len(rows))]
        single = y[rng.integers(len(y), size=len(targets)), targets]
        found.append((targets, predictions[i, targets], single, y[:, targets].mean(axis=0)))
    target, *values = (np.concatenate(column)[:most] for column in zip(*found, strict=True))
    return Points(target.astype(np.int32), *(column.astype(np.float32) for column in values))


def _usable(outputs: np.ndarray, counts: np.ndarray | None) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """(subset, float64[models, n] outputs, bool[n] or [1] whether it counts) of those with two trained models."""
    for i, rows in enumerate(outputs):
        y = rows[~np.isnan(rows).any(axis=1)].astype(np.float64)
        if len(y) >= 2:
            yield i, y, np.ones(1, dtype=bool) if counts is None else counts[i]


def _sums(predictions: np.ndarray, outputs: np.ndarray, counts: np.ndarray | None, single: bool) -> np.ndarray:
    """float64[5, s, n]: of the true values of each subset their number, sum, sum of squares, and the sums of squared
    errors and of the variances that they have by chance."""
    found = []
    for i, y, counted in _usable(outputs, counts):
        mean, chance = y.mean(axis=0), y.var(axis=0, ddof=1)
        true, chance = (y, chance) if single else (mean[None], chance / len(y))
        each = (np.ones_like(true), true, true**2, (true - predictions[i]) ** 2, np.broadcast_to(chance, true.shape))
        found.append([counted * values.sum(axis=0) for values in each])
    if not found:
        raise NotReadyError("no unseen subset has two trained models yet; train more of them")
    return np.stack(found, axis=1)


def _shares(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(r2, its ceiling), float64[..., n], of sums float64[5, ..., n]; NaN where the truth does not vary."""
    values, first, second, wrong, chance = sums
    values = np.maximum(values, 1)
    spread = second - first**2 / values
    varies = spread > 1e-9 * np.maximum(second, 1e-30)
    safe = np.where(varies, spread, np.nan)
    return 1 - wrong / safe, 1 - chance * (1 - 1 / values) / safe
