"""Provide the input of every baseline: a run, its data, and networks trained on its whole pool."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from datamodels.analyze.what_if import pool
from datamodels.baselines import feldman_zhang
from datamodels.baselines.feldman_zhang import Shares
from datamodels.baselines.gradients import Gradients
from datamodels.errors import InputError
from datamodels.run.dataset import Dataset, Targets
from datamodels.run.runs import Run
from datamodels.storage import ObjectStore
from datamodels.train.contract import load_trainer, model_seed

SEED_OFFSET = 1_000_000
"""Added to the numbers of models that baselines train, so that no seed is that of a model of the run or of a check."""


@dataclasses.dataclass(frozen=True, eq=False)
class Trained:
    """Networks trained on the whole pool.

    trainer      a `workloads.mlp.Classifier` whose network has `factors`
    checkpoints  (mean learning rate, models float32[r, parameters]) after each epoch
    seconds      time of the training
    """

    trainer: Any
    checkpoints: list[tuple[float, np.ndarray]]
    seconds: float

    @property
    def models(self) -> np.ndarray:
        """The models after the last epoch, float32[r, parameters]."""
        return self.checkpoints[-1][1]

    def gradients(self) -> Iterator[Gradients]:
        """Yield the gradients of each model."""
        return (Gradients(self.trainer, model) for model in self.models)


@dataclasses.dataclass(frozen=True, eq=False)
class Context:
    """Input of a baseline.

    dataset  data set of the run
    store    store with the outputs of the run's models
    models   number of networks to train for baselines that need some, at least 1
    """

    run: Run
    dataset: Dataset
    store: ObjectStore
    models: int

    def __post_init__(self) -> None:
        if self.models < 1:
            raise InputError(f"models = {self.models}: must be at least 1")

    @property
    def targets(self) -> Targets:
        return self.dataset.targets(self.run.spec.targets)

    @functools.cached_property
    def shares(self) -> Shares:
        """Result of `feldman_zhang`, computed on first use."""
        return feldman_zhang.of_run(self.run, self.store)

    @functools.cached_property
    def trained(self) -> Trained:
        """Networks, trained on first use. Raises InputError if the run's trainer has no gradients to offer."""
        spec = self.run.spec
        trainer: Any = load_trainer(spec, self.dataset, self.targets)
        if not hasattr(getattr(trainer, "network", None), "factors"):
            raise InputError(
                f"trainer.class = {spec.trainer.cls!r}: has no gradients of single examples to offer, as those of "
                "datamodels.train.workloads.mlp do"
            )
        started = time.perf_counter()
        examples = self.run.design.members(np.flatnonzero(pool.whole(self.run)))
        seeds = [model_seed(spec.seed, spec.models + SEED_OFFSET + i) for i in range(self.models)]
        parts = [
            seeds[start : start + trainer.models_at_once] for start in range(0, len(seeds), trainer.models_at_once)
        ]
        epochs = zip(*(trainer.checkpoints(examples, part) for part in parts), strict=True)
        found = [(epoch[0][0], np.concatenate([models for _, models in epoch])) for epoch in epochs]
        return Trained(trainer, found, time.perf_counter() - started)
