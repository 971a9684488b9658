"""Predict the time and memory of scores by gradients, by computing a part of those of one model on this machine."""

from __future__ import annotations

import dataclasses

import numpy as np

from datamodels.errors import InputError
from datamodels.fit.data.problem import FOLDS
from datamodels.fit.job import gradients
from datamodels.plan.cost import Speed
from datamodels.run import designs
from datamodels.run.dataset import Dataset
from datamodels.run.runs import Run
from datamodels.train.contract import load_trainer, model_seed
from datamodels.train.gradients import influence, offered


@dataclasses.dataclass(frozen=True)
class Plan:
    """Time and memory of the scores of a run, which are computed once.

    models   number of models
    seconds  from start to end, the training of the models included
    memory   bytes at the peak, besides what the trainer takes
    """

    models: int
    seconds: float
    memory: int


def plan(run: Run, dataset: Dataset, speed: Speed) -> Plan | None:
    """Return the plan; None if fits use no gradients, or if the trainer offers none."""
    models = gradients.wanted(run)
    if not models:
        return None
    trainer = load_trainer(run.spec, dataset, dataset.targets(run.spec.targets))
    source = offered(trainer)
    if source is None:
        return None
    members = run.design.members(designs.subset(run.design, 0))
    model = trainer.train_many([members], [model_seed(run.spec.seed, 0)])[0]
    try:
        seconds, memory = influence.cost(source.gradients(model), members)
    except InputError:
        return None
    train = speed.each * speed.trainers
    scores = run.n * (2 * run.design.examples + (FOLDS + 1) * run.design.columns)
    return Plan(models, models * (train + seconds), memory + scores * np.dtype(np.float32).itemsize)
