"""Compare the built-in trainers with a plain PyTorch loop, in one run: models per second on the digits.

    python benchmarks/train/workloads.py [--quick] [--processes 2]

Each figure is the best of several rounds. All trainers take turns in each round, so that a noisy machine disturbs all
of them. The plain loop is what one writes first: a Sequential, a loop without DataLoader, torch.optim.SGD, one model at
a time. "to plain" is the ratio to the plain loop of the same network, which learns the same function by the same
recipe, as accuracies show. "processes" runs ours in several processes at once, as the local runner does, and counts all
models.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections.abc import Callable

import numpy as np
import threadpoolctl
import torch

from datamodels.train.contract import model_seed
from datamodels.train.workloads import digits
from datamodels.train.workloads.cnn import CNN
from datamodels.train.workloads.mlp import MLP, Classifier, Softmax
from datamodels.train.workloads.sgd import SgdRecipe

DATA = digits.load()
TARGETS = DATA.targets("test")


class Plain:
    """One model at a time. `build` makes a network, `shape` is that of its input."""

    def __init__(self, recipe: SgdRecipe, build: Callable[[], torch.nn.Module], shape: tuple[int, ...]):
        self.recipe, self.build, self.shape = recipe, build, shape
        self.x, self.y = torch.tensor(DATA.x).reshape(-1, *shape), torch.tensor(DATA.y)

    def train(self, subset: np.ndarray, seed: int) -> torch.nn.Module:
        torch.manual_seed(seed)
        recipe = self.recipe
        network = self.build()
        optimiser = torch.optim.SGD(
            network.parameters(),
            lr=recipe.learning_rate,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
            nesterov=True,
        )
        steps = recipe.epochs * -(-len(subset) // recipe.batch_size)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1 - step / steps)
        members = torch.tensor(subset, dtype=torch.int64)
        for _ in range(recipe.epochs):
            for chosen in members[torch.randperm(len(members))].split(recipe.batch_size):
                optimiser.zero_grad()
                torch.nn.functional.cross_entropy(network(self.x[chosen]), self.y[chosen]).backward()
                optimiser.step()
                schedule.step()
        return network

    def accuracy(self, network: torch.nn.Module) -> float:
        with torch.no_grad():
            found = network(torch.tensor(TARGETS.x).reshape(-1, *self.shape)).argmax(dim=1).numpy()
        return float((found == TARGETS.y).mean())


def halves(count: int) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [np.sort(generator.permutation(len(DATA.y))[: len(DATA.y) // 2]).astype(np.int32) for _ in range(count)]


def mlp() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))


def cnn() -> torch.nn.Module:
    convolution = (torch.nn.Conv2d(1, 16, 3), torch.nn.ReLU(), torch.nn.MaxPool2d(2), torch.nn.Flatten())
    return torch.nn.Sequential(*convolution, torch.nn.Linear(144, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))


def plain_round(plain: Plain, count: int) -> tuple[float, float]:
    """Models per second, and their mean accuracy on the test digits."""
    subsets = halves(count)
    started = time.perf_counter()
    networks = [plain.train(subset, seed) for seed, subset in enumerate(subsets)]
    seconds = time.perf_counter() - started
    return count / seconds, float(np.mean([plain.accuracy(network) for network in networks]))


def batched_round(trainer: Classifier, count: int) -> tuple[float, float]:
    """Likewise, outputs included."""
    subsets = halves(trainer.models_at_once)
    correct, started = [], time.perf_counter()
    for first in range(0, count, trainer.models_at_once):
        seeds = [model_seed(0, first + model) for model in range(trainer.models_at_once)]
        margins = trainer.outputs_many(trainer.train_many(subsets, seeds))
        correct.append((margins > 0).mean())
    return len(correct) * trainer.models_at_once / (time.perf_counter() - started), float(np.mean(correct))


def _work(count: int, ready, go, answers) -> None:
    limit_threads()
    trainer = MLP(DATA, TARGETS)
    batched_round(trainer, trainer.models_at_once)
    ready.release()
    go.wait()
    batched_round(trainer, count)
    answers.put(-(-count // trainer.models_at_once) * trainer.models_at_once)


def several(processes: int, count: int) -> float:
    """Models per second of several processes at once, from when all are ready until the last one ends."""
    context = multiprocessing.get_context("spawn")
    ready, go, answers = context.Semaphore(0), context.Event(), context.Queue()
    workers = [context.Process(target=_work, args=(count, ready, go, answers)) for _ in range(processes)]
    for worker in workers:
        worker.start()
    for _ in workers:
        ready.acquire()
    started = time.perf_counter()
    go.set()
    models = sum(answers.get() for _ in workers)
    seconds = time.perf_counter() - started
    for worker in workers:
        worker.join()
    return models / seconds


def limit_threads() -> None:
    torch.set_num_threads(1)
    threadpoolctl.threadpool_limits(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the work")
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args()
    limit_threads()
    rounds, naive_count, count = (2, 4, 64) if given.quick else (6, 24, 640)
    ours = {"MLP": MLP(DATA, TARGETS), "softmax": Softmax(DATA, TARGETS), "CNN": CNN(DATA, TARGETS)}
    plain = {"MLP": Plain(SgdRecipe(), mlp, (64,)), "CNN": Plain(SgdRecipe(), cnn, (1, 8, 8))}
    contestants = {
        "plain loop, MLP": lambda: plain_round(plain["MLP"], naive_count),
        "ours, MLP": lambda: batched_round(ours["MLP"], count),
        "ours, softmax": lambda: batched_round(ours["softmax"], count),
        "plain loop, CNN": lambda: plain_round(plain["CNN"], naive_count // 4),
        "ours, CNN": lambda: batched_round(ours["CNN"], count // 10),
    }
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
    for name, play in [*contestants.items()] * rounds:
        found[name].append(play())
    best = {name: max(results)[0] for name, results in found.items()}
    print(f"{'one thread':<24}{'models/s':>10}{'to plain':>10}{'accuracy':>10}")
    for name, results in found.items():
        against = best["plain loop, CNN" if "CNN" in name else "plain loop, MLP"]
        accuracy = np.mean([accuracy for _, accuracy in results])
        print(f"{name:<24}{best[name]:>10.1f}{best[name] / against:>10.1f}{accuracy:>10.4f}")
    speed = several(given.processes, count * 2)
    print(f"{f'ours, MLP, {given.processes} processes':<24}{speed:>10.1f}{speed / best['plain loop, MLP']:>10.1f}")


if __name__ == "__main__":
    main()
