import re

import numpy as np
import pytest

from datamodels.run import precision


@pytest.mark.parametrize(
    ("scale", "mean", "dtype", "coarse"),
    [
        (1, 0, "float16", False),
        (1, 0, "float32", False),
        (0.1, 1000, "float16", True),
        (0.1, 1000, "float32", False),
        (1, 30_000, "float16", True),
        (1, 30_000, "float32", False),
        (1e-8, 0, "float16", True),
        (1e-8, 0, "float32", False),
        (1e-50, 0, "float32", True),
        (0.01, 1e7, "float32", True),
    ],
)
def test_a_target_is_coarse_if_rounding_changes_its_outputs_by_much(scale, mean, dtype, coarse):
    outputs = np.random.default_rng(0).normal(size=(200, 3)) * scale + mean
    assert precision.coarse(outputs, dtype).tolist() == [coarse] * 3
    lost = np.std(precision.stored(outputs, dtype).astype(np.float64) - outputs) / outputs.std()
    assert (lost > precision.COARSE / 4) == coarse


def test_outputs_that_do_not_vary_or_are_not_finite_are_not_coarse():
    outputs = np.array([[7.0, np.nan, 1e300, 1.0], [7.0, np.inf, 1e300, 2.0]])
    assert not precision.coarse(outputs, "float32").any()
    assert not precision.coarse(outputs[:0], "float32").any()


@pytest.mark.parametrize(
    ("values", "dtype", "fault"),
    [
        ([1.0, -65504.0], "float16", ""),
        ([1.0, 3.4e38], "float32", ""),
        ([1.0, np.nan, np.inf], "float32", "2 of 3 outputs are not finite"),
        (
            [1.0, -7e4, 1e5],
            "float16",
            "2 of 3 outputs are beyond float16, .* the largest is 1e\\+05; rescale the outputs",
        ),
        ([1.0, 1e39], "float32", "1 of 2 outputs are beyond float32, which holds up to 3.403e\\+38"),
    ],
)
def test_outputs_that_cannot_be_stored_are_counted_with_advice(values, dtype, fault):
    found = precision.fault(np.array(values), dtype)
    assert re.match(fault, found) and bool(found) == bool(fault)
