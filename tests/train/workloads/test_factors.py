import numpy as np
import pytest
import torch

from datamodels.train.workloads import factors
from datamodels.train.workloads.factors import FactoredGradients
from tests.baselines import networks as made


@pytest.fixture(scope="module", params=["mlp", "softmax"])
def case(request):
    """(kind, trainer, a trained model, its gradients)."""
    trainer = made.trainer(request.param)
    model = trainer.train_many([np.arange(made.EXAMPLES)], [0])[0]
    return request.param, trainer, model, FactoredGradients(trainer, model)


def odds(logits, y):
    p = torch.softmax(logits, 0)[y]
    return torch.log(p / (1 - p))


@pytest.mark.parametrize(
    ("name", "scalar", "of_pool"),
    [
        ("losses", made.cross_entropy, True),
        ("odds", odds, True),
        ("outputs", made.margin, False),
        ("target_losses", made.cross_entropy, False),
    ],
)
def test_they_are_those_of_automatic_differentiation(case, name, scalar, of_pool):
    kind, trainer, model, found = case
    logits, weights = made.function(kind), made.weights(kind, trainer, model)
    x, y = (trainer.x, trainer.y) if of_pool else (trainer.x_targets, trainer.y_targets)
    expected = [
        made.gradient(lambda w, row=row, label=label: scalar(logits(w, row), label), weights)
        for row, label in zip(torch.tensor(x, dtype=torch.float64), y.tolist(), strict=True)
    ]
    np.testing.assert_allclose(factors.dense(getattr(found, name)), expected, rtol=1e-3, atol=1e-5)


def test_the_loss_of_targets_is_their_output_where_that_is_recorded():
    trainer = made.trainer(output="loss")
    found = FactoredGradients(trainer, trainer.train_many([np.arange(made.EXAMPLES)], [0])[0])
    np.testing.assert_array_equal(factors.dense(found.outputs), factors.dense(found.target_losses))


def test_those_of_each_class_make_up_that_of_the_loss(case):
    _, trainer, _, found = case
    slopes = found.probabilities - np.eye(made.CLASSES)[trainer.y]
    for layer, expected in zip(found.classes, found.losses, strict=True):
        np.testing.assert_allclose(np.einsum("ec,ceb->eb", slopes, layer.signals), expected.signals, atol=1e-5)
        np.testing.assert_array_equal(layer.inputs, expected.inputs)


def test_products_need_no_gradient_as_long_as_the_network(case):
    _, _, _, found = case
    a, b = factors.dense(found.outputs), factors.dense(found.losses)
    np.testing.assert_allclose(factors.dots(found.outputs, found.losses), a @ b.T, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(factors.products(a, found.losses), a @ b.T, rtol=1e-3, atol=1e-5)
    scales = np.random.default_rng(0).normal(size=(4, made.EXAMPLES)).astype(np.float32)
    np.testing.assert_allclose(factors.combined(scales, found.losses), scales @ b, rtol=1e-3, atol=1e-4)


def test_more_targets_than_are_done_at_once(case):
    _, _, _, found = case
    rng, b = np.random.default_rng(0), factors.dense(found.losses)
    many = rng.normal(size=(2 * factors.TARGETS_AT_ONCE + 3, b.shape[1])).astype(np.float32)
    np.testing.assert_allclose(factors.products(many, found.losses), many @ b.T, rtol=1e-3, atol=1e-4)
