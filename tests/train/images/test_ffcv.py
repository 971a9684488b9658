"""Images by FFCV. These tests are skipped if FFCV is not installed; docs/guides/ffcv.md says how to install it."""

import importlib.util
import os
import socket
import threading

import numpy as np
import pytest

from datamodels.errors import ConfigError, ExitCode, InputError, SpecError, StageError
from datamodels.train import Dataset
from datamodels.train.images import ffcv as images_ffcv
from datamodels.train.images.trainer import ArraySource, ResNet9

needs_ffcv = pytest.mark.usefixtures("ffcv")

GENERATOR = np.random.default_rng(0)
DATA = Dataset(
    x=GENERATOR.integers(0, 256, (40, 16, 18, 3), dtype=np.uint8),
    y=np.arange(40) % 3,
    x_test=GENERATOR.integers(0, 256, (5, 16, 18, 3), dtype=np.uint8),
    y_test=np.arange(5) % 3,
)


@pytest.fixture(scope="module")
def ffcv():
    """The package. Only who runs these tests imports it, because that takes five seconds of CPU time."""
    try:
        import ffcv
    except ImportError as error:
        pytest.skip(f"FFCV is not installed ({error}); see docs/guides/ffcv.md")
    return ffcv


@pytest.fixture(scope="module")
def source(tmp_path_factory, ffcv):
    """A shared source, because its loaders take seconds to compile."""
    return images_ffcv.FfcvSource(str(tmp_path_factory.mktemp("beton") / "pool.beton"), DATA)


def copied(batches):
    return [(x.numpy().copy(), y.numpy().copy()) for x, y in batches]


@needs_ffcv
def test_minibatches_are_those_of_the_array(source):
    plain = ArraySource(DATA.x, DATA.y)
    for order in (
        GENERATOR.integers(0, 40, (20, 8)),  # longer than the pool, with repeats
        np.array([[3, 1, 4, 1, 5, 9, 2, 6]]),  # fewer than it reads ahead
        np.arange(16).reshape(2, 8),
    ):
        found, expected = copied(source(order)), copied(plain(order))
        assert len(found) == len(expected) == len(order)
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_array_equal(ours[0], theirs[0])
            np.testing.assert_array_equal(ours[1], theirs[1])


def test_what_killed_writers_left_is_removed(tmp_path):
    here, path = socket.gethostname(), tmp_path / "pool[1].beton"
    names = [f"{path.name}.{here}.7.partial", f"{path.name}.other.7.partial", f"{path.name}.other.8.partial", path.name]
    for name in (*names, f"x{names[0]}"):
        (tmp_path / name).write_bytes(b"half")
    os.utime(tmp_path / names[1], (0, 0))
    images_ffcv.sweep(str(path))
    assert sorted(found.name for found in tmp_path.iterdir()) == sorted([names[2], path.name, f"x{names[0]}"])


@needs_ffcv
def test_two_orders_may_be_read_in_turn(source):
    plain = ArraySource(DATA.x, DATA.y)
    orders = [GENERATOR.integers(0, 40, (12, 8)) for _ in range(2)]
    for pair in zip(*(zip(source(o), plain(o), strict=True) for o in orders), strict=True):
        for (ours, _), (theirs, _) in pair:
            np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


@needs_ffcv
def test_models_are_those_of_the_pool_in_memory(tmp_path):
    options = {"width": 2, "epochs": 2, "batch_size": 8, "device": "cpu"}
    path, targets = tmp_path / "new" / "pool.beton", DATA.targets("test")
    by_ffcv = ResNet9(DATA, targets, **options, ffcv_file=str(path))
    assert path.exists() and not list(path.parent.glob("*.partial"))
    resident = ResNet9(DATA, targets, **options)
    for subset in (np.arange(5, 30), np.arange(3)):  # the second is smaller than a minibatch
        found, expected = (t.outputs_many(t.train_many([subset], [7])) for t in (by_ffcv, resident))
        np.testing.assert_array_equal(found, expected)
    written = path.stat().st_mtime_ns
    ResNet9(DATA, targets, **options, ffcv_file=str(path))
    assert path.stat().st_mtime_ns == written


@needs_ffcv
def test_a_reading_thread_that_died_is_noticed(source, monkeypatch):
    """FFCV itself would wait for ever."""
    died = []
    monkeypatch.setattr(threading, "excepthook", lambda arguments: died.append(arguments.exc_type))
    loader, given = source._loader(8)
    given.order = np.array(["no number"] * 8)
    with pytest.raises(StageError, match="FFCV's reading thread died"):
        images_ffcv._next(iter(loader), "pool.beton")
    assert died


