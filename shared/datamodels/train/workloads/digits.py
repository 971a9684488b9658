"""Load handwritten digits that scikit-learn ships: 1,797 images of 8 x 8 pixels (UCI, Alpaydin and Kaynak 1998)."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from datamodels.run.dataset import Dataset, split

GREY_LEVELS = 16.0
"""Largest pixel value in scikit-learn's files."""


def load(train: int = 1400, test: int | None = None, seed: int = 0) -> Dataset:
    """Return the digits, shuffled: some as the pool, others as test examples.

    train  examples in the pool
    test   test examples; None for all others
    seed   of the order in which examples are shuffled

    x is float32[examples, 64], 0 (paper) to 1 (ink); y is int64. Raises SpecError if there are fewer digits.
    """
    x, y = _read()
    return split(
        (x / GREY_LEVELS).astype(np.float32),
        y.astype(np.int64),
        train=train,
        test=test,
        seed=seed,
        label_names=tuple(str(digit) for digit in range(10)),
        image_shape=(8, 8),
    )


def _read() -> tuple[np.ndarray, np.ndarray]:
    """Read the images [1797, 64] and their digits [1797], as `sklearn.datasets.load_digits` returns them.

    Reads its file: importing scikit-learn takes more than a second in every process of a run.
    """
    package = find_spec("sklearn")
    file = Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz" if package and package.origin else None
    if file is None or not file.is_file():
        from sklearn.datasets import load_digits

        return load_digits(return_X_y=True)
    table = np.loadtxt(file, delimiter=",")
    return table[:, :-1], table[:, -1]
