"""Read what a run has to export, block by block.

No array is longer than a part, a block of masks, or a block of targets.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from datamodels.aggregate.manifest import Snapshot
from datamodels.analyze.quality.evaluate import Evaluation
from datamodels.fit.data.problem import Solution
from datamodels.fit.job import fits
from datamodels.fit.job.finished import FitRecord
from datamodels.run import designs
from datamodels.run.runs import Run
from datamodels.storage import ObjectStore


@dataclasses.dataclass(frozen=True)
class Rows:
    """Models and their arrays.

    subset   int64[b]; number of the subset of each model
    model    int64[b]; number of each model
    masks    bool[b, d]
    outputs  [b, n]; NaN for unseen models that failed or are not committed
    """

    subset: np.ndarray
    model: np.ndarray
    masks: np.ndarray
    outputs: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Contents:
    """A run as it is now.

    record      the fit to export; None if there is none
    evaluation  of that fit; None if there is none
    """

    store: ObjectStore
    run: Run
    snapshot: Snapshot
    record: FitRecord | None
    evaluation: Evaluation | None

    @functools.cached_property
    def models(self) -> int:
        """Number of models with outputs that a fit may use."""
        m = self.run.spec.m
        failed = sum(model < m for model in self.snapshot.failed)
        return sum(max(0, min(part.last, m) - part.first) for part in self.snapshot.parts) - failed

    def fitted_rows(self) -> Iterator[Rows]:
        """Yield the models with outputs that a fit may use, ascending."""
        for part in self.snapshot.parts:
            if part.first < self.run.spec.m:
                found = part.read(self.store, self.run.name)
                mine = found.model_index < self.run.spec.m
                yield from self._rows(found.model_index[mine].astype(np.int64), found.outputs[mine])

    def unseen_rows(self) -> Iterator[Rows]:
        """Yield all models of the unseen subsets, ascending."""
        spec = self.run.spec
        committed = {part.first: part for part in self.snapshot.parts}
        for chunk in range(spec.m // spec.chunk, spec.chunks):
            for models in spec.sub_chunks(spec.chunk_range(chunk)):
                index = np.arange(max(models.start, spec.m), models.stop)
                if not len(index):
                    continue
                outputs = np.full((len(index), self.run.n), np.nan, dtype=self.run.dtype)
                if models.start in committed:
                    found = committed[models.start].read(self.store, self.run.name)
                    mine = found.model_index >= spec.m
                    outputs[found.model_index[mine] - index[0]] = found.outputs[mine]
                yield from self._rows(index, outputs)

    def unseen_masks(self) -> Iterator[np.ndarray]:
        """Yield bool[b, d]: the masks of the unseen subsets."""
        spec = self.run.spec
        step = max(1, 2**24 // self.run.design.columns)
        for first in range(spec.m, spec.m + spec.evaluate.subsets, step):
            last = min(first + step, spec.m + spec.evaluate.subsets)
            yield designs.unpack(designs.subsets(self.run.design, first, last), self.run.design.columns)

    def _rows(self, model: np.ndarray, outputs: np.ndarray) -> Iterator[Rows]:
        """Yield rows in pieces of which the masks are not larger than 16 MiB."""
        step = max(1, 2**24 // self.run.design.columns)
        for first in range(0, len(model), step):
            index = model[first : first + step]
            subset = np.array([self.run.spec.subset_index(i) for i in index.tolist()], dtype=np.int64)
            drawn = designs.subsets(self.run.design, int(subset[0]), int(subset[-1]) + 1)[subset - subset[0]]
            masks = designs.unpack(drawn, self.run.design.columns)
            yield Rows(subset, index, masks, outputs[first : first + step])

    def weights(self) -> Iterator[tuple[int, Solution]]:
        """Yield (first target, weights) of each block of targets; nothing if there is no fit."""
        first = 0
        for block in fits.blocks(self.store, self.record) if self.record else ():
            yield first, block
            first += block.n

    def targets(self) -> Iterator[dict[str, Sequence[Any] | np.ndarray]]:
        """Yield columns of a table with a row for each target, a block of targets at a time."""
        run, scores = self.run, self.evaluation
        for first, block in self.weights():
            span = slice(first, first + block.n)
            missing = np.full(block.n, np.nan)
            yield {
                "target": np.arange(first, first + block.n, dtype=np.int32),
                "own_example": run.own[span].astype(np.int32),
                "label": np.full(block.n, -1, np.int32) if run.target_labels is None else run.target_labels[span],
                "status": block.status,
                "lambda": block.lambda_,
                "gap": block.gap,
                "heldout_r2": block.heldout_r2,
                "intercept": block.intercept,
                "lds": missing if scores is None else scores.per_target[span],
            }

    def facts(self) -> dict[str, Any]:
        """Return the rest as JSON values: the run, its spec, the fit, and the evaluation without its targets.

        `output` says what outputs mean, and `predicted` what predictions by the weights mean.
        """
        evaluation = None if self.evaluation is None else self.evaluation.document()
        if evaluation is not None:
            del evaluation["per_target"]
        run = self.run
        return {
            "run": run.name,
            "spec": run.spec.document(),
            "output": run.output.document(),
            "predicted": (run if self.record is None else self.record.of(run)).predicted.document(),
            "label_names": list(run.label_names),
            "labels": None if run.labels is None else run.labels.tolist(),
            "target_labels": None if run.target_labels is None else run.target_labels.tolist(),
            "models": self.models,
            "columns": run.design.columns,
            "targets": run.n,
            "fit": None if self.record is None else self.record.number,
            "settings": None if self.record is None else self.record.settings,
            "evaluation": evaluation,
        }
