"""In-memory fakes of the two services that the job calls, and a small run."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from datamodels.aggregate.progress import CommittedModels
from datamodels.run import designs, runs, specs
from datamodels.train import Dataset
from tests.helpers.waiting import LIMIT


class MemorySampler:
    """A sampler that draws subsets in this process."""

    def __init__(self):
        self.asked: list[range] = []

    def subsets(self, design: designs.Design, first: int, last: int) -> np.ndarray:
        self.asked.append(range(first, last))
        return designs.subsets(design, first, last)


class MemoryAggregator:
    """An aggregator in memory. The first commit of a sub-chunk wins. The next puts raise `faults`, in order."""

    def __init__(self, models: int):
        self.models = models
        self.parts: dict[range, tuple[np.ndarray, np.ndarray, dict[int, str]]] = {}
        self.retried: list[int] = []
        self.seconds: list[float] = []
        self.faults: list[Exception] = []
        self.gate = threading.Event()
        """Puts wait until it is set. It is set from the start."""
        self.gate.set()

    def put(self, run, models, model_index, outputs, failed, retried, seconds) -> bool:
        self.gate.wait(LIMIT)
        if self.faults:
            raise self.faults.pop(0)
        if models in self.parts:
            return False
        self.parts[models] = (model_index.copy(), outputs.copy(), dict(failed))
        self.retried += retried
        self.seconds.append(seconds)
        return True

    def progress(self, run: str) -> CommittedModels:
        ranges: list[range] = []
        for models in sorted(self.parts, key=lambda r: r.start):
            if ranges and ranges[-1].stop == models.start:
                ranges[-1] = range(ranges[-1].start, models.stop)
            else:
                ranges.append(models)
        failed = sum(len(failed) for _, _, failed in self.parts.values())
        return CommittedModels(run, self.models, sum(map(len, ranges)), failed, ranges, -1)

    def committed(self) -> list[int]:
        """Return the models in all parts, failed ones included, sorted; models committed twice are there twice."""
        return sorted(i for index, _, failed in self.parts.values() for i in [*index.tolist(), *failed])


class SumTrainer:
    """Its output j is the sum of the subset's examples plus target j. It records subsets and seeds."""

    def __init__(self, dataset: Dataset, targets, models_at_once: int = 4):
        self.x, self.targets, self.models_at_once = dataset.x[:, 0], targets.x[:, 0], models_at_once
        self.trained: list[tuple[tuple[int, ...], int]] = []

    def train_many(self, subsets, seeds):
        self.trained += [(tuple(subset.tolist()), seed) for subset, seed in zip(subsets, seeds, strict=True)]
        return [self.x[subset].sum() for subset in subsets]

    def outputs_many(self, models):
        return np.array(models)[:, None] + self.targets


@pytest.fixture
def dataset() -> Dataset:
    x = np.arange(12, dtype=np.float32)[:, None]
    return Dataset(x=x, y=np.zeros(12), x_test=x[:3] * 100, y_test=np.zeros(3), groups=np.arange(12) // 2)


@pytest.fixture
def make_run(dataset):
    """Make a run of 24 models: 10 for the fit and 7 x 2 to evaluate it, in chunks of 10 and sub-chunks of 5."""

    def make(**fields) -> runs.Run:
        document = {
            "name": "small",
            "dataset": {"load": "somewhere:load"},
            "trainer": {"class": "somewhere:Sum"},
            "m": 10,
            "chunk": 10,
            "sub_chunk": 5,
            "evaluate": {"subsets": 7, "models": 2},
            "fit": {"holdout": 0.2},
        }
        return runs.resolve(specs.parse(document | fields), dataset)

    return make


@pytest.fixture
def run(make_run) -> runs.Run:
    return make_run()


@pytest.fixture
def sampler() -> MemorySampler:
    return MemorySampler()


@pytest.fixture
def aggregator(run) -> MemoryAggregator:
    return MemoryAggregator(run.spec.models)


@pytest.fixture
def trainer(dataset) -> SumTrainer:
    return SumTrainer(dataset, dataset.targets("test"))
