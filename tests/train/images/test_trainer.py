import dataclasses
import gc
import threading
import weakref

import numpy as np
import pytest
import torch

from datamodels.errors import InputError, SpecError
from datamodels.run import runs, specs
from datamodels.train import Dataset, outputs
from datamodels.train.batches import Batches
from datamodels.train.contract import model_seed
from datamodels.train.images import load
from datamodels.train.images.trainer import TARGETS_AT_ONCE, ResNet9, ResNet18
from datamodels.train.observer import Observer

DIGITS = load.load_digits(size=16)
SMALL = {"width": 2, "epochs": 1, "batch_size": 20, "device": "cpu"}


def subsets(count, members=60):
    generator = np.random.default_rng(0)
    return [np.sort(generator.permutation(1400)[:members]).astype(np.int32) for _ in range(count)]


@pytest.fixture(scope="module")
def few():
    """300 digits of 32 x 32 pixels, with more targets than one forward pass takes."""
    data = load.load_digits(train=300, test=TARGETS_AT_ONCE["cpu"] + 5)
    return data, data.targets("test")


@pytest.mark.parametrize("recipe", ["paper", "fast"])
def test_digits_are_learnt_from_half_of_them(recipe):
    """At 16 pixels and width 8; benchmarks/train/workloads.py measures 32 pixels."""
    options = {"paper": {"epochs": 6, "learning_rate": 0.3}, "fast": {"epochs": 5}}[recipe]
    trainer = ResNet9(
        DIGITS,
        DIGITS.targets("test"),
        recipe=recipe,
        width=8,
        batch_size=50,
        flip="none",
        translate=1,
        cutout=0,
        **options,
    )
    margins = trainer.outputs_many(trainer.train_many(subsets(1, 700), [1]))
    assert margins.shape == (1, 397) and margins.dtype == np.float32
    assert (margins > 0).mean() > 0.97


@pytest.mark.parametrize("cls", [ResNet9, ResNet18])
@pytest.mark.parametrize("resident", [True, False])
def test_models_beside_each_other_are_those_alone(cls, resident, few):
    data, targets = few
    chosen, seeds = [np.arange(0, 50), np.arange(30, 45)], [4, 5]
    beside = cls(data, targets, **SMALL, models_at_once=2, resident=resident)
    assert beside.models_at_once == 2
    together = beside.outputs_many(beside.train_many(chosen, seeds))
    alone = cls(data, targets, **SMALL)
    for row in (1, 0):
        found = alone.outputs_many(alone.train_many([chosen[row]], [seeds[row]]))
        np.testing.assert_array_equal(found[0], together[row])


def test_outputs_are_of_the_logits(few):
    data, targets = few
    trainer = ResNet9(data, targets, **SMALL)
    model = trainer.train_many([np.arange(100)], [0])
    logits = trainer.logits(model[0])
    assert logits.shape == (len(targets), 10)
    np.testing.assert_array_equal(trainer.outputs_many(model)[0], outputs.correct_class_margin(logits, targets.y))
    loss = ResNet9(data, targets, **SMALL, output="loss").outputs_many(model)
    np.testing.assert_allclose(loss[0], outputs.loss(logits, targets.y))
    assert not np.allclose(ResNet9(data, targets, **SMALL, tta=True).logits(model[0]), logits)


def test_a_subset_of_one_class_is_trained_on(few):
    data, targets = few
    trainer = ResNet9(data, targets, **SMALL)
    ones = np.flatnonzero(data.y == 1)
    margins = trainer.outputs_many(trainer.train_many([ones], [0]))
    assert np.isfinite(margins).all()


def test_a_diverged_model_is_not_finite(few):
    data, targets = few
    wild = ResNet9(data, targets, **SMALL | {"epochs": 3}, learning_rate=1e30)
    assert not np.isfinite(wild.outputs_many(wild.train_many([np.arange(100)], [0]))).any()


def test_a_training_that_raised_leaves_nothing_behind(few):
    data, targets = few
    trainer = ResNet9(data, targets, **SMALL, models_at_once=2)
    with pytest.raises(IndexError):
        trainer.train_many([np.arange(50), np.array([10**6])], [1, 2])
    fresh = ResNet9(data, targets, **SMALL)
    found, expected = (t.outputs_many(t.train_many([np.arange(50)], [1])) for t in (trainer, fresh))
    np.testing.assert_array_equal(found, expected)


