import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from datamodels.errors import SpecError
from datamodels.train import outputs

LOGITS = st.integers(2, 6).flatmap(
    lambda classes: st.tuples(
        st.lists(st.lists(st.floats(-50, 50), min_size=classes, max_size=classes).map(tuple), min_size=1, max_size=8),
        st.integers(0, 2**32 - 1),
    )
)


def case(drawn):
    logits = np.array(drawn[0])
    return logits, np.random.default_rng(drawn[1]).integers(0, logits.shape[1], len(logits))


@given(LOGITS)
def test_margin_is_the_right_logit_less_the_largest_other(drawn):
    logits, y = case(drawn)
    expected = [row[k] - max(np.delete(row, k)) for row, k in zip(logits, y, strict=True)]
    np.testing.assert_allclose(outputs.correct_class_margin(logits, y), expected)


@given(LOGITS)
def test_loss_is_pytorchs_cross_entropy(drawn):
    logits, y = case(drawn)
    expected = torch.nn.functional.cross_entropy(torch.tensor(logits), torch.tensor(y), reduction="none")
    np.testing.assert_allclose(outputs.loss(logits, y), expected.numpy(), rtol=1e-9, atol=1e-9)


def test_leading_axes_are_models():
    logits = np.array([[[3.0, 1.0], [0.0, 5.0]], [[1.0, 3.0], [2.0, 2.5]]])
    y = np.array([0, 1])
    np.testing.assert_array_equal(outputs.correct_class_margin(logits, y), [[2, 5], [-2, 0.5]])
    assert outputs.loss(logits, y).shape == (2, 2)


def test_loss_of_large_logits_does_not_overflow():
    assert outputs.loss(np.array([[1e4, 0.0]]), np.array([1])) == 1e4


def test_a_diverged_model_stays_visible():
    logits = np.array([[np.nan, 1.0, 2.0]])
    assert not np.isfinite(outputs.correct_class_margin(logits, np.array([1]))).any()
    assert not np.isfinite(outputs.loss(logits, np.array([1]))).any()


def test_squared_error():
    np.testing.assert_array_equal(outputs.squared_error(np.array([1.0, -2.0]), np.array([3.0, 0.0])), [4, 4])


def test_an_unknown_output_is_refused_with_those_allowed():
    with pytest.raises(SpecError, match=r"output = 'accuracy': must be loss or margin"):
        outputs.choose("accuracy", outputs.OF_LOGITS)
