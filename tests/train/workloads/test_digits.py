import numpy as np
from sklearn.datasets import load_digits

from datamodels.train.workloads import digits


def test_they_are_those_of_scikit_learn():
    data = digits.load()
    x = np.concatenate([data.x, data.x_test]) * digits.GREY_LEVELS
    y = np.concatenate([data.y, data.y_test])
    expected_x, expected_y = load_digits(return_X_y=True)
    assert x.shape == expected_x.shape and y.dtype == np.int64
    assert sorted(zip(map(tuple, x), y, strict=True)) == sorted(zip(map(tuple, expected_x), expected_y, strict=True))
