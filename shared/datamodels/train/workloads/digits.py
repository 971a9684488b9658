"""Handwritten digits that come with scikit-learn: 1,797 real images of 8 x 8 pixels (UCI, Alpaydin and Kaynak 1998)."""

from __future__ import annotations

import numpy as np

from datamodels.run.dataset import Dataset, split

GREY_LEVELS = 16.0
"""Largest pixel value as shipped."""


def load(train: int = 1400, test: int | None = None, seed: int = 0) -> Dataset:
    """The digits, shuffled by `seed`: the first `train` are the pool, the next `test` (or all) the test examples.

    x float32[..., 64], 0 (paper) to 1 (ink); y int64. Raises SpecError where there are not as many.
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
