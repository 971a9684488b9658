"""Compute how well predictions rank unseen subsets: the linear datamodeling score, its interval and noise ceiling.

LDS (Park et al. 2023, TRAK, definition 2.3) is the mean over targets of a correlation: Spearman's, over unseen subsets,
between what the datamodel predicts and the mean output of models trained on that subset. Correlations are never pooled
over targets: if they were, the means of the targets alone would correlate at 0.95.

If fewer than `rank.STANDARD` models are trained on each subset, the LDS and its ceiling are corrected to the mean of so
many, so that figures of different runs mean the same.

`quality.unseen` reads the arrays from a run.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from datamodels import words
from datamodels.analyze.quality import interval
from datamodels.analyze.quality.interval import RESAMPLES
from datamodels.analyze.quality.progress import Report
from datamodels.analyze.quality.rank import (
    STANDARD,
    Ranks,
    agreement,
    corrected,
    reliability_of_one,
    spearman,
)
from datamodels.errors import InputError, NotReadyError
from datamodels.run import precision
from datamodels.storage import ObjectStore, decode, keys, records

NOT_RANDOM = 0.9995
"""A noise ceiling of at least this, which is written as 1.000, means that the seed changes nothing."""

LEAST_CEILING = 0.02
"""A noise ceiling below this, which few subsets may give by chance, counts as this."""
AT_ONCE = 2**14
"""Values whose resamples are ranked at once: more would leave the caches of a core."""
FEW = 10
"""An LDS on fewer unseen subsets than this says little, whatever the number of models: chance puts three values in
order in one case of six. Its interval is at least as wide as that of a single target."""
USUAL = 30
"""Unseen subsets that messages advise at least."""

UNKNOWN = (math.nan, math.nan)
"""An interval that is not known."""


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation:
    """An LDS, its interval, and its parts.

    lds         mean over the scored targets of Spearman's correlation
    interval    at `interval.LEVEL`, of the LDS on as many other unseen subsets; a centred bootstrap. If there are
                fewer than FEW, it covers that of the correlation of a single target, too
    ceiling     the same correlation between the means of two disjoint halves of `mean_of` models of each subset: what
                as many models again would reach as a prediction. Weights average noise away and can reach `best`
    per_target  float64[n]; NaN for targets that are not scored. If a correction leaves -1 to 1, single ones are
                cut there, but not for their mean, the LDS
    subsets     unseen subsets used: those with at least two trained models
    models      models trained on each
    mean_of     models whose mean the LDS is about; `models` if it is not corrected
    ceiling_interval  of the ceiling, by the same resamples; NaN if it is not known, as of early records
    constant    scored targets whose stored outputs are the same for all models
    coarse      other scored targets whose stored outputs vary by too few steps; see `precision.Spread`
    deviations  float64[resamples]; LDS of each resample less their mean. Evaluations of one run with one seed resample
                the same subsets, so the deviations of a difference of two LDS are the difference of theirs. Not
                recorded
    """

    lds: float
    interval: tuple[float, float]
    ceiling: float
    per_target: np.ndarray
    subsets: int
    models: int
    mean_of: int = 0
    ceiling_interval: tuple[float, float] = UNKNOWN
    constant: int = 0
    coarse: int = 0
    deviations: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0))

    def __post_init__(self) -> None:
        # Early records and servers do not give it, and correct nothing.
        object.__setattr__(self, "mean_of", self.mean_of or self.models)
        if self.ceiling > self.ceiling_interval[1] == 0:
            object.__setattr__(self, "ceiling_interval", UNKNOWN)

    def document(self) -> dict[str, Any]:
        """Return the evaluation as JSON values, without its deviations."""
        scores = [None if np.isnan(score) else score for score in self.per_target.tolist()]
        document = dataclasses.asdict(self) | {"per_target": scores, "interval": list(self.interval)}
        document["ceiling_interval"] = [None if math.isnan(end) else end for end in self.ceiling_interval]
        del document["deviations"]
        return document

    @property
    def size(self) -> str:
        """Say on how many subsets and models it rests."""
        return size(self.subsets, self.models, self.mean_of)

    @property
    def few(self) -> str:
        """Say that there are too few unseen subsets to measure an LDS on; empty if there are enough."""
        if self.subsets >= FEW:
            return ""
        return (
            f"{self.subsets} unseen subsets are too few to measure an LDS on, of these weights or any others; take "
            f"{USUAL} or more (evaluate.subsets)"
        )

    @property
    def ceiling_text(self) -> str:
        """Write the noise ceiling with its interval."""
        return ceiling(self.ceiling, self.ceiling_interval)

    @property
    def best(self) -> float:
        """LDS of the best possible prediction."""
        return best(self.ceiling)

    @property
    def targets(self) -> int:
        """Number of targets that are scored."""
        return len(self.scores)

    @property
    def scores(self) -> np.ndarray:
        """Correlations of the targets that are scored, float64[t]."""
        return self.per_target[~np.isnan(self.per_target)]

    def quantiles(self, shares: Sequence[float]) -> list[float]:
        """Return quantiles of the correlations of the targets that are scored."""
        return np.quantile(self.scores, shares).tolist()


def size(subsets: int, models: int, mean_of: int) -> str:
    """Say on how many subsets and models an evaluation rests."""
    of = f", corrected to {mean_of}" if mean_of != models else ""
    return f"{subsets} unseen subsets x {words.count(models, 'model')}{of}"


def ceiling(value: float, ends: Sequence[float | None]) -> str:
    """Write a noise ceiling with its interval, "0.123 (0.100 to 0.150)"; without one if it is not known."""
    low, high = (math.nan if end is None else end for end in ends)
    return f"{value:.3f}" if math.isnan(low) else f"{value:.3f} ({low:.3f} to {high:.3f})"


def best(ceiling: float) -> float:
    """Return the best LDS that the randomness of training leaves.

    If the means of two halves of the models of a subset correlate at c, the noise ceiling, the mean of all of them
    correlates with the mean of infinitely many at sqrt(2 c / (1 + c)) (Spearman and Brown).
    """
    c = min(max(ceiling, LEAST_CEILING), 1.0) if not math.isnan(ceiling) else LEAST_CEILING
    return math.sqrt(2 * c / (1 + c))


def from_document(document: dict[str, Any]) -> Evaluation:
    """Read back what `Evaluation.document` returns."""
    scores = np.array(document["per_target"], dtype=np.float64)
    ceiling = tuple(math.nan if end is None else end for end in document.get("ceiling_interval", UNKNOWN))
    return decode.build(Evaluation, document | {"per_target": scores, "ceiling_interval": ceiling})


def recorded(store: ObjectStore, run: str, fit: int) -> Evaluation | None:
    """Read the evaluation of a fit; None if it is not recorded. Raises CorruptObjectError."""
    return records.find(store, keys.evaluation(run, fit), "an evaluation", from_document)


def record(store: ObjectStore, run: str, fit: int, evaluation: Evaluation) -> None:
    """Record the evaluation of a fit, unless one is recorded."""
    records.create(store, keys.evaluation(run, fit), evaluation.document())


def evaluate(
    predictions: np.ndarray,
    outputs: np.ndarray,
    *,
    counts: np.ndarray | None = None,
    seed: int = 0,
    dtype: str = precision.DTYPE,
    resamples: int = RESAMPLES,
    progress: Report = lambda fraction: None,
) -> Evaluation:
    """Score predictions against the outputs of models trained on the subsets.

    predictions  float[s, n]: of each target, for each of s unseen subsets
    outputs      float[s, r, n]: of r models trained on each subset; NaN rows for models that failed
    counts       bool[s, n]: which subsets count for which target; all by default. A target for which fewer than 3
                 count is not scored
    dtype        type that the outputs are stored in
    progress     called after some resamples with the fraction of them that is done; what it raises stops the work

    Subsets with fewer than two trained models are left out. Raises InputError if the shapes do not fit or s < 3,
    NotReadyError if fewer than 3 subsets are left.
    """
    if predictions.ndim != 2 or outputs.ndim != 3 or outputs.shape[::2] != predictions.shape or len(outputs) < 3:
        raise InputError(
            f"predictions {predictions.shape} and outputs {outputs.shape}: must be [s, n] and [s, r, n] with s >= 3"
        )
    trained = ~np.isnan(outputs).any(axis=2)
    usable = trained.sum(axis=1) >= 2
    if usable.sum() < 3:
        raise NotReadyError(
            f"{usable.sum()} of {len(outputs)} unseen subsets have two trained models: at least 3 are needed; see why "
            "the others failed"
        )
    predictions, outputs, trained = predictions[usable], outputs[usable], trained[usable]
    counts = None if counts is None else counts[usable]
    outputs = outputs.astype(np.float64)
    predicted, true = Ranks(predictions), Ranks(_mean(outputs, trained))
    # Halves go by rank among the trained models of a subset, so that failures do not empty one of them.
    first = trained & (np.cumsum(trained, axis=1) * 2 <= trained.sum(axis=1, keepdims=True))
    halves = Ranks(_mean(outputs, first)), Ranks(_mean(outputs, trained & ~first))
    once = np.ones(len(outputs), dtype=np.int64) if counts is None else counts.astype(np.int64)
    scored = np.broadcast_to(once.reshape(len(once), -1), predictions.shape).sum(axis=0) >= 3
    if not scored.any():
        raise NotReadyError("no target has 3 unseen subsets to be scored on: more of them are needed")
    models, average = outputs.shape[1], float(trained.sum(axis=1).mean())

    def score(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the correlations of targets, float64[n], and that of the two halves, averaged over targets.

        Of many resamples, return float64[n, resamples] and float64[resamples].
        """
        found, between = spearman(predicted, true, weights), spearman(*halves, weights)[scored].mean(axis=0)
        if models < STANDARD:
            found = corrected(found, reliability_of_one(between, average / 2), average, STANDARD)
        return found, between

    def as_ceiling(between: float) -> float:
        """Return what the halves of STANDARD models correlate by, if those of fewer do by so much."""
        return between if models >= STANDARD else agreement(reliability_of_one(between, average / 2), STANDARD / 2)

    draws = interval.draws(len(outputs), seed, resamples).T[:, None]
    resampled, at_once = np.empty((2, resamples)), max(1, AT_ONCE // predictions.size)
    for first in range(0, resamples, at_once):
        block = slice(first, first + at_once)
        found, resampled[1, block] = score(draws[..., block] * (1 if counts is None else once[:, :, None]))
        resampled[0, block] = found[scored].mean(axis=0)
        progress(min(1.0, block.stop / resamples))
    per_target, halves_agree = score(once)
    between = float(halves_agree)
    lds = float(np.clip(per_target[scored].mean(), -1.0, 1.0))
    # Subsets drawn twice are harder to rank, so resamples score lower than fresh subsets would; if the LDS is high, by
    # as much as their spread. Centred on their own mean they cover what they should.
    deviations, of_halves = resampled - resampled.mean(axis=1, keepdims=True)
    around = interval.around(lds, deviations, most=1.0)
    if len(outputs) < FEW:
        step = 12 / (len(outputs) * (len(outputs) ** 2 - 1))  # between the largest two values of Spearman's correlation
        alone = interval.correlation(min(lds, 1 - step / 2), len(outputs))
        around = min(around[0], alone[0]), max(around[1], alone[1])
    low, high = interval.around(between, of_halves, most=1.0)
    kept = precision.spread(outputs[trained][:, scored], dtype)
    return Evaluation(
        lds=lds,
        interval=around,
        ceiling=as_ceiling(between),
        per_target=np.where(scored, np.clip(per_target, -1.0, 1.0), np.nan),
        subsets=len(outputs),
        models=models,
        mean_of=max(models, STANDARD),
        ceiling_interval=(as_ceiling(low), as_ceiling(high)),
        constant=int(np.count_nonzero(kept.constant)),
        coarse=int(np.count_nonzero(kept.coarse)),
        deviations=deviations,
    )


def _mean(outputs: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Return float64[s, n]: for each subset the mean over its chosen models, bool[s, r]."""
    weights = chosen / chosen.sum(axis=1, keepdims=True)
    return np.einsum("sr,srn->sn", weights, np.where(chosen[:, :, None], outputs, 0.0))
