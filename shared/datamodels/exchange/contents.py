"""Read what a run has to export, block by block.

No array is larger than a part, a block of masks, a block of targets, or a few numbers for each target. What is large is
read once for each array or table that is written of it.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
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

Rows = Iterator[tuple[np.ndarray, np.ndarray]]
"""Pairs (models int64[b], outputs [b, n])."""
MASKS_BYTES = 2**24
"""Largest size of the masks that are in memory at a time."""
NO_COLUMNS, NO_WEIGHTS = np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.float32)


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
    def index(self) -> np.ndarray:
        """int64[models]: the models with outputs that a fit may use, ascending."""
        spans = [np.arange(part.first, part.last) for part in self.snapshot.parts]
        found = np.concatenate([np.zeros(0, dtype=np.int64), *spans])
        return np.setdiff1d(found[found < self.run.spec.m], list(self.snapshot.failed))

    @property
    def models(self) -> int:
        """Number of models with outputs that a fit may use."""
        return len(self.index)

    def fitted(self) -> Rows:
        """Yield (models, outputs) of the models with outputs that a fit may use, a part at a time."""
        for part in self.snapshot.parts:
            if part.first < self.run.spec.m:
                found = part.read(self.store, self.run.name)
                mine = found.model_index < self.run.spec.m
                yield found.model_index[mine].astype(np.int64), found.outputs[mine]

    @property
    def unseen_index(self) -> np.ndarray:
        """int64[models]: all models of the unseen subsets, ascending."""
        return np.arange(self.run.spec.m, self.run.spec.models)

    def unseen(self) -> Rows:
        """Yield (models, outputs) of all models of the unseen subsets, a sub-chunk at a time.

        Outputs are NaN for models that failed or are not committed.
        """
        spec = self.run.spec
        part, found = None, None
        for chunk in range(spec.m // spec.chunk, spec.chunks):
            for models in spec.sub_chunks(spec.chunk_range(chunk)):
                index = np.arange(max(models.start, spec.m), models.stop)
                if not len(index):
                    continue
                outputs = np.full((len(index), self.run.n), np.nan, dtype=self.run.dtype)
                if (listed := self.snapshot.find(models.start)) is not None:
                    if listed != part or found is None:  # a merged part has several sub-chunks
                        part, found = listed, listed.read(self.store, self.run.name)
                    mine = np.isin(found.model_index, index)
                    outputs[found.model_index[mine] - index[0]] = found.outputs[mine]
                yield index, outputs

    def unseen_masks(self) -> Iterator[np.ndarray]:
        """Yield bool[b, d]: the masks of the unseen subsets."""
        spec = self.run.spec
        return self._masks_of(np.arange(spec.m, spec.m + spec.evaluate.subsets))

    def masks(self, models: np.ndarray) -> Iterator[np.ndarray]:
        """Yield bool[b, d]: the masks of models, ascending, in pieces of at most MASKS_BYTES."""
        return self._masks_of(self.subsets(models))

    def subsets(self, models: np.ndarray) -> np.ndarray:
        """Return int64[models]: the number of the subset of each model."""
        return np.array([self.run.spec.subset_index(model) for model in models.tolist()], dtype=np.int64)

    def _masks_of(self, subsets: np.ndarray) -> Iterator[np.ndarray]:
        design, step = self.run.design, max(1, MASKS_BYTES // self.run.design.columns)
        for first in range(0, len(subsets), step):
            piece = subsets[first : first + step]
            drawn = designs.subsets(design, int(piece[0]), int(piece[-1]) + 1)[piece - piece[0]]
            yield designs.unpack(drawn, design.columns)

    def weights(self) -> Iterator[tuple[int, Solution]]:
        """Yield (first target, weights) of each block of targets; nothing if there is no fit."""
        first = 0
        for block in fits.blocks(self.store, self.record) if self.record else ():
            yield first, block
            first += block.n

    @functools.cached_property
    def has_prior(self) -> bool:
        """Whether the weights say how much of them was measured: those of a fit with a prior do."""
        weighted = (block for _, block in self.weights() if len(block.weights))
        first = next(weighted, None)
        return first is not None and first.measured is not None

    @functools.cached_property
    def targets(self) -> dict[str, np.ndarray]:
        """Columns of a table with a row for each target; `nonzeros` is the number of its weights. Needs a fit."""
        run, scores = self.run, self.evaluation
        blocks = [
            dataclasses.replace(block, columns=NO_COLUMNS, weights=NO_WEIGHTS, measured=None)
            for _, block in self.weights()
        ]
        status = [word for block in blocks for word in block.status]
        return {
            "target": np.arange(run.n, dtype=np.int32),
            "own_example": run.own.astype(np.int32),
            "label": np.full(run.n, -1, np.int32) if run.target_labels is None else run.target_labels,
            "status": np.array(status),
            "lambda": np.concatenate([block.lambda_ for block in blocks]),
            "gap": np.concatenate([block.gap for block in blocks]),
            "heldout_r2": np.concatenate([block.heldout_r2 for block in blocks]),
            "intercept": np.concatenate([block.intercept for block in blocks]),
            "nonzeros": np.concatenate([np.diff(block.indptr) for block in blocks]),
            "lds": np.full(run.n, np.nan) if scores is None else scores.per_target,
        }

    @property
    def spans(self) -> dict[str, np.ndarray]:
        """Columns of a table with the span of each target; none if targets are no parts of texts."""
        if not self.run.spans:
            return {}
        text, first, last = zip(*self.run.spans, strict=True)
        return {"text": np.array(text), "first": np.array(first, np.int32), "last": np.array(last, np.int32)}

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
            "own_example": run.own.tolist(),
            "spans": [list(span) for span in run.spans],
            "models": self.models,
            "columns": run.design.columns,
            "targets": run.n,
            "fit": None if self.record is None else self.record.number,
            "settings": None if self.record is None else self.record.settings,
            "evaluation": evaluation,
        }
