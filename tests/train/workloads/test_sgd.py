"""Gradient descent compared with PyTorch's automatic differentiation, in float64."""

import warnings

import numpy as np
import pytest
import torch

from datamodels.errors import InputError, SpecError
from datamodels.train.workloads import sgd
from datamodels.train.workloads.mlp import NoHidden, OneHidden

FEATURES, HIDDEN, CLASSES = 6, 5, 3


@pytest.fixture(params=["one hidden layer", "none"])
def network(request):
    return OneHidden(FEATURES, HIDDEN, CLASSES) if request.param == "one hidden layer" else NoHidden(FEATURES, CLASSES)


@pytest.fixture
def data():
    generator = np.random.default_rng(5)
    return sgd.with_bias(generator.standard_normal((60, FEATURES))), generator.integers(0, CLASSES, 60)


def logits_by_torch(matrices, x):
    """Return logits [rows, classes] of one model; x has its bias column."""
    *hidden, last = matrices
    for first in hidden:
        h = torch.relu(x @ first)
        x = torch.cat([h, torch.ones(len(h), 1, dtype=h.dtype)], dim=1)
    return x @ last.T


def nesterov_by_torch(network, recipe, start, x, y):
    """Return weights after full-batch steps: v' = mu v - rate grad(w + mu v), w' = w + v' (Sutskever et al. 2013)."""
    w, v = torch.tensor(start), torch.zeros(len(start), dtype=torch.float64)
    x, y = torch.tensor(x), torch.tensor(y)
    for step in range(recipe.epochs):
        ahead = (w + recipe.momentum * v).requires_grad_()
        pieces = torch.split(ahead, [a * b for a, b in network.shapes])
        matrices = [piece.reshape(shape) for piece, shape in zip(pieces, network.shapes, strict=True)]
        loss = torch.nn.functional.cross_entropy(logits_by_torch(matrices, x), y)
        (loss + recipe.weight_decay / 2 * ahead.square().sum()).backward()
        v = recipe.momentum * v - recipe.learning_rate * (1 - step / recipe.epochs) * ahead.grad
        w = w + v
    return (w + recipe.momentum * v).numpy()


def start(network, x, y, subsets, seeds):
    """Return initial weights: a vanishing learning rate leaves them as they are."""
    return sgd.train(network, sgd.SgdRecipe(epochs=1, learning_rate=1e-30), x, y, subsets, seeds)


def test_gradients_are_those_of_autograd(network, data):
    x, _ = data
    generator = np.random.default_rng(0)
    models, rows = 3, 7
    flat = generator.standard_normal((models, sgd.parameters(network)))
    xb = x[generator.integers(0, len(x), (models, rows))]
    dz = generator.standard_normal((models, CLASSES, rows))
    found = np.empty_like(flat)
    logits = network.forward(sgd.matrices(network, flat), xb).copy()
    network.backward(sgd.matrices(network, flat), xb, dz, sgd.matrices(network, found))
    for model in range(models):
        weights = [torch.tensor(w[model], requires_grad=True) for w in sgd.matrices(network, flat)]
        expected = logits_by_torch(weights, torch.tensor(xb[model]))
        np.testing.assert_allclose(logits[model], expected.T.detach().numpy(), rtol=1e-12)
        (expected.T * torch.tensor(dz[model])).sum().backward()
        gradient = np.concatenate([w.grad.numpy().ravel() for w in weights])
        np.testing.assert_allclose(found[model], gradient, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("rows", [20, 32], ids=["minibatch is full", "minibatch is filled up"])
def test_training_is_nesterov_on_the_decayed_cross_entropy(network, data, rows):
    x, y = data
    subsets, seeds = [np.arange(20), np.arange(30, 50)], [1, 2]
    recipe = sgd.SgdRecipe(epochs=12, batch_size=rows, learning_rate=0.3, momentum=0.8, weight_decay=0.05)
    begin = start(network, x, y, subsets, seeds)
    found = sgd.train(network, recipe, x, y, subsets, seeds)
    for model, subset in enumerate(subsets):
        expected = nesterov_by_torch(network, recipe, begin[model], x[subset], y[subset])
        np.testing.assert_allclose(found[model], expected, rtol=1e-9, atol=1e-11)


def test_a_model_does_not_depend_on_its_neighbours(network, data):
    x, y = data
    subsets = [np.arange(length) for length in (21, 40, 33, 7, 24)]  # of 3, 5, 5, 1 and 3 steps
    seeds = [11, 12, 13, 14, 15]
    recipe = sgd.SgdRecipe(epochs=4, batch_size=8)
    together = sgd.train(network, recipe, x, y, subsets, seeds)
    for model in range(len(seeds)):
        alone = sgd.train(network, recipe, x, y, [subsets[model]], [seeds[model]])[0]
        np.testing.assert_allclose(together[model], alone, rtol=1e-10, atol=1e-12)


def test_the_seed_decides(network, data):
    x, y = data
    subsets, recipe = [np.arange(30)] * 3, sgd.SgdRecipe(epochs=3, batch_size=8)
    x = x.astype(np.float32)
    first = sgd.train(network, recipe, x, y, subsets, [1, 1, 2])
    again = sgd.train(network, recipe, x, y, subsets, [1, 1, 2])
    assert first.dtype == np.float32
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first[0], first[1])
    assert (first[0] != first[2]).mean() > 0.9
    begin = start(network, x, y, subsets, [1, 1, 2])
    assert (begin[0] != begin[2]).mean() > 0.9


