"""Compare `TorchTrainer` with a plain PyTorch loop on a small CNN, in one run: models per second of one thread.

    python benchmarks/train/modules.py [--quick]

All take turns in each round, so that a noisy machine disturbs all of them; each figure is the best round, in seconds of
the processor. The plain loop keeps the data in memory and has no DataLoader; it is tried with each implementation of
SGD in PyTorch, and the fastest is the one that ours is compared with. Networks, examples and steps are the same.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch

from datamodels.train.torch import TorchTrainer
from datamodels.train.torch.examples import cnn
from datamodels.train.workloads import digits

BATCH_SIZE, RATE, MOMENTUM, DECAY = 35, 0.1, 0.9, 0.01
AT_ONCE = (1, 4, 16, 64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one round of short trainings")
    quick = parser.parse_args().quick
    epochs, rounds, most = (1, 1, 4) if quick else (8, 3, 64)
    torch.set_num_threads(1)
    data = digits.load()
    generator = np.random.default_rng(0)
    subsets = [np.sort(generator.permutation(1400)[:700]) for _ in range(most)]
    rows: dict[str, tuple[int, Callable[[int], np.ndarray]]] = {}
    for kind in ("foreach", "fused"):
        rows[f"plain loop, SGD {kind}"] = (min(most, 4), plain(data, subsets, epochs, **{kind: True}))
    for at_once in (count for count in AT_ONCE if count <= most):
        rows[f"ours, {at_once} at once"] = (max(at_once, min(most, 4)), ours(data, subsets, epochs, at_once))
    best = dict.fromkeys(rows, np.inf)
    accuracy = {}
    for _ in range(rounds):
        for name, (models, train) in rows.items():
            started = time.process_time()
            outputs = train(models)
            best[name] = min(best[name], (time.process_time() - started) / models)
            accuracy[name] = float((outputs[:4] > 0).mean())
    reference = min(seconds for name, seconds in best.items() if name.startswith("plain"))
    print(f"{'trainer':<24}{'models/s':>10}{'to plain':>10}{'accuracy':>10}")
    for name, seconds in best.items():
        print(f"{name:<24}{1 / seconds:>10.2f}{reference / seconds:>10.2f}{accuracy[name]:>10.3f}")


def ours(data, subsets, epochs: int, at_once: int) -> Callable[[int], np.ndarray]:
    trainer = TorchTrainer(
        data,
        data.targets("test"),
        build=cnn,
        loss="cross_entropy",
        optimiser="sgd",
        epochs=epochs,
        batch_size=BATCH_SIZE,
        learning_rate=RATE,
        momentum=MOMENTUM,
        weight_decay=DECAY,
        models_at_once=at_once,
    )

    def train(models: int) -> np.ndarray:
        return trainer.outputs_many(trainer.train_many(subsets[:models], range(models)))

    return train


def plain(data, subsets, epochs: int, **kind: bool) -> Callable[[int], np.ndarray]:
    x, y = torch.from_numpy(data.x), torch.from_numpy(data.y)
    x_test, y_test = torch.from_numpy(data.x_test), torch.from_numpy(data.y_test)

    def one(subset: np.ndarray, seed: int) -> np.ndarray:
        torch.manual_seed(seed)
        network = cnn()
        network(x[:2])  # gives its lazy layer a size
        optimiser = torch.optim.SGD(
            network.parameters(), lr=RATE, momentum=MOMENTUM, weight_decay=DECAY, nesterov=True, **kind
        )
        members = torch.from_numpy(subset)
        steps, done = epochs * len(members) // BATCH_SIZE, 0
        for _ in range(epochs):
            for chosen in members[torch.randperm(len(members))].split(BATCH_SIZE):
                optimiser.param_groups[0]["lr"] = RATE * (1 - (done + 0.5) / steps)
                optimiser.zero_grad()
                torch.nn.functional.cross_entropy(network(x[chosen]), y[chosen]).backward()
                optimiser.step()
                done += 1
        with torch.no_grad():
            logits = network.eval()(x_test)
        right = logits.gather(1, y_test[:, None])[:, 0]
        return (right - logits.scatter(1, y_test[:, None], -torch.inf).amax(dim=1)).numpy()

    return lambda models: np.stack([one(subset, seed) for seed, subset in enumerate(subsets[:models])])


if __name__ == "__main__":
    main()
