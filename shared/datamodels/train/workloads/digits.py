"""Load handwritten digits that scikit-learn ships: 1,797 images of 8 x 8 pixels (UCI, Alpaydin and Kaynak 1998)."""

from __future__ import annotations

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
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return split(
        (x / GREY_LEVELS).astype(np.float32),
        y.astype(np.int64),
        train=train,
        test=test,
        seed=seed,
        label_names=tuple(str(digit) for digit in range(10)),
        image_shape=(8, 8),
    )
