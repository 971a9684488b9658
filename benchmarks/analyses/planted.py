"""Measure how well planted leaks and wrong labels are found in the digits: average precision (AP).

    python benchmarks/analyses/planted.py [--plantings 5] [--models 4000] [--processes 2]

Each planting shuffles the digits anew. In the pool of 1,400, 70 examples are replaced by copies of test examples:
exact, shifted by a pixel, with noise, or fainter. 70 others get one of the nine wrong labels. Models are trained on
halves of the pool, and a LASSO is fitted to every test and every training example. AP ranks the 70 among all pairs of a
test example and a training example, or among all training examples. Its mean over plantings has a 95% interval by
Student's t. The form of the scores was chosen on planting 0, which is not reported. Seconds are CPU seconds without the
models and the fit.
"""

from __future__ import annotations

import argparse
import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor

import numpy as np
from scipy.spatial.distance import cdist

from datamodels.analyze.patterns import leakage
from datamodels.analyze.quality import interval
from datamodels.analyze.what_if import mislabel
from datamodels.fit.data import problem
from datamodels.fit.data.problem import Solution
from datamodels.fit.solve import fit
from datamodels.run import designs, runs, specs
from datamodels.run.dataset import Dataset
from datamodels.run.runs import Run
from datamodels.train.batches import Batches
from datamodels.train.contract import load_trainer
from datamodels.train.device import limit_threads
from datamodels.train.observer import Observer
from datamodels.train.workloads import digits
from datamodels.train.workloads.mlp import MLP

SHARE = 0.05
NOISE = 0.1
"""Standard deviation of the noise that is added to a copy; full ink is 1."""
FOLDS, NETWORKS = 5, 10
"""cleanlab gets out-of-fold probabilities: the mean over NETWORKS networks like those of the run, for each of FOLDS."""
KINDS = ("exact", "a pixel off", "noisy", "fainter")
LEAKS = (
    "weights alone",
    "inputs",
    "inputs, of examples that help",
    "nearest neighbour, pixels",
    "nearest neighbour, windows",
)
LABELS = ("weights, own output", "weights, harm", "sum of negative weights", "cleanlab")


@dataclasses.dataclass(frozen=True)
class Planting:
    """
    copies  int[k]: the examples that are copies of the test examples `of`, in the way `kind`
    wrong   int[k]: the examples whose label is wrong
    """

    dataset: Dataset
    copies: np.ndarray
    of: np.ndarray
    kind: np.ndarray
    wrong: np.ndarray


def plant(seed: int) -> Planting:
    dataset, rng = digits.load(seed=seed), np.random.default_rng((seed, 99))
    x, y = dataset.x.copy(), dataset.y.copy()
    k = round(SHARE * len(y))
    places = rng.permutation(len(y))
    copies, wrong = places[:k], places[k : 2 * k]
    of, kind = rng.choice(len(dataset.y_test), k, replace=False), np.arange(k) % len(KINDS)
    for example, target, how in zip(copies, of, kind, strict=True):
        x[example], y[example] = _copy(dataset.x_test[target], KINDS[how], rng), dataset.y_test[target]
    y[wrong] = (y[wrong] + rng.integers(1, 10, k)) % 10
    return Planting(dataclasses.replace(dataset, x=x, y=y), copies, of, kind, wrong)


def _copy(x: np.ndarray, kind: str, rng: np.random.Generator) -> np.ndarray:
    if kind == "a pixel off":
        down, right = [(0, 1), (1, 0), (0, -1), (-1, 0)][rng.integers(4)]
        padded = np.pad(x.reshape(8, 8), 1)
        return padded[1 - down : 9 - down, 1 - right : 9 - right].ravel()
    if kind == "noisy":
        return np.clip(x + rng.normal(0, NOISE, x.shape), 0, 1).astype(x.dtype)
    return x * rng.uniform(0.6, 0.8) if kind == "fainter" else x


def train(planted: Planting, seed: int, models: int) -> tuple[Run, np.ndarray, np.ndarray]:
    """Return (run, packed masks, outputs float16[models, n])."""
    spec = specs.parse(
        {
            "name": "planted",
            "dataset": {"load": "datamodels.train.workloads.digits:load"},
            "trainer": {"class": "datamodels.train.workloads.mlp:MLP"},
            "targets": "both",
            "m": models,
            "seed": seed,
            "fit": {"estimator": "lasso"},
        }
    )
    run = runs.resolve(spec, planted.dataset)
    trainer = load_trainer(spec, planted.dataset, planted.dataset.targets(spec.targets))
    masks = designs.subsets(run.design, 0, models)
    subsets = [np.flatnonzero(row).astype(np.int32) for row in designs.unpack(masks, run.design.columns)]
    outputs = Batches(run, trainer, threading.Event(), Observer()).train(range(models), subsets)
    return run, masks, outputs.astype(np.float16)


def train_and_fit(planted: Planting, seed: int, models: int) -> tuple[Run, Solution]:
    run, masks, outputs = train(planted, seed, models)
    return run, fit(problem.of_run(run, masks, outputs, np.arange(models)), run.spec.fit, seed, threads=1)


