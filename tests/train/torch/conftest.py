"""Small problems for networks."""

import numpy as np
import pytest
import torch
from torch import nn

from datamodels.run import runs, specs
from datamodels.train import Dataset
from datamodels.train.torch import TorchTrainer

SUBSETS = [np.arange(0, 30), np.arange(10, 40), np.arange(0, 40, 2)]
"""Two of one size, and one of another."""
SEEDS = [5, 2**62, 7]
REFERENCE = "tests.train.torch.conftest:dense"


def dense(hidden=5, norm=False, dropout=0.0):
    # A bias before a normalisation has a gradient of pure rounding, which Adam would scale up to steps.
    layers = [nn.Linear(3, hidden, bias=not norm)]
    if norm:
        layers.append(nn.BatchNorm1d(hidden))
    layers += [nn.Tanh(), nn.Dropout(dropout), nn.Linear(hidden, 3)]
    return nn.Sequential(*layers)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def data() -> Dataset:
    """Three classes of points, 40 in the pool and 9 test examples."""
    generator = np.random.default_rng(0)
    y = generator.integers(0, 3, 49)
    x = generator.standard_normal((49, 3)) + 2 * np.eye(3)[y]
    return Dataset(x=x[:40], y=y[:40], x_test=x[40:], y_test=y[40:])


@pytest.fixture
def make(data):
    def trainer(dataset=data, kind="test", **options) -> TorchTrainer:
        given = {"build": dense, "loss": "cross_entropy", "epochs": 3, "batch_size": 7, "learning_rate": 0.02}
        return TorchTrainer(dataset, dataset.targets(kind), **given | options)

    return trainer


def outputs(trainer, subsets, seeds):
    return trainer.outputs_many(trainer.train_many(subsets, seeds))


def make_run(data, **options):
    document = {
        "name": "networks",
        "dataset": {"load": "somewhere:load"},
        "trainer": {"class": "somewhere:Some", "options": {"build": REFERENCE, "loss": "cross_entropy"} | options},
        **{"m": 10, "chunk": 10, "sub_chunk": 5, "evaluate": {"subsets": 5, "models": 2}, "fit": {"holdout": 0.2}},
    }
    return runs.resolve(specs.parse(document), data)
