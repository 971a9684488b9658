"""Compare predictions with models that are trained on unseen subsets: subsets of a run that no fit has seen.

This is the only place that reads unseen subsets, predicts the outputs of models trained on them, and compares. The
pipeline, the report, the stopping rule, the learning curve, the comparison with baselines and `datamodels evaluate`
all take three steps:

1. `Unseen.read` reads the outputs of the models trained on unseen subsets.
2. `Unseen.predicted_by` predicts these outputs by the weights of a fit; `Unseen.with_predictions` takes any others.
3. `Predictions.evaluate` scores them by LDS (`quality.evaluate`); `Predictions.quality` adds R^2 (`quality.agreement`).
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, Self

import numpy as np

from datamodels.aggregate.manifest import Snapshot
from datamodels.analyze.quality import agreement, evaluate
from datamodels.analyze.quality.agreement import Quality
from datamodels.analyze.quality.evaluate import Evaluation
from datamodels.analyze.quality.interval import RESAMPLES
from datamodels.analyze.quality.progress import Report
from datamodels.errors import NotReadyError
from datamodels.fit.data.problem import Solution
from datamodels.run import designs, precision
from datamodels.run.dataset import NOT_IN_POOL
from datamodels.run.runs import Run
from datamodels.storage import ObjectStore


@dataclasses.dataclass(frozen=True, eq=False)
class Predictions:
    """Predictions for s unseen subsets, and the outputs of the models trained on them.

    predicted  float[s, n]
    outputs    float32[s, r, n]; NaN for models that failed or are not committed
    counts     bool[s, n]: which subsets count for which target; None if all count for all. See `counting_subsets`
    seed       of the bootstrap over subsets
    dtype      type that the outputs are stored in
    """

    predicted: np.ndarray
    outputs: np.ndarray
    counts: np.ndarray | None
    seed: int
    dtype: str = precision.DTYPE

    def evaluate(self, *, resamples: int = RESAMPLES, progress: Report = lambda fraction: None) -> Evaluation:
        """Compute LDS with its interval and its noise ceiling. Raises NotReadyError if too few models are trained."""
        given = self._given | {"dtype": self.dtype}
        return evaluate.evaluate(self.predicted, self.outputs, **given, resamples=resamples, progress=progress)

    def quality(self, *, resamples: int = RESAMPLES, progress: Report = lambda fraction: None) -> Quality:
        """Compute all figures. Raises NotReadyError if too few models are trained."""

        def part(start: float, width: float) -> Report:
            return lambda fraction: progress(start + width * fraction)

        pair = (self.predicted, self.outputs)
        found = functools.partial(agreement.agreement, *pair, **self._given, resamples=resamples)
        return Quality(
            evaluation=self.evaluate(resamples=resamples, progress=part(0.0, 0.8)),
            single=found(single=True, progress=part(0.8, 0.1)),
            mean=found(single=False, progress=part(0.9, 0.1)),
            points=agreement.points(*pair, **self._given),
        )

    @property
    def _given(self) -> dict[str, Any]:
        return {"counts": self.counts, "seed": self.seed}


@dataclasses.dataclass(frozen=True, eq=False)
class Unseen:
    """The subsets of a run that no fit sees, and the outputs of the models trained on them.

    masks    uint8[s, ceil(d / 8)], packed
    outputs  float32[s, r, n]; NaN for models that failed or are not committed
    """

    run: Run
    masks: np.ndarray
    outputs: np.ndarray

    @classmethod
    def read(cls, run: Run, snapshot: Snapshot, store: ObjectStore) -> Self:
        """Read the outputs that a snapshot lists.

        Raises NotReadyError if the spec asks for no unseen subsets, CorruptObjectError.
        """
        spec = run.spec
        if not spec.evaluate.subsets:
            raise NotReadyError(f"run {run.name}: evaluate.subsets is 0, so there is nothing to measure LDS on")
        outputs = np.full((spec.models - spec.m, run.n), np.nan, dtype=np.float32)
        for part in snapshot.parts:
            if part.last > spec.m:
                found = part.read(store, run.name)
                unseen = found.model_index >= spec.m
                outputs[found.model_index[unseen] - spec.m] = found.outputs[unseen]
        masks = designs.subsets(run.design, spec.m, spec.m + spec.evaluate.subsets)
        return cls(run, masks, outputs.reshape(spec.evaluate.subsets, spec.evaluate.models, run.n))

    @functools.cached_property
    def members(self) -> np.ndarray:
        """bool[s, d]: the masks, unpacked."""
        return designs.unpack(self.masks, self.run.design.columns)

    def predicted_by(self, solution: Solution) -> Predictions:
        """Predict the outputs by the weights of a fit."""
        return self.with_predictions(solution.predict(self.members), solution.modelled)

    def with_predictions(
        self, predicted: np.ndarray, modelled: np.ndarray, targets: np.ndarray | slice = slice(None)
    ) -> Predictions:
        """Combine predictions, float[s, t], with the outputs.

        modelled  bool[n]; which targets have a model
        targets   int[t]; the targets that are predicted, by default all
        """
        counts = counting_subsets(self.run, self.masks, modelled)
        counts = None if counts is None else counts[:, targets]
        return Predictions(predicted, self.outputs[:, :, targets], counts, self.run.spec.seed, self.run.dtype)


def counting_subsets(run: Run, masks: np.ndarray, modelled: np.ndarray) -> np.ndarray | None:
    """Return bool[s, n]: which subsets count for which target; None if all subsets count for all targets.

    A target that is a training example is evaluated on subsets without it, because only these were fitted. A target
    without weights is not evaluated.

    masks     uint8[s, ceil(d / 8)], packed
    modelled  bool[n]; which targets have a model
    """
    own = np.flatnonzero(run.own != NOT_IN_POOL)
    if not len(own) and modelled.all():
        return None
    counts = np.tile(modelled, (len(masks), 1))
    columns = [run.design.column_of(int(example)) for example in run.own[own]]
    counts[:, own] &= ~designs.unpack(masks, run.design.columns)[:, columns]
    return counts


def targets_to_show(run: Run, outputs: np.ndarray | None, count: int) -> list[int]:
    """Choose `count` targets of a run to show, or all: spread evenly from the worst mean output to the best.

    If neither direction of the output is better, from the lowest to the highest.

    outputs  float[s, r, n] of models on unseen subsets; None if there are none

    Targets without outputs (NaN) come last, by number.
    """
    n = run.n
    order = np.arange(n)
    if outputs is not None:
        with np.errstate(invalid="ignore"):
            means = np.nansum(outputs, axis=(0, 1), dtype=np.float64) / (~np.isnan(outputs)).sum(axis=(0, 1))
        order = np.argsort(run.output.sign * means, kind="stable")
    return order[np.linspace(0, n - 1, min(count, n)).astype(int)].tolist()