class Cramped(ResNet9):
    """Runs on a device with room for `room` networks, or for outputs while `beside` networks are there."""

    def __init__(self, *data, room, beside=8, **options):
        super().__init__(*data, **options)
        self.room, self.beside, self.alive = room, beside, weakref.WeakSet()

    def _new_trainer(self):
        if len(self.alive) == self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        trainer = super()._new_trainer()
        self.alive.add(trainer)
        return trainer

    def logits(self, model):
        if len(self.alive) > self.beside:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return super().logits(model)


class Halvings(Observer):
    def __init__(self):
        self.found = []

    def halved(self, tried, most):
        self.found.append((tried, most))


@pytest.mark.parametrize("limits", [{"room": 2}, {"room": 8, "beside": 2}], ids=["to train", "to make outputs"])
def test_out_of_memory_frees_what_was_taken_before_fewer_are_tried(limits, few):
    """Memory of dropped networks is free at once, without a search for cycles, so the next ones can use it."""
    data, targets = few
    document = {"name": "a", "dataset": {"load": "a:b"}, "trainer": {"class": "mine:Thing"}, "m": 100}
    run, halvings = runs.resolve(specs.parse(document), data), Halvings()
    trainer = Cramped(data, targets, **SMALL, models_at_once=8, **limits)
    chosen = [np.arange(model, model + 30) for model in range(8)]
    gc.disable()
    try:
        found = Batches(run, trainer, threading.Event(), halvings).train(range(8), chosen)
    finally:
        gc.enable()
    assert halvings.found == [(8, 4), (4, 2)] and len(trainer.alive) == 2
    alone = ResNet9(data, targets, **SMALL)
    for model in (0, 7):
        expected = alone.outputs_many(alone.train_many([chosen[model]], [model_seed(0, model)]))
        np.testing.assert_array_equal(found[model], expected[0])


def test_an_empty_subset_is_refused(few):
    trainer = ResNet9(*few, **SMALL, models_at_once=2)
    with pytest.raises(InputError, match="subset 1 of 2 is empty"):
        trainer.train_many([np.arange(5), np.arange(0)], [1, 2])


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"recipe": "slow"}, "recipe = 'slow': must be paper or fast"),
        ({"width": 0}, "width = 0: must be at least 1"),
        ({"models_at_once": 0}, "models_at_once = 0: must be at least 1"),
        ({"flip": "twice"}, "flip = 'twice': must be none, random or alternate"),
        ({"precision": "int4"}, "precision = 'int4': must be auto, float64, float32, bf16, fp16"),
        ({"device": "tpu"}, "device = 'tpu': must be auto, cpu or cuda"),
        ({"output": "squared_error"}, "output = 'squared_error': must be loss or margin"),
        ({"translate": 40}, "images of 32 x 32 pixels: this trainer needs 41 or more"),
    ],
)
def test_faulty_options_are_refused(options, fault, few):
    with pytest.raises(SpecError, match=fault):
        ResNet9(*few, **{"device": "cpu"} | options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused(few):
    with pytest.raises(SpecError, match="PyTorch finds no GPU here; use auto or cpu"):
        ResNet9(*few, device="cuda")


def test_data_that_is_no_images_or_too_small_is_refused(few):
    data, _ = few
    cases = [
        (data.x.astype(np.float32), data.x_test.astype(np.float32), r"x is float32\[300, 32, 32, 3\]: this trainer"),
        (data.x[..., 0], data.x_test[..., 0], r"x is uint8\[300, 32, 32\]"),
        (data.x[:, :12], data.x_test[:, :12], "images of 12 x 32 pixels: this trainer needs 16 or more"),
        (data.x, data.x_test.astype(int), "x_test is int64, must be uint8"),
    ]
    for x, x_test, fault in cases:
        wrong = Dataset(x, data.y, x_test, data.y_test)
        with pytest.raises(SpecError, match=fault):
            ResNet9(wrong, wrong.targets("test"), device="cpu")
    labels = dataclasses.replace(data, y=data.y + 5)
    with pytest.raises(SpecError, match="has a label 14: must be 0 to 9"):
        ResNet9(labels, labels.targets("test"), device="cpu")
