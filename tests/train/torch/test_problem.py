"""Losses and outputs by name."""

import numpy as np
import pytest
import torch

from datamodels.errors import SpecError
from datamodels.train import outputs
from datamodels.train.torch.problem import (
    Problem,
    binary_cross_entropy,
    cross_entropy,
    log_likelihood,
    margin,
    squared_error,
)

LOGITS = torch.tensor([[2.0, -1.0, 0.5], [0.1, 0.2, 0.3], [-1.0, 4.0, 3.0]])
Y = torch.tensor([0, 1, 2])


def test_margin_and_loss_are_those_of_other_trainers():
    np.testing.assert_allclose(margin(LOGITS, Y), outputs.correct_class_margin(LOGITS.numpy(), Y.numpy()), rtol=1e-6)
    np.testing.assert_allclose(cross_entropy(LOGITS, Y), outputs.loss(LOGITS.numpy(), Y.numpy()), rtol=1e-6)


@pytest.mark.parametrize("shape", [(3,), (3, 1)])
def test_a_single_logit_is_that_of_class_1_against_class_0(shape):
    logit, y = torch.tensor([1.5, -0.5, 2.0]), torch.tensor([1, 1, 0])
    two = torch.stack([torch.zeros(3), logit], dim=1)
    torch.testing.assert_close(margin(logit.reshape(shape), y), margin(two, y))
    torch.testing.assert_close(binary_cross_entropy(logit.reshape(shape), y), cross_entropy(two, y))


def test_the_loss_of_a_text_is_the_mean_over_positions_with_a_label():
    logits, y = torch.stack([LOGITS, LOGITS + 1, -LOGITS]), torch.stack([Y, torch.tensor([2, -100, -100]), Y * 0 - 100])
    found = cross_entropy(logits, y)
    single = cross_entropy(LOGITS, Y)
    torch.testing.assert_close(
        found, torch.stack([single.mean(), cross_entropy(LOGITS, Y * 0 + 2)[0], torch.tensor(0.0)])
    )


def test_the_log_likelihood_of_a_span_is_the_mean_over_its_tokens():
    y = torch.tensor([[-100, 1, -100], [0, -100, 2]])
    logits = torch.stack([LOGITS, LOGITS + 3])
    p = torch.softmax(LOGITS, dim=1)
    expected = torch.stack([p[1, 1].log(), (p[0, 0].log() + p[2, 2].log()) / 2])
    torch.testing.assert_close(log_likelihood(Returned(logits), y), expected)


def test_several_numbers_per_example_are_averaged():
    predicted, y = torch.arange(6.0).reshape(3, 2), torch.tensor([[0.0, 0.0], [2.0, 2.0], [0.0, 5.0]])
    torch.testing.assert_close(squared_error(predicted, y), torch.tensor([0.5, 0.5, 8.0]))
    torch.testing.assert_close(squared_error(torch.ones(3, 1), torch.tensor([1, 2, 4])), torch.tensor([0.0, 1.0, 9.0]))


def test_half_precision_keeps_the_digits_of_a_difference():
    predicted, y = torch.tensor([300.0], dtype=torch.bfloat16), torch.tensor([300.7])
    torch.testing.assert_close(squared_error(predicted, y), torch.tensor([0.7**2]), rtol=1e-3, atol=0)


class Returned:
    def __init__(self, logits):
        self.logits = logits


@pytest.mark.parametrize("returned", [Returned(LOGITS), (LOGITS, None), LOGITS])
def test_logits_are_found_in_what_networks_return(returned):
    torch.testing.assert_close(margin(returned, Y), margin(LOGITS, Y))


def test_losses_of_examples_follow_from_a_loss_that_is_a_mean():
    problem = Problem(torch.nn.functional.cross_entropy, None)
    network = torch.nn.Identity()
    torch.testing.assert_close(problem.losses(network, LOGITS, Y), cross_entropy(LOGITS, Y))
    torch.testing.assert_close(problem.losses(network, LOGITS[:1], Y[:1]), cross_entropy(LOGITS, Y)[:1])
    torch.testing.assert_close(problem.loss(network, LOGITS, Y), cross_entropy(LOGITS, Y).mean())


@pytest.mark.parametrize(
    ("function", "returned", "y", "fault"),
    [
        (cross_entropy, LOGITS[:, 0], Y, r"logits are \[3\] for y \[3\].*use binary_cross_entropy"),
        (cross_entropy, LOGITS, Y.float(), "y is not a class; for numbers use squared_error"),
        (
            cross_entropy,
            torch.zeros(2, 4, 3, 3),
            torch.zeros((2, 3, 3), dtype=torch.int64),
            r"for y \[2, 3, 3\]: must be \[rows, 3, 3, classes\]; put the classes last: logits.movedim\(1, -1\)",
        ),
        (cross_entropy, LOGITS, LOGITS.long(), "several labels of 0 and 1 per example use binary_cross_entropy"),
        (squared_error, LOGITS, Y, r"gives \[3, 3\] for y \[3\]: must have as many numbers"),
        (margin, LOGITS, torch.zeros((3, 2), dtype=torch.int64), "choose the output loss"),
        (margin, {"a": LOGITS}, Y, "returns a dict without logits"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(function, returned, y, fault):
    with pytest.raises(SpecError, match=fault):
        function(returned, y)
