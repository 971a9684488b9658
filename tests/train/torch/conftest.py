"""Small problems for networks."""

import numpy as np
import pytest
import torch
from torch import nn

from datamodels.train import Dataset
from datamodels.train.torch import TorchTrainer


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
