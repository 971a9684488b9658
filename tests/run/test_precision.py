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
    assert precision.spread(outputs, dtype).coarse.tolist() == [coarse] * 3
    lost = np.std(precision.stored(outputs, dtype).astype(np.float64) - outputs) / outputs.std()
    assert (lost > precision.COARSE / 4) == coarse


def test_outputs_that_do_not_vary_or_cannot_be_stored_are_not_coarse():
    outputs = np.array([[0.7, 3.0], [0.7, np.inf], [0.7, 1e300], [0.7, 3.5]])
    found = precision.spread(outputs, "float32")
    assert found.constant.tolist() == [True, False] and not found.coarse.any() and not found.lost
    assert found.models == 2
    nothing = precision.spread(outputs[:0], "float32")
    assert nothing.constant.all() and not nothing.coarse.any() and not nothing.lost


@pytest.mark.parametrize(("mean", "lost"), [(0, False), (1e6, False), (3e7, False), (2.0**28, True), (1e12, True)])
def test_outputs_are_lost_if_what_is_stored_does_not_follow_them(mean, lost, monkeypatch):
    """In pieces, as if there were many targets. Some outputs may be on both sides of where rounding changes."""
    monkeypatch.setattr(precision, "PIECE", 32)
    outputs = np.random.default_rng(0).normal(size=(200, 3)) + mean
    found = precision.spread(outputs, "float32")
    expected = [np.corrcoef(outputs[:, j], np.float32(outputs[:, j]))[0, 1] if not lost else 0.0 for j in range(3)]
    np.testing.assert_allclose(found.kept, expected, atol=1e-6)
    assert found.lost == lost
    assert "float32 rounds away what varies in the outputs of" in found.how_lost


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


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_finite_outputs_are_told_from_others_also_if_their_sum_is_not_finite(dtype):
    largest = np.finfo(dtype).max
    for good in ([], [0.0, -1.0], [largest] * 4, [largest, largest, -largest, -largest]):
        assert precision.finite(np.array(good, dtype=dtype))
        for bad in ([np.nan], [np.inf], [-np.inf], [np.inf, -np.inf]):
            assert not precision.finite(np.array([*good, *bad], dtype=dtype))