def leaks(planted: Planting, run: Run, solution: Solution) -> dict[str, Callable[[], np.ndarray]]:
    """Return functions that score pairs, float[test, pool]; larger is more suspect."""
    data = planted.dataset
    shape = len(data.y_test), len(data.y)

    def ranked(found: leakage.Pairs, sign: int) -> np.ndarray:
        score = np.full(shape, -np.inf)
        score[found.target, found.example] = sign * found.score
        return score

    def inputs() -> np.ndarray:
        return ranked(leakage.by_inputs(run, data, solution, shape[0] * shape[1]), -1)

    def that_help() -> np.ndarray:
        return np.where(solution.dense(range(shape[0])) > 0, inputs(), -np.inf)

    def windows() -> np.ndarray:
        targets, pool, views = leakage.views(run, data, data.x_test)
        return -np.min([cdist(targets, view(pool)) for view in views], axis=0)

    return {
        "weights alone": lambda: ranked(leakage.by_weights(run, solution, shape[0] * shape[1]), 1),
        "inputs": inputs,
        "inputs, of examples that help": that_help,
        "nearest neighbour, pixels": lambda: -cdist(data.x_test, data.x),
        "nearest neighbour, windows": windows,
    }


def labels(planted: Planting, run: Run, solution: Solution, seed: int) -> dict[str, Callable[[], np.ndarray]]:
    """What ranks the examples: float[pool], larger is more suspect."""
    return {
        "weights, own output": lambda: mislabel.own(run, solution),
        "weights, harm": lambda: mislabel.harm(run, solution),
        "sum of negative weights": lambda: -np.asarray(solution.theta.minimum(0).sum(axis=0)).ravel(),
        "cleanlab": lambda: _cleanlab(planted.dataset, seed),
    }


def _cleanlab(data: Dataset, seed: int) -> np.ndarray:
    """Less its label quality scores, the better of its two usual methods on planting 0."""
    from cleanlab.rank import get_label_quality_scores

    network = MLP(data, data.targets("train"))
    fold = np.random.default_rng(seed).permutation(len(data.y)) % FOLDS
    probabilities = np.zeros((len(data.y), network.classes))
    for number in range(FOLDS):
        subset = np.flatnonzero(fold != number).astype(np.int32)
        models = network.train_many([subset] * NETWORKS, list(range(NETWORKS)))
        logits = network.logits(models)[:, fold == number].astype(np.float64)
        odds = np.exp(logits - logits.max(axis=-1, keepdims=True))
        probabilities[fold == number] = (odds / odds.sum(axis=-1, keepdims=True)).mean(axis=0)
    return -get_label_quality_scores(data.y, probabilities, method="self_confidence")


def average_precision(score: np.ndarray, true: np.ndarray) -> float:
    """Mean over the true ones of the share of true ones down to it; equal scores count in the worst order."""
    order = np.lexsort((true.ravel(), -score.ravel()))
    hits = true.ravel()[order]
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float(precision[hits].mean())


def measure(seed: int, models: int) -> dict[str, tuple[float, float]]:
    """Return (AP, CPU seconds) of each method on one planting, and AP of each kind of copy by inputs."""
    limit_threads(1)
    planted = plant(seed)
    run, solution = train_and_fit(planted, seed, models)
    pairs = np.zeros((len(planted.dataset.y_test), run.design.columns), dtype=bool)
    pairs[planted.of, planted.copies] = True
    wrong = np.zeros(run.design.columns, dtype=bool)
    wrong[planted.wrong] = True
    found = {}
    for true, contestants in (
        (pairs, leaks(planted, run, solution)),
        (wrong, labels(planted, run, solution, seed)),
    ):
        for name, score in contestants.items():
            started = time.process_time()
            values = score()
            seconds = time.process_time() - started
            found[name] = average_precision(values, true), seconds
            if name == "inputs":
                found |= {kind: (ap, seconds) for kind, ap in _by_kind(planted, values, pairs)}
    return found


def _by_kind(planted: Planting, values: np.ndarray, pairs: np.ndarray) -> Iterator[tuple[str, float]]:
    """Yield the AP of each kind of copies, among pairs that are no copies."""
    for number, kind in enumerate(KINDS):
        mine = np.zeros_like(pairs)
        mine[planted.of[planted.kind == number], planted.copies[planted.kind == number]] = True
        yield kind, average_precision(np.where(pairs & ~mine, -np.inf, values), mine)


def table(title: str, names: tuple[str, ...], found: list[dict[str, tuple[float, float]]]) -> None:
    print(f"\n{title:<32}{'AP':>7}  {'95% interval':<16}{'CPU s':>7}")
    for name in names:
        scores = np.array([one[name][0] for one in found])
        low, high = interval.mean(scores)
        seconds = np.mean([one[name][1] for one in found])
        print(f"{name:<32}{scores.mean():>7.3f}  {f'{low:.3f} to {min(high, 1):.3f}':<16}{seconds:>7.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plantings", type=int, default=5)
    parser.add_argument("--models", type=int, default=4000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="2 plantings, 1,000 models")
    options = parser.parse_args()
    plantings, models = (2, 1000) if options.quick else (options.plantings, options.models)
    with ProcessPoolExecutor(options.processes) as pool:
        found = list(pool.map(measure, range(1, plantings + 1), [models] * plantings))
    print(f"{plantings} plantings, {models:,} models each")
    table("leaked test examples", LEAKS, found)
    table("  by inputs, of copies that are", KINDS, found)
    table("wrong labels", LABELS, found)


if __name__ == "__main__":
    main()
