"""Provide the input of every baseline: a run, its data, and networks trained on its whole pool."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from datamodels.analyze.what_if import pool
from datamodels.baselines import feldman_zhang
from datamodels.baselines.feldman_zhang import Shares
from datamodels.baselines.methods import TRAININGS
from datamodels.errors import InputError
from datamodels.run.dataset import Dataset, Targets
from datamodels.run.runs import Run
from datamodels.storage import ObjectStore
from datamodels.train.contract import load_trainer, model_seed
from datamodels.train.gradients import Gradients, GradientTrainer, offered
from datamodels.train.protocols import BatchTrainer

SEED_OFFSET = 1_000_000
"""Added to the numbers of models that baselines train, so that no seed is that of a model of the run or of a check."""


@dataclasses.dataclass(frozen=True, eq=False)
class Trained:
    """Networks trained on the whole pool.

    trainer      a `train.gradients.GradientTrainer`
    checkpoints  (mean learning rate, r models) after each epoch
    seconds      time of the training
    layers       layers whose weights gradients are by; empty for all
    labels       labels of targets, int[n], and of examples, int[examples]; None for both if a run has no classes
    """

    trainer: GradientTrainer
    checkpoints: Sequence[tuple[float, Sequence[Any]]]
    seconds: float
    layers: Sequence[str] = ()
    labels: tuple[np.ndarray | None, np.ndarray | None] = (None, None)

    @property
    def models(self) -> Sequence[Any]:
        """The r models after the last epoch."""
        return self.checkpoints[-1][1]

    def gradients(self) -> Iterator[Gradients]:
        """Yield the gradients of each model."""
        return map(self.gradients_of, self.models)

    def gradients_of(self, model: Any) -> Gradients:
        """Return the gradients of a model by the chosen layers."""
        return self.trainer.gradients(model, self.layers)


@dataclasses.dataclass(frozen=True, eq=False)
class Context:
    """Input of a baseline.

    dataset    data set of the run
    store      store with the outputs of the run's models
    models     number of networks to train for baselines that need some, at least 1
    layers     layers that gradients are restricted to; empty for all
    trainings  number of trainings to differentiate through, at least 1
    costly     whether a baseline may take longer than the run
    """

    run: Run
    dataset: Dataset
    store: ObjectStore
    models: int
    layers: Sequence[str] = ()
    trainings: int = TRAININGS
    costly: bool = True

    def __post_init__(self) -> None:
        for name in ("models", "trainings"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} = {getattr(self, name)}: must be at least 1")

    @property
    def targets(self) -> Targets:
        return self.dataset.targets(self.run.spec.targets)

    @functools.cached_property
    def shares(self) -> Shares:
        """Result of `feldman_zhang`, computed on first use."""
        return feldman_zhang.of_run(self.run, self.store)

    @functools.cached_property
    def loaded(self) -> BatchTrainer:
        """Trainer of the run, loaded on first use."""
        return load_trainer(self.run.spec, self.dataset, self.targets)

    @functools.cached_property
    def trained(self) -> Trained:
        """Networks, trained on first use. Raises InputError if the run's trainer has no gradients to offer."""
        spec = self.run.spec
        trainer = offered(self.loaded)
        if trainer is None:
            raise InputError(
                f"trainer.class = {spec.trainer.cls!r}: has no gradients of single examples to offer: no methods "
                "`checkpoints` and `gradients`"
            )
        started = time.perf_counter()
        examples = self.run.design.members(np.flatnonzero(pool.whole(self.run)))
        seeds = [model_seed(spec.seed, spec.models + SEED_OFFSET + i) for i in range(self.models)]
        at_once = getattr(trainer, "checkpoints_many", None)
        if at_once is None:
            parts = [[(rate, [model]) for rate, model in trainer.checkpoints(examples, seed)] for seed in seeds]
        else:
            size = self.loaded.models_at_once
            parts = [list(at_once(examples, seeds[start : start + size])) for start in range(0, len(seeds), size)]
        epochs = zip(*parts, strict=True)
        found = [(epoch[0][0], [model for _, models in epoch for model in models]) for epoch in epochs]
        labels = self.run.target_labels, self.run.labels
        return Trained(trainer, found, time.perf_counter() - started, self.layers, labels)
