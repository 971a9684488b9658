"""Measure calibration: how well weights fitted at one alpha predict models trained on other shares of the pool.

Weights are slopes of outputs at subsets of size alpha d. For other sizes, outputs are not linear, and usually change
less than the slope says: weights fitted at 0.5 predict larger margins for the whole pool than models have.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from datamodels.analyze.quality import interval, unseen
from datamodels.analyze.what_if import pool
from datamodels.analyze.what_if.retrain import Retrainer
from datamodels.errors import InputError, NotReadyError
from datamodels.run import designs
from datamodels.run.runs import Run

FEWEST = 3
"""Fewest models of each target, and fewest targets."""


@dataclasses.dataclass(frozen=True)
class Calibration:
    """Predictions compared with outputs at one share of the pool.

    alpha            share of the pool that the models were trained on
    models, targets  numbers of those that were used
    predicted, true  mean outputs
    bias             mean over targets of predicted less true
    slope            least-squares slope of true mean outputs on predicted ones, over targets; 1 if the scale is right
    bias_interval, slope_interval   at `interval.LEVEL`, over other such models; targets and weights are fixed
    """

    alpha: float
    models: int
    targets: int
    predicted: float
    true: float
    bias: float
    bias_interval: tuple[float, float]
    slope: float
    slope_interval: tuple[float, float]


def calibrate(
    run: Run,
    retrainer: Retrainer,
    predict: Callable[[np.ndarray], np.ndarray],
    modelled: np.ndarray,
    *,
    alpha: float,
    models: int,
) -> Calibration:
    """Train models on a share of the pool, and compare their outputs with predictions.

    Each model is trained on a fresh subset of the share alpha, or all are trained on the whole pool.

    predict   returns float[s, n] predictions for packed masks uint8[s, ceil(d / 8)]
    modelled  bool[n]; which targets have a model

    A target that is a training example is compared with models trained without it; at alpha = 1 there are none. Raises
    InputError for an alpha that no subset can have and for fewer than FEWEST models, NotReadyError if fewer than FEWEST
    targets or models are left.
    """
    if models < FEWEST:
        raise InputError(f"models = {models}: must be at least {FEWEST}")
    masks = subsets(run, alpha, models)
    counts = unseen.counting_subsets(run, masks, modelled)
    outputs = retrainer.singles(list(designs.unpack(masks, run.design.columns)))
    trained = ~np.isnan(outputs).any(axis=1)
    predictions, outputs = predict(masks)[trained].astype(np.float64), outputs[trained].astype(np.float64)
    weights = (np.ones_like(outputs, dtype=bool) if counts is None else counts[trained]).astype(np.float64)
    kept = weights.sum(axis=0) >= FEWEST
    if kept.sum() < FEWEST:
        raise NotReadyError(
            f"alpha = {alpha:g}: {kept.sum()} targets have {FEWEST} models trained without them; take test examples as "
            "targets, a smaller alpha or more models"
        )
    predictions, outputs, weights = predictions[:, kept], outputs[:, kept], weights[:, kept]
    predicted, true, bias, slope = _compute(predictions, outputs, weights)
    drawn = interval.draws(len(outputs), run.spec.seed)
    resampled = np.array([_compute(predictions, outputs, w[:, None] * weights)[2:] for w in drawn])
    deviations = resampled - resampled.mean(axis=0)
    return Calibration(
        alpha=alpha,
        models=len(outputs),
        targets=int(kept.sum()),
        predicted=predicted,
        true=true,
        bias=bias,
        bias_interval=interval.around(bias, deviations[:, 0]),
        slope=slope,
        slope_interval=interval.around(slope, deviations[:, 1]),
    )


def subsets(run: Run, alpha: float, count: int) -> np.ndarray:
    """Draw uint8[count, ceil(d / 8)]: packed masks of a share alpha of the columns. Pinned ones stay as in the run."""
    if not 0 < alpha <= 1:
        raise InputError(f"alpha = {alpha:g}: must be above 0 and at most 1")
    if alpha == 1:
        return np.tile(designs.mask_of(np.flatnonzero(pool.whole(run)), run.design.columns), (count, 1))
    # At the run's own alpha, the subsets before this one were fitted or evaluated.
    first = run.spec.m + run.spec.evaluate.subsets
    return designs.subsets(run.design.at(alpha), first, first + count)


def _compute(predictions: np.ndarray, outputs: np.ndarray, weights: np.ndarray) -> tuple[float, float, float, float]:
    """Return (mean predicted, mean true, bias, slope) over targets with any weight."""
    total = weights.sum(axis=0)
    some = total > 0
    p, t = ((weights * values).sum(axis=0)[some] / total[some] for values in (predictions, outputs))
    centred = p - p.mean()
    spread = centred @ centred
    slope = float(centred @ (t - t.mean()) / spread) if spread > 1e-24 * (p @ p) else float("nan")
    return float(p.mean()), float(t.mean()), float((p - t).mean()), slope
