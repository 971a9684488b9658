"""Load data sets of images: uint8[examples, h, w, 3], 0 (black) to 255, all of one size. Nothing is downloaded."""

from __future__ import annotations

import dataclasses
import zipfile
from pathlib import Path

import numpy as np

from datamodels.errors import SpecError
from datamodels.run.dataset import Dataset
from datamodels.train.workloads import digits

PARTS = ("x", "y", "x_test", "y_test")
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")


def load_digits(size: int = 32, train: int = 1400, test: int | None = None, seed: int = 0) -> Dataset:
    """Return the digits of `digits.load` as images of size x size pixels, white on black, interpolated bilinearly.

    size   side of an image, in pixels; 8 or more
    train  examples in the pool
    test   test examples; None for all others
    seed   of the order in which examples are shuffled

    Raises SpecError for a size below 8, and if there are fewer digits.
    """
    if size < 8:
        raise SpecError(f"dataset.options.size = {size}: must be at least 8, the size of the digits")
    small = digits.load(train=train, test=test, seed=seed)
    shape = (size, size, 3)
    return dataclasses.replace(
        small, x=_enlarged(small.x, size), x_test=_enlarged(small.x_test, size), image_shape=shape, image_max=255.0
    )


def load_npz(path: str, label_names: tuple[str, ...] = ()) -> Dataset:
    """Load an .npz file with x, y, x_test and y_test: images uint8[examples, h, w, 3] and labels 0, 1, ...

    path         the file
    label_names  a text for each class, for people

    `numpy.savez` makes such a file, for example from your copy of CIFAR-10. Raises SpecError if the file cannot be read
    or does not have these arrays.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            parts = {name: file[name] for name in PARTS if name in file}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise SpecError(f"dataset.options.path = {path!r}: cannot be read as .npz: {error}") from error
    return _dataset(path, parts, label_names)


def load_npy(path: str, label_names: tuple[str, ...] = ()) -> Dataset:
    """Load a folder with x.npy, y.npy, x_test.npy and y_test.npy; the arrays are those of `load_npz`.

    path         the folder
    label_names  a text for each class, for people

    The pool is memory-mapped. So it may be larger than memory, and processes of one machine share the page cache.
    Raises SpecError if a file cannot be read.
    """
    parts = {}
    for name in PARTS:
        file = Path(path) / f"{name}.npy"
        try:
            parts[name] = np.load(file, mmap_mode="r" if name == "x" else None, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise SpecError(f"dataset.options.path = {path!r}: {file.name} cannot be read: {error}") from error
    return _dataset(path, parts, label_names)


def load_folder(path: str, size: int) -> Dataset:
    """Load image files train/CLASS/... and test/CLASS/..., scaled to size x size pixels. Needs Pillow.

    path  the folder that has train and test
    size  side of the scaled images, in pixels

    Classes are numbered in the order of their names, and examples in the order of their paths. Raises SpecError if
    there are no classes, or if a file cannot be read.
    """
    root = Path(path)
    names = tuple(sorted(p.name for p in (root / "train").glob("*") if p.is_dir()))
    if not names:
        raise SpecError(f"dataset.options.path = {path!r}: has no folders train/CLASS with images")
    parts: dict[str, np.ndarray] = {}
    for part, suffix in (("train", ""), ("test", "_test")):
        files = [
            (file, label)
            for label, name in enumerate(names)
            for file in sorted((root / part / name).glob("*"))
            if file.suffix.lower() in PICTURES
        ]
        parts[f"x{suffix}"] = np.empty((len(files), size, size, 3), dtype=np.uint8)
        parts[f"y{suffix}"] = np.array([label for _, label in files], dtype=np.int64)
        for row, (file, _) in enumerate(files):
            parts[f"x{suffix}"][row] = _picture(file, size)
    return _dataset(path, parts, names)


def check_images(dataset: Dataset, smallest: int) -> tuple[int, int]:
    """Return height and width of a data set's images. Raises SpecError if its rows are not images, or too small."""
    x = dataset.x
    if x.dtype != np.uint8 or x.ndim != 4 or x.shape[3] != 3:
        raise SpecError(f"dataset: x is {x.dtype}{list(x.shape)}: this trainer needs uint8[examples, height, width, 3]")
    if min(x.shape[1:3]) < smallest:
        raise SpecError(f"dataset: images of {x.shape[1]} x {x.shape[2]} pixels: this trainer needs {smallest} or more")
    if len(dataset.x_test) and dataset.x_test.dtype != np.uint8:
        raise SpecError(f"dataset: x_test is {dataset.x_test.dtype}, must be uint8 as x is")
    return x.shape[1], x.shape[2]


def _dataset(path: str, parts: dict[str, np.ndarray], label_names: tuple[str, ...]) -> Dataset:
    missing = [name for name in PARTS if name not in parts]
    if missing:
        raise SpecError(f"dataset.options.path = {path!r}: has no {', '.join(missing)}")
    x, y, x_test, y_test = (parts[name] for name in PARTS)
    dataset = Dataset(x, y, x_test, y_test, label_names=tuple(label_names), image_max=255.0)
    check_images(dataset, 1)
    return dataclasses.replace(dataset, image_shape=dataset.x.shape[1:])


def _enlarged(x: np.ndarray, size: int) -> np.ndarray:
    """Return images uint8[n, size, size, 3] of digits float[n, 64], 8 x 8 pixels of 0 to 1; corners stay corners."""
    place = np.linspace(0, 7, size)
    low = np.minimum(place.astype(int), 6)
    weight = np.zeros((size, 8))
    weight[np.arange(size), low] = 1 - (place - low)
    weight[np.arange(size), low + 1] = place - low
    grey = np.rint(weight @ x.reshape(-1, 8, 8) @ weight.T * 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=3)


def _picture(file: Path, size: int) -> np.ndarray:
    try:
        from PIL import Image
    except ImportError as error:
        raise SpecError("dataset.load: image files need Pillow; install the extra `images`") from error
    try:
        with Image.open(file) as picture:
            return np.asarray(picture.convert("RGB").resize((size, size), Image.Resampling.BILINEAR))
    except OSError as error:
        raise SpecError(f"dataset: {file} cannot be read as an image: {error}") from error