def test_initial_weights_are_uniform_by_fan_in():
    network = OneHidden(100, 64, 10)
    x, y = np.ones((1, 101)), np.zeros(1, dtype=int)
    first, second = sgd.matrices(network, start(network, x, y, [np.zeros(1, dtype=int)] * 20, range(20)))
    for weights, fan_in in ((first, 100), (second, 64)):
        bound = fan_in**-0.5
        assert np.abs(weights).max() <= bound and np.abs(weights).max() > 0.99 * bound
        np.testing.assert_allclose(weights.std(), bound / 3**0.5, rtol=0.02)


def test_each_epoch_visits_every_example_once_in_a_new_order():
    subsets = [np.arange(100, 119), np.arange(300, 324)]
    minibatches = sgd.Minibatches(subsets, [np.random.PCG64(seed) for seed in (1, 2)], batch_size=8)
    epochs = [minibatches.epoch() for _ in range(3)]
    assert [epoch.shape for epoch in epochs] == [(3, 2, 8)] * 3
    for model, subset in enumerate(subsets):
        orders = [epoch[:, model].ravel()[: len(subset)].tolist() for epoch in epochs]
        assert all(sorted(order) == subset.tolist() for order in orders)
        assert orders[0] != orders[1] != orders[2]
    np.testing.assert_allclose(minibatches.last_share[0, 0], [1 / 3] * 3 + [0] * 5)
    np.testing.assert_allclose(minibatches.last_share[1, 0], [1 / 8] * 8)


def test_orders_are_uniform():
    """Each of 4 examples is first equally often: chi-squared test of 4,000 orders, 3 degrees of freedom, p = 1e-4."""
    streams = [np.random.PCG64(seed) for seed in range(4000)]
    first = sgd.Minibatches([np.arange(4)] * 4000, streams, batch_size=4).epoch()[0, :, 0]
    counts = np.bincount(first, minlength=4)
    assert ((counts - 1000) ** 2 / 1000).sum() < 21.1


def test_a_diverged_model_comes_back_not_finite_and_alone(network, data):
    x, y = data
    x = np.concatenate([x, np.full((1, FEATURES + 1), 1e30)]).astype(np.float32)
    y = np.append(y, 0)
    subsets = [np.arange(20), np.arange(41, 61)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = sgd.train(network, sgd.SgdRecipe(epochs=5, batch_size=8), x, y, subsets, [1, 2])
    assert np.isfinite(found[0]).all() and not np.isfinite(found[1]).all()


def test_an_empty_subset_is_refused(network, data):
    with pytest.raises(InputError, match="subset 1 of 2 is empty"):
        sgd.train(network, sgd.SgdRecipe(), *data, [np.arange(3), np.arange(0)], [1, 2])


def test_every_fault_of_a_recipe_is_told():
    with pytest.raises(SpecError) as caught:
        sgd.SgdRecipe(epochs=0, batch_size=0, learning_rate=-1.0, momentum=1.0, weight_decay=-1.0)
    assert [fault.split(" ")[0] for fault in caught.value.faults] == [
        f"trainer.options.{name}" for name in ("epochs", "batch_size", "learning_rate", "momentum", "weight_decay")
    ]
