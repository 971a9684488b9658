"""Compare what `magic` says of its own reliability with its LDS, for networks with and without kinks.

    python benchmarks/analyses/magic_reliability.py [--examples 300] [--targets 30] [--subsets 60] [--models 8]

Scores come from three trainings. LDS is that of the mean outputs of some models on each of some subsets of half of the
digits. "halves" is the LDS of the means of one half of these models for the other: noise allows no LDS above
sqrt(2 * halves / (1 + halves)).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np
import torch
from scipy import stats
from torch import nn

from datamodels.baselines.context import Context
from datamodels.baselines.gradients import magic
from datamodels.errors import InputError
from datamodels.run import designs, runs, specs, trust
from datamodels.storage.local import LocalStore
from datamodels.train.contract import load_trainer, model_seed
from datamodels.train.torch.examples import cnn, smooth_cnn

TRAININGS = 3
OPTIMISERS = [*({"optimiser": "sgd", "learning_rate": rate} for rate in (0.1, 0.2, 0.3, 0.5)), {"learning_rate": 0.005}]
"""Options of the trainer; the last is of AdamW."""


def measured(build: Callable[[], nn.Module], trainer: dict[str, Any], options: argparse.Namespace) -> list[float]:
    """Return (reliability, LDS, LDS of two halves of the models) of one network."""
    given = {"build": f"{build.__module__}:{build.__name__}", "loss": "cross_entropy", "batch_size": 35, "epochs": 8}
    numbers = {"train": options.examples, "test": options.targets}
    document = {
        "name": "magic",
        "dataset": {"load": "datamodels.train.workloads.digits:load", "options": numbers},
        "trainer": {"class": "datamodels.train.torch:TorchTrainer", "options": given | {"models_at_once": 8} | trainer},
        "m": TRAININGS * options.targets,  # `magic` is left out if it takes longer than the run
    }
    spec = specs.parse(document)
    data = runs.load_dataset(spec)
    run = runs.resolve(spec, data)
    reliable: list[float] = []
    with mock.patch.object(magic, "_doubt", side_effect=reliable.append):
        scores, _ = magic.attribution(Context(run, data, LocalStore("/nowhere"), 1, trainings=TRAININGS))
    loaded = load_trainer(spec, data, data.targets("test"))
    unseen = range(TRAININGS, TRAININGS + options.subsets)
    subsets = [run.design.members(designs.subset(run.design, number)) for number in unseen]
    seeds = [model_seed(1, model) for model in range(options.models * options.subsets)]
    models = loaded.train_many([subset for subset in subsets for _ in range(options.models)], seeds)
    outputs = loaded.outputs_many(models).reshape(options.subsets, options.models, -1)
    predicted = np.stack([scores[:, subset].sum(axis=1) for subset in subsets])
    halves = outputs[:, ::2].mean(axis=1), outputs[:, 1::2].mean(axis=1)
    return [*reliable, _lds(predicted, outputs.mean(axis=1)), _lds(*halves)]


def _lds(predicted: np.ndarray, true: np.ndarray) -> float:
    return float(np.mean([stats.spearmanr(*pair)[0] for pair in zip(predicted.T, true.T, strict=True)]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=300)
    parser.add_argument("--targets", type=int, default=30)
    parser.add_argument("--subsets", type=int, default=60)
    parser.add_argument("--models", type=int, default=8)
    options = parser.parse_args()
    torch.set_num_threads(1)
    trust.trust_modules([smooth_cnn.__module__])  # no example spec has it
    print("| network | optimiser | reliability | LDS | halves |\n|---|---|---|---|---|")
    for build in (smooth_cnn, cnn):
        for trainer in OPTIMISERS:
            name = f"{trainer.get('optimiser', 'adamw')}, {trainer['learning_rate']:g}"
            try:
                cells = " | ".join(f"{figure:.2f}" for figure in measured(build, trainer, options))
            except InputError as error:  # derivatives overflow
                cells = f"{error} | |"
            print(f"| {build.__name__} | {name} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
