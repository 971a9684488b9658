"""How well predictions rank unseen subsets: the linear datamodeling score, its interval and its noise ceiling.

LDS (Park et al. 2023, TRAK, definition 2.3): for each target, Spearman's correlation over unseen subsets between what
the datamodel predicts and the mean output of models trained on that subset; averaged over targets. Correlations are
per target and never pooled: pooled over targets, their means alone correlate at 0.95.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from datamodels import sample
from datamodels.aggregate.manifest import Snapshot
from datamodels.analyze import interval
from datamodels.analyze.interval import RESAMPLES
from datamodels.analyze.rank import Ranks, spearman
from datamodels.errors import InputError, NotReadyError
from datamodels.fit import problem
from datamodels.fit.problem import Solution
from datamodels.run import Run
from datamodels.storage import ObjectStore
from datamodels.train.data import NOT_IN_POOL


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation:
    """
    lds         mean over the scored targets of Spearman's correlation
    interval    at `interval.LEVEL`, of the LDS on as many other unseen subsets; a centred bootstrap
    ceiling     the same correlation between the means of two disjoint halves of each subset's models: what noise in
                the truth leaves to be predicted, for means of half as many models
    per_target  float64[n]; NaN for targets that are not scored
    subsets     unseen subsets used: those with at least two trained models
    models      models trained on each
    deviations  float64[resamples]; of the resamples' LDS from their mean. Evaluations of one run with one seed resample
                the same subsets, so that the deviations of a difference are the difference of theirs. Not recorded
    """

    lds: float
    interval: tuple[float, float]
    ceiling: float
    per_target: np.ndarray
    subsets: int
    models: int
    deviations: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0))

    def document(self) -> dict[str, Any]:
        scores = [None if np.isnan(score) else score for score in self.per_target.tolist()]
        document = dataclasses.asdict(self) | {"per_target": scores, "interval": list(self.interval)}
        del document["deviations"]
        return document

    @property
    def targets(self) -> int:
        """Targets that are scored."""
        return int(np.count_nonzero(~np.isnan(self.per_target)))


def from_document(document: dict[str, Any]) -> Evaluation:
    """Reads back `Evaluation.document`."""
    fields = {"per_target": np.array(document["per_target"], dtype=np.float64), "interval": tuple(document["interval"])}
    return Evaluation(**document | fields)


def evaluate(
    predictions: np.ndarray,
    outputs: np.ndarray,
    *,
    counts: np.ndarray | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
    progress: Callable[[float], None] = lambda fraction: None,
) -> Evaluation:
    """Scores predictions against the outputs of retrained models.

    predictions  float[s, n]: of each target, for each of s unseen subsets
    outputs      float[s, r, n]: of r models trained on each subset; NaN rows for models that failed
    counts       bool[s, n]: which subsets count for which target; all by default. A target for which fewer than 3
                 count is not scored
    progress     called after each resample with the share of them that is done; what it raises stops the work

    Subsets with fewer than two trained models are left out. Raises InputError where the shapes do not fit or s < 3,
    NotReadyError where fewer than 3 subsets are left.
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
    once = np.ones(len(outputs), dtype=np.int64) if counts is None else counts.astype(np.int64)
    scored = np.broadcast_to(once.reshape(len(once), -1), predictions.shape).sum(axis=0) >= 3
    if not scored.any():
        raise NotReadyError("no target has 3 unseen subsets to be scored on: more of them are needed")
    per_target = np.where(scored, spearman(predicted, true, once), np.nan)

    draws = interval.draws(len(outputs), seed, resamples)
    weights = (drawn if counts is None else drawn[:, None] * once for drawn in draws)
    resampled = np.empty(resamples)
    for i, drawn in enumerate(weights):
        resampled[i] = spearman(predicted, true, drawn)[scored].mean()
        progress((i + 1) / resamples)
    lds = float(per_target[scored].mean())
    # Subsets drawn twice are harder to rank, so resamples score lower than any fresh sample would, by as much as their
    # spread where the LDS is high. Taken about their own mean they cover what they should.
    deviations = resampled - resampled.mean()

    # Halves by rank among the trained models of a subset, so that failures do not empty one of them.
    first = trained & (np.cumsum(trained, axis=1) * 2 <= trained.sum(axis=1, keepdims=True))
    halves = Ranks(_mean(outputs, first)), Ranks(_mean(outputs, trained & ~first))
    return Evaluation(
        lds=lds,
        interval=interval.around(lds, deviations, most=1.0),
        ceiling=float(spearman(*halves, once)[scored].mean()),
        per_target=per_target,
        subsets=len(outputs),
        models=outputs.shape[1],
        deviations=deviations,
    )


