"""Tests of TorchTrainer that need a GPU. Together they take less than a minute there."""

import gc
import threading

import numpy as np
import pytest
import torch
from torch import nn

from datamodels.train import Dataset
from datamodels.train.batches import Batches
from datamodels.train.observer import Observer
from datamodels.train.torch import TorchTrainer
from tests.train.torch.conftest import make_run, outputs

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU that PyTorch finds"),
]
GENERATOR = np.random.default_rng(0)
SUBSETS = [np.arange(0, 40), np.arange(20, 60), np.arange(0, 60, 2)]
"""Two of one size, and one of another."""
SEEDS = [5, 2**62, 7]


def network(norm=False, dropout=0.0, waits=False):
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        nn.Conv2d(1, 8, 3, bias=not norm),
        nn.BatchNorm2d(8) if norm else nn.Identity(),
        Waits() if waits else nn.Identity(),
        nn.GELU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(dropout) if dropout else nn.Identity(),
        nn.LazyLinear(3),
    )


class Waits(nn.Module):
    """Reads a number back to the host, so a step with it cannot be captured."""

    def forward(self, x):
        return x if float(x.detach().abs().max()) >= 0 else -x


@pytest.fixture(scope="module")
def data():
    y = GENERATOR.integers(0, 3, 80)
    x = GENERATOR.standard_normal((80, 64)) + GENERATOR.standard_normal((3, 64))[y]
    return Dataset(x=x[:60], y=y[:60], x_test=x[60:], y_test=y[60:])


@pytest.fixture(autouse=True)
def whole_float32():
    """Make cuDNN use all bits of float32, so that differences come from our code."""
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = True
    torch.cuda.empty_cache()


def made(data, **options):
    given = {"build": network, "loss": "cross_entropy", "epochs": 4, "batch_size": 10, "learning_rate": 0.01}
    return TorchTrainer(data, data.targets("test"), **given | {"device": "cuda"} | options)


def off(found, expected):
    """The largest difference, as a fraction of the deviation of outputs."""
    return np.abs(found - expected).max() / expected.std()


@pytest.mark.parametrize("capture", [True, False])
@pytest.mark.parametrize("options", [{}, {"optimiser": "sgd", "params": {"norm": True}}, {"clip": 0.1}])
@pytest.mark.parametrize("models_at_once", [1, 3])
def test_models_are_those_of_a_cpu(data, capture, options, models_at_once):
    expected = outputs(made(data, device="cpu", **options), SUBSETS, SEEDS)
    trainer = made(data, capture=capture, models_at_once=models_at_once, **options)
    first = outputs(trainer, SUBSETS, SEEDS)
    assert off(first, expected) < 0.01
    assert off(outputs(trainer, SUBSETS[1:2], SEEDS[1:2])[0], expected[1]) < 0.01
    assert off(outputs(trainer, SUBSETS, SEEDS), first) < 1e-3


def test_steps_are_captured_and_replayed(data):
    trainer = made(data)
    outputs(trainer, SUBSETS[:1], SEEDS[:1])
    descent = trainer._descents[None]
    replay = descent._replay
    assert replay is not None
    outputs(trainer, SUBSETS[1:2], SEEDS[1:2])
    assert descent._replay is replay  # the same size of subset
    outputs(trainer, SUBSETS[2:], SEEDS[2:])
    assert descent._replay is not None


@pytest.mark.parametrize("capture", [True, False])
def test_dropout_and_augmentation_draw_from_the_seed_of_each_model(data, capture):
    options = {"params": {"dropout": 0.5, "norm": True}, "augment": lambda x: x + 0.3 * torch.randn_like(x)}
    trainer = made(data, capture=capture, **options)
    first = outputs(trainer, SUBSETS[:2], [1, 2])
    torch.rand(5, device="cuda")  # what others draw does not matter
    again = np.stack([outputs(trainer, SUBSETS[at : at + 1], [at + 1])[0] for at in (1, 0)])[::-1]
    assert off(again, first) < 1e-3
    assert off(outputs(trainer, SUBSETS[:2], [3, 4]), first) > 0.05


def test_a_step_that_waits_for_the_device_is_not_captured(data):
    trainer = made(data, params={"waits": True})
    found = outputs(trainer, SUBSETS, SEEDS)
    assert trainer._descents[None]._replay is None
    assert off(found, outputs(made(data), SUBSETS, SEEDS)) < 1e-3
    assert torch.cuda.get_sync_debug_mode() == 0


def test_the_settings_of_pytorch_are_as_before(data):
    before = torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic, torch.backends.cudnn.enabled
    outputs(made(data), SUBSETS, SEEDS)
    assert before == (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic, torch.backends.cudnn.enabled)
    assert not torch.are_deterministic_algorithms_enabled()


def test_an_optimiser_of_pytorch(data):
    options = {"optimiser": "torch.optim:RMSprop", "optimiser_params": {"alpha": 0.9}}
    expected = outputs(made(data, device="cpu", **options), SUBSETS, SEEDS)
    assert off(outputs(made(data, **options), SUBSETS, SEEDS), expected) < 0.01


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("models_at_once", [1, 3])
def test_mixed_precision(data, precision, models_at_once):
    expected = outputs(made(data), SUBSETS, SEEDS)
    trainer = made(data, precision=precision, models_at_once=models_at_once)
    found = outputs(trainer, SUBSETS, SEEDS)
    assert found.dtype == np.float32 and 0 < off(found, expected) < 0.5
    assert off(outputs(trainer, SUBSETS, SEEDS), found) < 1e-3


def wide():
    return nn.Sequential(nn.Linear(64, 2048), nn.ReLU(), nn.Linear(2048, 2048), nn.ReLU(), nn.Linear(2048, 3))


def test_fewer_models_at_once_after_memory_has_run_out(data):
    """64 of these networks take 5 GB with their gradients and moments; they may take 2 GB.

    Work space of streams that earlier tests used stays allocated and does not count.
    """

    class Halved(Observer):
        tried = ()

        def halved(self, tried, most):
            self.tried += (tried,)

    total = torch.cuda.get_device_properties(0).total_memory
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 2 * 2**30) / total)
    try:
        observer, subsets = Halved(), [np.arange(at, at + 20) for at in range(40)]
        trainer = made(data, build=wide, epochs=1, models_at_once=64)
        found = Batches(make_run(data), trainer, threading.Event(), observer).train(range(40), subsets)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert observer.tried[0] == 40 and np.isfinite(found).all()
    alone = Batches(make_run(data), made(data, build=wide, epochs=1), threading.Event(), Observer())
    assert off(found[:2], alone.train(range(2), subsets[:2])) < 0.01
