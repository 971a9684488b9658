"""Load images in the file format of MNIST, idx (LeCun, Cortes and Burges 1998). Fashion-MNIST and KMNIST use it, too.

A file is two zero bytes, a byte for the type of its numbers, the number of dimensions, the size of each dimension as a
big-endian int32, and the numbers. Nothing is downloaded.
"""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from datamodels.errors import SpecError
from datamodels.run.dataset import Dataset

BYTES = 8
"""The type of numbers that are bytes."""
LARGEST = 255
GZIP = b"\x1f\x8b"


def load(
    folder: str = "mnist",
    train: int | None = 10_000,
    test: int | None = 1_000,
    seed: int = 0,
    label_names: Sequence[str] = (),
) -> Dataset:
    """Return some of the images in a folder as the pool, and some of its test images.

    folder       folder with the files train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and
                 t10k-labels-idx1-ubyte. They may be compressed and end in .gz
    train        examples of the pool, drawn at random from the training images; None for all
    test         test examples, drawn at random from the test images; None for all
    seed         of the draw
    label_names  a text for each class, for people; by default its number

    x is float32[examples, height * width], 0 (paper) to 1 (ink); y is int64. Raises SpecError if a file is missing,
    damaged or of another kind, and if there are fewer images.
    """
    place = Path(folder)
    if not place.is_dir():
        raise SpecError(
            f"dataset.options.folder = {folder!r}: no such folder; it must have the files of MNIST: "
            "`datamodels examples mnist` says how to get them, and where a spec names the folder"
        )
    generator = np.random.default_rng(seed)
    pool, y = _part(place, "train", "train", train, generator)
    tests, y_test = _part(place, "t10k", "test", test, generator)
    if pool.shape[1:] != tests.shape[1:]:
        sizes = [" x ".join(map(str, images.shape[1:])) for images in (pool, tests)]
        raise SpecError(f"dataset: training images in {folder} have {sizes[0]} pixels and test images {sizes[1]}")
    return Dataset(
        _scaled(pool),
        y,
        _scaled(tests),
        y_test,
        label_names=tuple(label_names) or tuple(map(str, range(max(y.max(), y_test.max()) + 1))),
        image_shape=pool.shape[1:],
    )


def read(path: Path, dimensions: int) -> np.ndarray:
    """Return the bytes of an idx file, uint8 of that many dimensions. Raises SpecError, which names the file."""
    try:
        found = path.read_bytes()
        if found.startswith(GZIP):
            found = gzip.decompress(found)
    except (OSError, EOFError, zlib.error) as error:
        raise SpecError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    magic = bytes((0, 0, BYTES, dimensions))
    if found[:4] != magic:
        begins = f"begins with the bytes {found[:4].hex(' ')}" if found else "is empty"
        raise SpecError(f"{path}: {begins}: an idx file of this kind begins with {magic.hex(' ')}")
    start = 4 + 4 * dimensions
    if len(found) < start:
        raise SpecError(f"{path}: has {len(found)} bytes: ends within its header, which has {start}")
    shape = [int(size) for size in np.frombuffer(found, ">u4", dimensions, 4)]
    if len(found) - start != math.prod(shape):
        stated = " x ".join(map(str, shape))
        raise SpecError(f"{path}: has {len(found) - start} bytes after its header, which states {stated}")
    return np.frombuffer(found, np.uint8, offset=start).reshape(shape)


def _part(
    folder: Path, prefix: str, option: str, count: int | None, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return images uint8[count, h, w] and labels int64[count], in an order that the generator draws."""
    paths = [_find(folder, f"{prefix}-{kind}") for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")]
    images, labels = read(paths[0], 3), read(paths[1], 1)
    if len(images) != len(labels):
        raise SpecError(f"{paths[0]} has {len(images)} images and {paths[1]} {len(labels)} labels: must be equal")
    if not images.size:
        raise SpecError(f"{paths[0]}: has no images")
    if count is not None and not 1 <= count <= len(images):
        raise SpecError(f"dataset.options.{option} = {count}: must be 1 to {len(images)}, the images in {paths[0]}")
    chosen = generator.permutation(len(images))[:count]
    return images[chosen], labels[chosen].astype(np.int64)


def _find(folder: Path, name: str) -> Path:
    """Return the file of that name, which may end in .gz. Some copies have a dot before `idx`."""
    head, _, tail = name.partition("-idx")
    for written in (name, f"{head}.idx{tail}"):
        for path in (folder / written, folder / f"{written}.gz"):
            if path.is_file():
                return path
    raise SpecError(f"dataset.options.folder = {str(folder)!r}: has no file {name} or {name}.gz")


def _scaled(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1).astype(np.float32) / LARGEST
