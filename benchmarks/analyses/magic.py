"""Compare what derivatives through a training predict with trainings in which examples lose their weight.

    python benchmarks/analyses/magic.py [--targets 50] [--sets 12] [--networks MLP,...]

All trainings have one seed, as in the paper (Ilyas and Engstrom 2025, arXiv:2504.16430). They differ in the weights
of examples, which are 1, or 0 if an example is removed. Each row removes random sets of some size from the whole pool
of the digits. LDS is the Spearman correlation of predicted and true outputs over sets, averaged over targets; r is the
correlation of all changes, and slope that of true changes on predicted ones. `relu without curvature` leaves out the
kinks of relu, see `train.gradients.kinks`.
"""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np
import torch
from scipy import stats

from datamodels.train.gradients import Replay, kinks
from datamodels.train.gradients.metagradients import Metagradients
from datamodels.train.torch import TorchTrainer
from datamodels.train.torch.examples import cnn, smooth_cnn
from datamodels.train.workloads import digits
from datamodels.train.workloads.mlp import MLP, Softmax

FRACTIONS = (0.01, 0.05, 0.2, 0.5)


def network(data, build, **options) -> TorchTrainer:
    given = {"loss": "cross_entropy", "optimiser": "sgd", "learning_rate": 0.1, "epochs": 8, "batch_size": 35}
    return TorchTrainer(data, data.targets("test"), build=build, **given | options)


NETWORKS: dict[str, Callable[[Any], Any]] = {
    "Softmax": lambda data: Softmax(data, data.targets("test")),
    "MLP": lambda data: MLP(data, data.targets("test")),
    "relu without curvature": lambda data: MLP(data, data.targets("test")),
    "smooth_cnn": lambda data: network(data, smooth_cnn),
    "smooth_cnn by adamw": lambda data: network(data, smooth_cnn, optimiser="adamw", learning_rate=0.005),
    "cnn": lambda data: network(data, cnn),
}


def outputs(trainer, replay: Replay, removed: np.ndarray) -> np.ndarray:
    """Return the outputs of the training without some examples, float[n]."""
    state, gone = replay.start(), torch.from_numpy(removed)
    for step in range(replay.steps):
        examples, shares = replay.minibatch(step)
        weights = state[0].detach().requires_grad_()
        kept = torch.where(torch.isin(examples, gone), 0, shares)
        (gradient,) = torch.autograd.grad((kept * replay.losses(weights, examples)).sum(), weights)
        with torch.no_grad():
            state = replay.update(step, state, gradient)
    return trainer.outputs_many([replay.model(state)])[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=1400)
    parser.add_argument("--targets", type=int, default=50)
    parser.add_argument("--sets", type=int, default=12)
    parser.add_argument("--networks", type=lambda text: text.split(","), default=list(NETWORKS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = digits.load(train=options.examples, test=options.targets)
    pool = np.arange(options.examples)
    removed = [
        np.random.default_rng(number).permutation(pool)[: max(1, round(fraction * len(pool)))]
        for fraction in FRACTIONS
        for number in range(options.sets)
    ]
    head = " | ".join(f"{fraction:.0%} removed" for fraction in FRACTIONS)
    print(f"| network | {head} | trainings per target |\n|---|{'---|' * len(FRACTIONS)}---|")
    for name in options.networks:
        trainer = NETWORKS[name](data)
        replay = trainer.replay(pool, 0)
        started = time.perf_counter()
        base = outputs(trainer, replay, pool[:0])
        training = time.perf_counter() - started
        flat = mock.patch.object(kinks, "_RELUS", set()) if "without" in name else contextlib.nullcontext()
        with flat:
            found = Metagradients(replay)
            model = replay.model(found.last)
            np.testing.assert_allclose(base, trainer.outputs_many([model])[0], atol=0.02 * base.std())
            started = time.perf_counter()
            slopes = trainer.gradients(model).of_outputs
            scores = found.of(slopes, np.ones(options.targets, dtype=bool), len(pool))
        backward = time.perf_counter() - started
        true = np.array([outputs(trainer, replay, some) - base for some in removed])
        predicted = np.array([-scores[:, some].sum(axis=1) for some in removed])
        cells = []
        for place in range(len(FRACTIONS)):
            rows = slice(place * options.sets, (place + 1) * options.sets)
            p, t = predicted[rows], true[rows]
            lds = np.mean([stats.spearmanr(p[:, j], t[:, j])[0] for j in range(options.targets)])
            r, slope = np.corrcoef(p.ravel(), t.ravel())[0, 1], (p * t).sum() / (p * p).sum()
            cells.append(f"LDS {lds:.3f}, r {r:.3f}, slope {slope:.2f}")
        print(f"| {name} | {' | '.join(cells)} | {backward / training / options.targets:.2f} |", flush=True)


if __name__ == "__main__":
    main()
