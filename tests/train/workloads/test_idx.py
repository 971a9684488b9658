"""Images in idx files, which are written here byte by byte."""

import gzip
import struct

import numpy as np
import pytest

from datamodels.errors import SpecError
from datamodels.train.workloads import idx

SHAPE = (4, 3)
LABELS = {"train": np.arange(12) % 3, "t10k": np.array([2, 0, 1, 3])}
IMAGES = {
    part: np.random.default_rng(len(y)).integers(0, 256, (len(y), *SHAPE), dtype=np.uint8) for part, y in LABELS.items()
}
TRAIN_IMAGES, TRAIN_LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
TEST_IMAGES = "t10k-images-idx3-ubyte"


def encoded(numbers):
    """Return the bytes of an idx file."""
    return (
        struct.pack(f">4B{numbers.ndim}I", 0, 0, 8, numbers.ndim, *numbers.shape) + numbers.astype(np.uint8).tobytes()
    )


@pytest.fixture
def folder(tmp_path):
    for part, y in LABELS.items():
        (tmp_path / f"{part}-images-idx3-ubyte").write_bytes(encoded(IMAGES[part]))
        (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(encoded(y))
    return tmp_path


def test_the_pool_and_the_test_examples_are_drawn_with_their_labels(folder):
    data = idx.load(str(folder), train=7, test=3, seed=1)
    assert data.x.shape == (7, 12) and data.x.dtype == np.float32 and data.y.dtype == np.int64
    assert data.image_shape == SHAPE and data.image_max == 1 and data.label_names == ("0", "1", "2", "3")
    for part, x, y in (("train", data.x, data.y), ("t10k", data.x_test, data.y_test)):
        rows = {image.tobytes(): number for number, image in enumerate(IMAGES[part].reshape(len(LABELS[part]), -1))}
        places = [rows[np.rint(row * 255).astype(np.uint8).tobytes()] for row in x]
        assert len({*places}) == len(y) and y.tolist() == LABELS[part][places].tolist()
    again, other = idx.load(str(folder), train=7, test=3, seed=1), idx.load(str(folder), train=7, test=3, seed=2)
    assert (again.x == data.x).all() and not (other.x == data.x).all()


def test_all_images_with_names_of_classes(folder):
    data = idx.load(str(folder), train=None, test=None, label_names=("boot", "bag", "coat", "shirt"))
    assert sorted(data.y) == sorted(LABELS["train"]) and len(data.y_test) == 4
    assert data.label_names == ("boot", "bag", "coat", "shirt")


def test_files_may_be_compressed_and_have_a_dot_in_their_names(folder):
    plain = idx.load(str(folder), train=None, test=None)
    (folder / f"{TRAIN_IMAGES}.gz").write_bytes(gzip.compress((folder / TRAIN_IMAGES).read_bytes()))
    (folder / TRAIN_IMAGES).unlink()
    (folder / TEST_IMAGES).write_bytes(gzip.compress((folder / TEST_IMAGES).read_bytes()))  # a browser drops the .gz
    (folder / TRAIN_LABELS).rename(folder / "train-labels.idx1-ubyte")
    found = idx.load(str(folder), train=None, test=None)
    np.testing.assert_array_equal(found.x, plain.x)
    np.testing.assert_array_equal(found.y, plain.y)


IMAGE_BYTES = encoded(IMAGES["train"])
ZIPPED = gzip.compress(IMAGE_BYTES, mtime=0)  # a time would be a part of the names of tests


@pytest.mark.parametrize(
    "name, content, fault",
    [
        (TRAIN_IMAGES, b"", "is empty: an idx file of this kind begins with 00 00 08 03"),
        (
            TRAIN_IMAGES,
            b"<html>",
            "begins with the bytes 3c 68 74 6d: an idx file of this kind begins with 00 00 08 03",
        ),
        (TRAIN_IMAGES, encoded(LABELS["train"]), "begins with the bytes 00 00 08 01: "),
        (
            TRAIN_LABELS,
            IMAGE_BYTES,
            "begins with the bytes 00 00 08 03: an idx file of this kind begins with 00 00 08 01",
        ),
        (TRAIN_IMAGES, IMAGE_BYTES[:14], "has 14 bytes: ends within its header, which has 16"),
        (TRAIN_IMAGES, IMAGE_BYTES[:-1], "has 143 bytes after its header, which states 12 x 4 x 3"),
        (TRAIN_IMAGES, IMAGE_BYTES + b"\0", "has 145 bytes after its header, which states 12 x 4 x 3"),
        (TRAIN_IMAGES, encoded(np.zeros((0, 4, 3))), "has no images"),
        (TRAIN_IMAGES, ZIPPED[:-9], "cannot be read: Compressed file ended"),
        (TRAIN_IMAGES, ZIPPED[:20] + bytes(40), "cannot be read: "),
    ],
)
def test_a_damaged_file_is_named(folder, name, content, fault):
    (folder / name).write_bytes(content)
    if content == encoded(np.zeros((0, 4, 3))):
        (folder / TRAIN_LABELS).write_bytes(encoded(np.zeros(0)))
    with pytest.raises(SpecError) as refused:
        idx.load(str(folder))
    assert f"{folder / name}: {fault}" in str(refused.value)


def test_files_that_do_not_fit_each_other_are_named(folder):
    (folder / TEST_IMAGES).write_bytes(encoded(IMAGES["t10k"].transpose(0, 2, 1)))
    with pytest.raises(SpecError, match=r"training images in .* have 4 x 3 pixels and test images 3 x 4"):
        idx.load(str(folder), train=7, test=3)
    (folder / TRAIN_LABELS).write_bytes(encoded(LABELS["train"][1:]))
    with pytest.raises(SpecError) as refused:
        idx.load(str(folder), train=7, test=3)
    expected = f"{folder / TRAIN_IMAGES} has 12 images and {folder / TRAIN_LABELS} 11 labels: must be equal"
    assert expected in str(refused.value)


def test_what_is_missing_is_named(folder):
    with pytest.raises(SpecError, match=r"dataset\.options\.train = 13: must be 1 to 12, the images in .*train-images"):
        idx.load(str(folder), train=13)
    with pytest.raises(SpecError, match=r"dataset\.options\.test = 0: must be 1 to 4, the images in .*t10k-images"):
        idx.load(str(folder), train=7, test=0)
    (folder / TRAIN_LABELS).unlink()
    with pytest.raises(SpecError, match=r"folder = '.*': has no file train-labels-idx1-ubyte or .*\.gz"):
        idx.load(str(folder))
    for missing in (folder / "nowhere", folder / TRAIN_IMAGES):
        with pytest.raises(SpecError, match=r"options\.folder = '.*': no such folder; .*`datamodels examples mnist`"):
            idx.load(str(missing))