def gather(run: Run, snapshot: Snapshot, store: ObjectStore) -> np.ndarray:
    """float32[s, r, n]: the committed outputs of the models trained on unseen subsets.

    NaN for models that failed or are not committed yet. Raises CorruptObjectError.
    """
    spec = run.spec
    outputs = np.full((spec.models - spec.m, run.n), np.nan, dtype=np.float32)
    for part in snapshot.parts:
        if part.last > spec.m:
            found = part.read(store, run.name)
            unseen = found.model_index >= spec.m
            outputs[found.model_index[unseen] - spec.m] = found.outputs[unseen]
    return outputs.reshape(spec.evaluate.subsets, spec.evaluate.models, run.n)


def scorer(
    run: Run, snapshot: Snapshot, store: ObjectStore, *, resamples: int = RESAMPLES
) -> Callable[[Solution], Evaluation]:
    """What evaluates fits of a run on its unseen subsets; reads their models' outputs now, once.

    Raises NotReadyError where the run has no unseen subsets, CorruptObjectError.
    """
    spec = run.spec
    require_unseen(run)
    outputs = gather(run, snapshot, store)
    masks = unseen(run)
    members = sample.unpack(masks, run.design.columns)

    def score(solution: Solution) -> Evaluation:
        counts = countable(run, masks, ~np.isin(solution.status, problem.UNFITTED))
        return evaluate(solution.predict(members), outputs, counts=counts, seed=spec.seed, resamples=resamples)

    return score


def showcase(outputs: np.ndarray | None, n: int, count: int) -> list[int]:
    """`count` of n targets, or all, to show: spread evenly from the lowest mean of outputs [s, r, n] to the highest.

    Those without outputs (NaN) come last, by number.
    """
    order = np.arange(n)
    if outputs is not None:
        with np.errstate(invalid="ignore"):
            means = np.nansum(outputs, axis=(0, 1), dtype=np.float64) / (~np.isnan(outputs)).sum(axis=(0, 1))
        order = np.argsort(means, kind="stable")
    return order[np.linspace(0, n - 1, min(count, n)).astype(int)].tolist()


def require_unseen(run: Run) -> None:
    """Raises NotReadyError where the spec asks for no unseen subsets."""
    if not run.spec.evaluate.subsets:
        raise NotReadyError(f"run {run.name}: evaluate.subsets is 0, so there is nothing to measure LDS on")


def unseen(run: Run) -> np.ndarray:
    """uint8[s, ceil(d / 8)]: the packed masks of the unseen subsets."""
    return sample.subsets(run.design, run.spec.m, run.spec.m + run.spec.evaluate.subsets)


def countable(run: Run, masks: np.ndarray, modelled: np.ndarray) -> np.ndarray | None:
    """bool[s, n]: which subsets count for which target; None where all do for all.

    A target that is a training example is judged on subsets without it, as its regression saw no others; one without
    a model is not judged.

    masks     uint8[s, ceil(d / 8)], packed
    modelled  bool[n]; which targets have a model
    """
    own = np.flatnonzero(run.own != NOT_IN_POOL)
    if not len(own) and modelled.all():
        return None
    counts = np.tile(modelled, (len(masks), 1))
    columns = [run.design.column_of(int(example)) for example in run.own[own]]
    counts[:, own] &= ~sample.unpack(masks, run.design.columns)[:, columns]
    return counts


def _mean(outputs: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """float64[s, n]: means over the chosen models, bool[s, r], of each subset."""
    weights = chosen / chosen.sum(axis=1, keepdims=True)
    return np.einsum("sr,srn->sn", weights, np.where(chosen[:, :, None], outputs, 0.0))
