"""Tests of image trainers that need a GPU. `make test-gpu` runs them if PyTorch finds one."""

import contextlib
import dataclasses
import threading

import numpy as np
import pytest
import torch

from datamodels.cli.runs.commands import TOLERANCE
from datamodels.run import runs, specs
from datamodels.train import Dataset, device
from datamodels.train.batches import Batches
from datamodels.train.check import Check
from datamodels.train.contract import model_seed
from datamodels.train.images import augment, load, networks, precision
from datamodels.train.images.graph_step import NetworkTrainer, Pool
from datamodels.train.images.optimisers import orthogonal
from datamodels.train.images.recipe import FAST, PAPER, steps
from datamodels.train.images.stream import CudaStream
from datamodels.train.images.trainer import ArraySource, ResNet9, ResNet18
from datamodels.train.observer import Observer
from tests.train import plain

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU that PyTorch finds"),
]
GPU = torch.device("cuda")
GENERATOR = np.random.default_rng(0)
RECIPES = pytest.mark.parametrize("recipe", ["paper", "fast"])
WITHIN = {"float32": 1e-3, "bf16": 0.05, "fp16": 0.05}
"""Largest differences of outputs that rounding may cause in a short training, as a fraction of their deviation."""


@pytest.fixture(autouse=True)
def whole_float32():
    """Make cuDNN use all bits of float32, so that differences come from our code."""
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = True
    torch.cuda.empty_cache()


