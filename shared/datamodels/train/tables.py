"""Small real tables that come with scikit-learn, for `Tabular`."""

from __future__ import annotations

import numpy as np

from datamodels.train.data import Dataset, split


def breast_cancer(train: int = 400, seed: int = 0) -> Dataset:
    """569 tumours, 30 measurements each; benign or malignant (Wolberg et al. 1995). x float64[.., 30], y int64."""
    from sklearn.datasets import load_breast_cancer

    table = load_breast_cancer()
    names = tuple(str(name) for name in table.target_names)
    return split(table.data, table.target.astype(np.int64), train=train, seed=seed, label_names=names)


def diabetes(train: int = 300, seed: int = 0) -> Dataset:
    """442 patients, 10 measurements each; the disease's progress a year later (Efron et al. 2004).

    x float64[.., 10]; y float64, standardised to mean 0 and variance 1, so that squared errors fit float16.
    """
    from sklearn.datasets import load_diabetes

    x, y = load_diabetes(return_X_y=True)
    return split(x, (y - y.mean()) / y.std(), train=train, seed=seed)
