"""Compute R^2 of predicted outputs on unseen subsets, against single models and against means of models.

A datamodel predicts the mean output of many models. A single model differs from this mean by chance, which nothing can
predict; the mean of R models differs from it by an R-th of that variance. So there are two figures, R^2 against single
models and R^2 against means, each with the largest value that chance allows.

Works on arrays alone; `quality.unseen` reads them from a run.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import numpy as np

from datamodels.analyze.quality import interval
from datamodels.analyze.quality.evaluate import Evaluation
from datamodels.analyze.quality.interval import RESAMPLES
from datamodels.analyze.quality.progress import Report
from datamodels.errors import NotReadyError

POINTS = 4000
"""Most pairs of a subset and a target to draw."""
BLOCK = 50
"""Resamples that are computed at once."""


@dataclasses.dataclass(frozen=True, eq=False)
class Agreement:
    """Share of the variance of true outputs over unseen subsets that predictions explain.

    models      number of models whose mean is the true output: 1, or R
    r2          mean over the scored targets of 1 - sum (true - predicted)^2 / sum (true - mean true)^2
    interval    of r2, at `interval.LEVEL`; a centred bootstrap over subsets
    ceiling     mean over targets of the largest r2 that chance allows, 1 - variance by chance / variance of the truth
    per_target  float64[n]; r2 of each; NaN for a target that is not scored, or whose true outputs do not vary

    All are NaN if the true outputs of no target vary.
    """

    models: int
    r2: float
    interval: tuple[float, float]
    ceiling: float
    per_target: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Points:
    """Pairs of a subset and a target to draw. All [p].

    target     int32
    predicted  float64
    single     float64; the output of one model
    mean       float64; of all models of the subset
    """

    target: np.ndarray
    predicted: np.ndarray
    single: np.ndarray
    mean: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Quality:
    """LDS of predictions, R^2 against single models and against means of models, and points to draw."""

    evaluation: Evaluation
    single: Agreement
    mean: Agreement
    points: Points


def agreement(
    predictions: np.ndarray,
    outputs: np.ndarray,
    *,
    single: bool,
    counts: np.ndarray | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
    progress: Report = lambda fraction: None,
) -> Agreement:
    """Compute R^2 of predictions float[s, n] of outputs float[s, r, n]; arguments are those of `evaluate.evaluate`.

    single  compare with each output, not with the mean of the r outputs of a subset

    Raises NotReadyError if too few subsets have two trained models.
    """
    sums = _sums(predictions, outputs, counts, single)
    r2, ceiling = _shares(sums.sum(axis=1))
    enough, models = (sums[0] > 0).sum(axis=0) >= 3, 1 if single else outputs.shape[1]
    if not enough.any():
        raise NotReadyError("no target has 3 unseen subsets to be scored on: more of them are needed")
    scored = enough & ~np.isnan(r2)
    if not scored.any():
        return Agreement(models, math.nan, (math.nan, math.nan), math.nan, np.full(len(r2), np.nan))
    draws = interval.draws(sums.shape[1], seed, resamples).astype(np.float64)
    resampled = np.empty(resamples)
    for first in range(0, resamples, BLOCK):
        block = slice(first, first + BLOCK)
        found = _shares(draws[block] @ sums)[0][:, scored]
        defined = ~np.isnan(found)
        resampled[block] = np.nansum(found, axis=1) / np.maximum(defined.sum(axis=1), 1)
        resampled[block][~defined.any(axis=1)] = np.nan
        progress(min(1.0, block.stop / resamples))
    resampled = resampled[~np.isnan(resampled)]  # a resample of few subsets may be one subset alone
    value = float(r2[scored].mean())
    return Agreement(
        models=models,
        r2=value,
        # A resample on which the truth hardly varies has an R^2 far below 0, which moves the mean but not the median.
        interval=interval.around(value, resampled - np.median(resampled), most=1.0),
        ceiling=float(ceiling[scored].mean()),
        per_target=np.where(scored, r2, np.nan),
    )


def points(
    predictions: np.ndarray, outputs: np.ndarray, *, counts: np.ndarray | None = None, seed: int = 0, most: int = POINTS
) -> Points:
    """Draw at most `most` pairs at random; other arguments are those of `agreement`."""
    rng = np.random.default_rng(seed)
    found = []
    rows = list(_usable(outputs, counts))
    for i, y, counted in rows:
        targets = np.flatnonzero(np.broadcast_to(counted, y.shape[1]))
        targets = rng.permutation(targets)[: -(-most // len(rows))]
        single = y[rng.integers(len(y), size=len(targets)), targets]
        found.append((targets, predictions[i, targets], single, y[:, targets].mean(axis=0)))
    target, *values = (np.concatenate(column)[:most] for column in zip(*found, strict=True))
    return Points(target.astype(np.int32), *values)


def _usable(outputs: np.ndarray, counts: np.ndarray | None) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yield (subset, outputs float64[models, n], counts bool[n] or bool[1]) of subsets with two trained models."""
    for i, rows in enumerate(outputs):
        y = rows[~np.isnan(rows).any(axis=1)].astype(np.float64)
        if len(y) >= 2:
            yield i, y, np.ones(1, dtype=bool) if counts is None else counts[i]


def _sums(predictions: np.ndarray, outputs: np.ndarray, counts: np.ndarray | None, single: bool) -> np.ndarray:
    """Return float64[5, s, n]: sums over the true values of each subset.

    Their number, their sum, that of their squares, of their squared errors, and of their variances by chance.
    All values are those above the mean prediction of their target, since variances are differences of squares.
    """
    shift, found = predictions.mean(axis=0, dtype=np.float64), []
    for i, y, counted in _usable(outputs, counts):
        y, predicted = y - shift, predictions[i] - shift
        mean, chance = y.mean(axis=0), y.var(axis=0, ddof=1)
        true, chance = (y, chance) if single else (mean[None], chance / len(y))
        each = (np.ones_like(true), true, true**2, (true - predicted) ** 2, np.broadcast_to(chance, true.shape))
        found.append([counted * values.sum(axis=0) for values in each])
    if not found:
        raise NotReadyError("no unseen subset has two trained models yet; train more of them")
    return np.stack(found, axis=1)


def _shares(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (r2, its ceiling), float64[..., n], of sums float64[5, ..., n]; NaN if the truth does not vary."""
    values, first, second, wrong, chance = sums
    values = np.maximum(values, 1)
    spread = second - first**2 / values
    varies = spread > 1e-9 * second
    safe = np.where(varies, spread, np.nan)
    return 1 - wrong / safe, 1 - chance * (1 - 1 / values) / safe
