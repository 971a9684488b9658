import re
import threading

import numpy as np
import pytest
import torch

from datamodels.errors import ConfigError, ExitCode, StageError
from datamodels.train import batches
from datamodels.train.batches import Batches
from datamodels.train.contract import OneByOne, model_seed
from datamodels.train.observer import Observer

NEVER = threading.Event()


class Counts(Observer):
    def __init__(self):
        self.sizes, self.halvings = [], []

    def trained(self, models, seconds):
        self.sizes.append(models)

    def halved(self, tried, most):
        self.halvings.append((tried, most))


class Crowded:
    """Runs out of memory, with an error of PyTorch on a GPU, if more than `room` models train at once."""

    models_at_once = 8

    def __init__(self, room, error=torch.cuda.OutOfMemoryError):
        self.room, self.error = room, error

    def train_many(self, subsets, seeds):
        if len(subsets) > self.room:
            raise self.error("no room.\nTried to allocate 2 GiB")
        return seeds

    def outputs_many(self, models):
        return np.array([[seed % 1000] * 3 for seed in models], dtype=np.float64)


def train(run, trainer, models=range(20), attempt=0):
    counts = Counts()
    crew = Batches(run, trainer, NEVER, counts)
    return crew.train(models, [np.arange(3)] * len(models), attempt), counts, crew


@pytest.mark.parametrize("error", [torch.cuda.OutOfMemoryError, MemoryError])
def test_out_of_memory_halves_the_batch_and_goes_on(run, error):
    found, counts, crew = train(run, Crowded(3, error))
    np.testing.assert_array_equal(found[:, 0], [model_seed(0, model) % 1000 for model in range(20)])
    assert counts.halvings == [(6, 3)] and crew.models_at_once == 3
    assert sum(counts.sizes) == 20 and max(counts.sizes) == 3
    found, counts, crew = train(run, Crowded(1, error))
    assert counts.halvings == [(6, 3), (2, 1)] and counts.sizes == [1] * 20


def of_a_library(message):
    return RuntimeError(f"{message} when calling `cublasCreate(handle)`")


def of_a_recording(message):
    """If a graph runs out of memory while it is captured, another error may follow from it."""
    try:
        try:
            raise torch.OutOfMemoryError(message)
        finally:
            raise RuntimeError("operation failed due to a previous error during capture")
    except RuntimeError as error:
        return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (of_a_library, "CUDA error: CUBLAS_STATUS_ALLOC_FAILED"),
        (RuntimeError, "CUDA error: out of memory\nCompile with TORCH_USE_CUDA_DSA"),
        (of_a_recording, "CUDA out of memory"),
    ],
)
def test_out_of_memory_is_known_by_other_names(run, error, expected):
    _, counts, _ = train(run, Crowded(3, lambda _: error(expected)))
    assert counts.halvings == [(6, 3)]


def test_no_memory_for_one_model_may_pass(run):
    with pytest.raises(StageError, match="model 0: out of memory with one model at a time") as caught:
        train(run, Crowded(0))
    assert caught.value.exit_code == ExitCode.TRANSIENT and "\n" not in str(caught.value)


def test_what_a_class_raises_is_told_in_one_line_with_the_place(run):
    with pytest.raises(ConfigError) as caught:
        train(run, Crowded(0, RuntimeError), models=[4])
    assert re.fullmatch(
        rf"somewhere:Sum on model 4 \(seed {model_seed(0, 4)}\) raised RuntimeError: no room. Tried to allocate 2 GiB "
        r"\(.*test_batches.py:\d+ in train_many\)",
        str(caught.value),
    )


def test_a_class_that_exits_is_told_too(run):
    """A trainer may call exit() or parse arguments. With code 0 the job would end as if all were done."""
    with pytest.raises(ConfigError, match=r"on model 4 \(seed \d+\) raised SystemExit: no room"):
        train(run, Crowded(0, SystemExit), models=[4])


class Picky(Crowded):
    """Raises if it is given the model with a certain seed, alone or with others."""

    def __init__(self, seed):
        super().__init__(8)
        self.seed, self.sizes = seed, []

    def train_many(self, subsets, seeds):
        self.sizes.append(len(seeds))
        if self.seed in seeds:
            raise ValueError("not this one")
        return seeds


def test_only_the_model_on_which_a_class_raises_is_lost(run):
    trainer = Picky(model_seed(0, 5))
    found, _, crew = train(run, trainer, models=range(8))
    assert list(crew.raised) == [5] and "raised ValueError: not this one" in crew.raised[5]
    assert np.isnan(found[5]).all() and np.isfinite(np.delete(found, 5, axis=0)).all()
    np.testing.assert_array_equal(np.delete(found[:, 0], 5), [model_seed(0, i) % 1000 for i in range(8) if i != 5])
    assert trainer.sizes == [8, 4, 4, 2, 1, 1, 2]


def test_a_gpu_that_failed_fails_the_process_and_no_model(run):
    """After such an error every call fails, so a new process must train the models."""
    error = lambda _: RuntimeError("CUDA error: device-side assert triggered")  # noqa: E731
    with pytest.raises(StageError, match="the GPU failed: somewhere:Sum on a model of 0 to 5") as caught:
        train(run, Crowded(0, error))
    assert caught.value.exit_code == ExitCode.TRANSIENT


@pytest.mark.parametrize(("count", "most"), [(100, 64), (1, 5), (7, 3), (64, 64), (10, 1)])
def test_batches_are_even_and_no_larger_than_asked(count, most):
    sizes = []
    while sum(sizes) < count:
        sizes.append(batches.next_batch(count - sum(sizes), most))
    assert sum(sizes) == count and len(sizes) == -(-count // most)
    assert max(sizes) <= most and max(sizes) - min(sizes) <= 1


class Shuffling:
    """Shuffles its examples in place, as many do, and masks outputs that are above a number."""

    def train(self, subset, seed):
        np.random.default_rng(seed).shuffle(subset)
        return float(subset[0])

    def outputs(self, model):
        return np.ma.masked_greater([model, 1.0, 7.0], 5.0)


def test_what_a_class_does_to_its_subset_changes_no_other_model_and_masked_outputs_are_nan(run):
    subset = np.array([3, 1, 4, 0, 5], dtype=np.int32)
    found = Batches(run, OneByOne(Shuffling()), NEVER, Observer()).train(range(3), [subset] * 3)
    assert subset.tolist() == [3, 1, 4, 0, 5]
    assert np.isnan(found[:, 2]).all() and (found[:, 1] == 1.0).all()