@needs_ffcv
@pytest.mark.parametrize("index", [-1, 40])
def test_an_index_beyond_the_pool_is_refused(source, index):
    with pytest.raises(InputError, match="must be 0 to 39"):
        next(source(np.array([[0] * 7 + [index]])))


class Faulty:
    def __init__(self, fault):
        self.fault = fault

    def __len__(self):
        return 8

    def __getitem__(self, index):
        return self.fault() if index == 5 else (DATA.x[index], 1)


def colourless():
    return DATA.x[0, ..., 0], 1


@needs_ffcv
@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (lambda: 1 / 0, "example 5 of the data set: ZeroDivisionError: division by zero"),
        (colourless, r"example 5 of the data set: TypeError: must be an image uint8\[h, w, 3\] and a class"),
    ],
)
def test_an_example_that_cannot_be_read_is_named(tmp_path, fault, message):
    """FFCV itself would wait for ever."""
    with pytest.raises(ConfigError, match=message):
        images_ffcv.write(str(tmp_path / "pool.beton"), Faulty(fault))
    assert not list(tmp_path.iterdir())


def test_images_of_more_than_a_page_are_written(tmp_path, ffcv):
    """An image of 2.3 MB has a page of 4 MB; two other images share one page."""
    sizes = [(900, 850), (600, 500), (600, 500), (900, 850)]
    large = [(GENERATOR.integers(0, 256, (*size, 3), dtype=np.uint8), 1) for size in sizes]
    path = str(tmp_path / "pool.beton")
    images_ffcv.write(path, large)
    found = ffcv.reader.Reader(path)
    bytes_of = np.memmap(path, dtype=np.uint8, mode="r")
    for (image, _), (_, start, size) in zip(large, np.sort(found.alloc_table, order="sample_id"), strict=True):
        np.testing.assert_array_equal(bytes_of[start : start + size], image.reshape(-1))


@needs_ffcv
def test_a_broken_file_is_refused_in_one_line(tmp_path):
    path = tmp_path / "pool.beton"
    images_ffcv.FfcvSource(str(path), DATA)
    whole = path.read_bytes()
    assert len(whole) < 6 * 2**20
    cases = {
        "nothing": b"",
        "text": b"these are no images " * 100,
        "cut off in the images": whole[: len(whole) // 2],
        "cut off at the end": whole[:-100],
        "another version": bytes([9, 0]) + whole[2:],
        "many more examples": whole[:16] + (2**40).to_bytes(8, "little") + whole[24:],
        "zeros": bytes(len(whole)),
    }
    for name, damaged in cases.items():
        path.write_bytes(damaged)
        with pytest.raises(ConfigError, match=r"pool\.beton: is .*; delete it, so that it is written again") as caught:
            images_ffcv.FfcvSource(str(path), DATA)
        assert "\n" not in str(caught.value) and caught.value.exit_code == ExitCode.CONFIG, name
    path.write_bytes(whole)
    images_ffcv.FfcvSource(str(path), DATA)


@needs_ffcv
def test_a_file_of_another_data_set_is_refused(tmp_path):
    path = str(tmp_path / "pool.beton")
    images_ffcv.FfcvSource(path, DATA)
    for other in (
        Dataset(DATA.x, DATA.y[::-1], DATA.x_test, DATA.y_test),
        Dataset(DATA.x[:, :, :16], DATA.y, DATA.x_test[:, :, :16], DATA.y_test),
        Dataset(DATA.x[:30], DATA.y[:30], DATA.x_test, DATA.y_test),
    ):
        with pytest.raises(ConfigError, match="is of another data set than the run's"):
            images_ffcv.FfcvSource(path, other)


@needs_ffcv
def test_a_place_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SpecError, match=r"ffcv_file = .*cannot be written"):
        images_ffcv.FfcvSource(str(tmp_path / "file" / "pool.beton"), DATA)


@pytest.mark.skipif(importlib.util.find_spec("ffcv") is not None, reason="FFCV is installed")
def test_without_ffcv_its_path_is_refused_with_the_way_to_get_it(tmp_path):
    with pytest.raises(
        SpecError, match=r"trainer\.options\.ffcv_file: needs FFCV, see docs/guides/ffcv\.md: No module"
    ):
        ResNet9(DATA, DATA.targets("test"), ffcv_file=str(tmp_path / "pool.beton"), device="cpu")