def noise(examples, size):
    return GENERATOR.integers(0, 256, (examples, size, size, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def data():
    """Digits in colour. In fp16, grey ones overflow; `precision.FP16_LOSS_SCALE` says why."""
    grey = load.load_digits(train=400, test=60)
    x, x_test = ((x * GENERATOR.uniform(0.3, 1, (len(x), 1, 1, 3))).astype(np.uint8) for x in (grey.x, grey.x_test))
    return dataclasses.replace(grey, x=x, x_test=x_test)


def halves(count, of=400):
    return [np.sort(GENERATOR.permutation(of)[: of // 2]).astype(np.int32) for _ in range(count)]


def made(data, cls=ResNet9, **options):
    settings = {"device": "cuda", "width": 16, "epochs": 3, "batch_size": 50, "flip": "none"} | options
    return cls(data, data.targets("test"), **settings)


def run_on(data):
    document = {"name": "a", "dataset": {"load": "a:b"}, "trainer": {"class": "mine:Thing"}, "m": 100}
    return runs.resolve(specs.parse(document), data)


def outputs(trainer, subsets, seeds):
    return trainer.outputs_many(trainer.train_many(subsets, seeds))


def off(found, expected):
    return np.abs(found - expected).max() / expected.std()


def network_trainer(recipe=PAPER, name="float32", *, pool, size=(32, 32), capture=True, width=8):
    network = networks.resnet9(3, width, fast=recipe.optimiser == "muon")
    return NetworkTrainer(network, recipe, pool, size, precision.BY_NAME[name], GPU, CudaStream(GPU, capture=capture))


def resident(examples=60, size=32):
    y = torch.from_numpy(GENERATOR.integers(0, 3, examples))
    return Pool(torch.from_numpy(noise(examples, size)).to(GPU), y.to(GPU))


@RECIPES
@pytest.mark.parametrize("name", list(WITHIN))
def test_a_captured_step_trains_as_a_plain_one(data, recipe, name):
    subsets = halves(3)
    captured, uncaptured = (made(data, recipe=recipe, precision=name, capture=capture) for capture in (True, False))
    for seed, subset in enumerate(subsets):  # one after the other by the same NetworkTrainer
        found, expected = (outputs(trainer, [subset], [seed]) for trainer in (captured, uncaptured))
        assert np.isfinite(found).all() and off(found, expected) < WITHIN[name]


@pytest.mark.parametrize("name", list(WITHIN))
@pytest.mark.parametrize("classes", [2, 3, 5])
def test_any_number_of_classes_can_be_trained(name, classes):
    """The number of classes changes the position of all tensors that follow the head in the network's vector."""
    data = Dataset(noise(60, 32), np.arange(60) % classes, noise(20, 32), np.arange(20) % classes)
    trainer = made(data, precision=name, width=8)
    assert np.isfinite(outputs(trainer, [np.arange(50)], [1])).all()


@RECIPES
@pytest.mark.parametrize("together", [1, 2])
def test_it_keeps_the_contract_that_trainer_check_tries(data, recipe, together):
    """The same subset and seed give the same outputs, within the default tolerance of `datamodels trainer check`."""
    reported = {}
    trainer = made(data, recipe=recipe, models_at_once=together)
    Check(run_on(data), trainer, tolerance=TOLERANCE, say=reported.__setitem__).contract()
    assert reported["repeatable"]


@pytest.mark.parametrize("capture", [True, False])
def test_a_training_is_that_of_a_plain_loop_in_float64(capture):
    """Compared with a loop on the CPU that uses the GPU's draws; both compute convolutions in float64."""
    pool = resident(size=16)
    recipe = plain.short(PAPER)
    ours = network_trainer(recipe, "float64", pool=pool, size=(16, 16), capture=capture, width=2)
    subset = torch.arange(3, 40, 2)
    count = ours.begin(subset, 5)
    torch.cuda.synchronize()
    network = networks.resnet9(3, 2).double()
    network.load_state_dict(ours.network.state_dict(), strict=False)
    draws = augment.draw(
        recipe, len(subset), *steps(recipe, len(subset)), (16, 16), torch.Generator(GPU).manual_seed(5)
    )
    plain.train(network, recipe, Pool(pool.x.cpu(), pool.y.cpu()), subset, plain.on_host(draws), (16, 16))
    for _ in range(count):
        ours.step()
    ours.end()
    found = ours.network.state_dict()
    for name, expected in network.state_dict().items():
        if "batches" not in name:
            torch.testing.assert_close(found[name].cpu(), expected, rtol=1e-7, atol=1e-9)


@RECIPES
@pytest.mark.parametrize("together", [2, 4])
def test_models_beside_each_other_are_those_alone(data, recipe, together):
    subsets, seeds = halves(together), list(range(together))
    subsets[1] = subsets[1][:70]  # shorter than the other trainings
    beside, alone = made(data, recipe=recipe, models_at_once=together), made(data, recipe=recipe)
    for _ in range(2):
        found = outputs(beside, subsets, seeds)
        for row in range(together):
            assert off(found[row], outputs(alone, [subsets[row]], [seeds[row]])[0]) < WITHIN["bf16"]


@RECIPES
@pytest.mark.parametrize("capture", [True, False])
def test_no_step_waits_for_the_device(recipe, capture):
    ours = network_trainer({"paper": PAPER, "fast": FAST}[recipe], pool=resident(), capture=capture)
    count = ours.begin(torch.arange(50), 1)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(count):
            ours.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.isfinite(ours.end()).all()


def test_minibatches_from_memory_train_the_same_model(data):
    subsets = halves(2)
    fed, there = made(data, resident=False, models_at_once=2), made(data, models_at_once=2)
    for _ in range(2):
        assert off(outputs(fed, subsets, [1, 2]), outputs(there, subsets, [1, 2])) < WITHIN["bf16"]


def test_minibatches_of_ffcv_train_the_same_model(data, tmp_path):
    pytest.importorskip("ffcv", reason="FFCV is not installed; see docs/guides/ffcv.md")
    subsets = halves(2)
    by_ffcv, there = made(data, ffcv_file=str(tmp_path / "pool.beton"), models_at_once=2), made(data, models_at_once=2)
    assert off(outputs(by_ffcv, subsets, [1, 2]), outputs(there, subsets, [1, 2])) < WITHIN["bf16"]


def test_the_host_does_not_overtake_what_a_gpu_still_reads():
    """FFCV fills its buffers again while they may still be copied."""
    x, y = noise(60, 32), GENERATOR.integers(0, 3, 60)

    def reused(order):
        buffer = torch.empty((order.shape[1], 32, 32, 3), dtype=torch.uint8)
        for images_there, labels in ArraySource(x, y)(order):
            yield buffer.copy_(images_there), labels
            buffer.fill_(255)

    recipe = plain.short(PAPER, epochs=10, batch_size=50)
    models = []
    for pool in (reused, Pool(torch.from_numpy(x).to(GPU), torch.from_numpy(y).to(GPU))):
        ours = network_trainer(recipe, pool=pool)
        for _ in range(ours.begin(torch.arange(60), 1)):
            ours.step()
        models.append(ours.end())
    torch.testing.assert_close(*models, rtol=1e-3, atol=1e-3)


def test_outputs_on_a_gpu_are_those_on_a_cpu(data):
    for options in ({"recipe": "paper"}, {"recipe": "fast", "tta": True}):
        there = made(data, precision="float32", **options)
        here = made(data, precision="float32", **options | {"device": "cpu"})
        (model,) = there.train_many(halves(1), [0])
        np.testing.assert_allclose(there.logits(model), here.logits(model.cpu()), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("shape", [(128, 1152), (512, 128)])
def test_orthogonalised_updates_keep_their_directions(shape):
    matrix = torch.randn(shape, device=GPU, generator=torch.Generator(GPU).manual_seed(0))
    found = orthogonal(matrix[None])[0].double()
    values = torch.linalg.svdvals(found)
    assert values.min() > 0.5 and values.max() < 1.3
    left, _, right = torch.linalg.svd(matrix.double(), full_matrices=False)
    assert torch.nn.functional.cosine_similarity(found.flatten(), (left @ right).flatten(), dim=0) > 0.97


@RECIPES
def test_digits_are_learnt_in_half_precision(recipe):
    data = load.load_digits()
    trainer = made(data, recipe=recipe, epochs=8)
    assert (outputs(trainer, halves(1, 1400), [1]) > 0).mean() > 0.97


def test_resnet18_trains_as_plain_steps_do():
    data = Dataset(noise(60, 64), np.arange(60) % 5, noise(20, 64), np.arange(20) % 5)
    captured, uncaptured = (
        made(data, ResNet18, precision="float32", batch_size=20, epochs=2, capture=capture) for capture in (True, False)
    )
    for seed in (1, 2):
        found, expected = (outputs(trainer, [np.arange(45)], [seed]) for trainer in (captured, uncaptured))
        assert np.isfinite(found).all() and off(found, expected) < WITHIN["float32"]


def test_resnet18_trains_at_its_published_size():
    """224 x 224 pixels, 62 classes, 512 images in a minibatch."""
    data = Dataset(noise(600, 224), np.arange(600) % 62, noise(62, 224), np.arange(62))
    trainer = ResNet18(data, data.targets("test"), epochs=1, device="cuda")
    assert np.isfinite(outputs(trainer, [np.arange(512)], [0])).all()


class Halvings(Observer):
    def __init__(self):
        self.found = []

    def halved(self, tried, most):
        self.found.append((tried, most))


@contextlib.contextmanager
def room_for(total):
    """Limit the memory that PyTorch may use on the device to `total` bytes."""
    torch.cuda.set_per_process_memory_fraction(total / torch.cuda.get_device_properties(GPU).total_memory)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def memory(trainer, models):
    """Return the most bytes used while `models` models train, and the bytes kept afterwards."""
    device.free()
    torch.cuda.reset_peak_memory_stats()
    trainer.train_many([np.arange(200)] * models, list(range(models)))
    torch.cuda.synchronize()
    assert device.peak_bytes() > 0
    most = torch.cuda.max_memory_reserved()
    device.free()
    return most, torch.cuda.memory_reserved()


@pytest.mark.parametrize("capture", [True, False])
def test_out_of_memory_halves_the_models_at_once_and_goes_on(data, capture):
    """A captured step keeps all of its memory. Steps that are not captured share memory if it is scarce, so `width` is
    chosen such that the numbers of a network are large compared with the memory of a step."""
    options = {"width": 128, "batch_size": 50, "models_at_once": 8, "capture": capture}
    run, halvings = run_on(data), Halvings()
    memory(made(data, **options), 1)  # cuDNN tries its algorithms here, which takes memory
    probe = made(data, **options)
    (most, one), (_, two) = (memory(probe, models) for models in (1, 2))
    del probe
    device.free()
    subsets = halves(8)
    with room_for(most + 5 * (two - one)):  # six, and not eight
        trainer = made(data, **options)
        batches = Batches(run, trainer, threading.Event(), halvings)
        found = batches.train(range(8), subsets)
    assert halvings.found[0] == (8, 4) and batches.models_at_once < 8
    alone = made(data, **options | {"models_at_once": 1})
    for model in (0, 7):
        expected = outputs(alone, [subsets[model]], [model_seed(0, model)])[0]
        assert off(found[model], expected) < WITHIN["bf16"]
