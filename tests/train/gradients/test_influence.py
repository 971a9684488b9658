"""Influence functions of one model, against whole matrices from PyTorch's own differentiation."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from datamodels.errors import InputError
from datamodels.train.gradients import influence
from datamodels.train.gradients.base import Gradients
from tests.baselines import networks
from tests.train.gradients import test_autograd as nets

MEMBERS = np.arange(0, networks.EXAMPLES, 2)


def formula(curvature, losses, outputs, members, damping):
    """-grad output' (H + damping)^-1 grad loss / k; curvature [e, p, p], losses [e, p], outputs [n, p]."""
    hessian = curvature[members].mean(axis=0) + damping * np.eye(losses.shape[1])
    return -outputs @ np.linalg.solve(hessian, losses.T) / len(members)


def assert_scores(found, expected):
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-3 * np.abs(expected).max())


@pytest.mark.parametrize("kind", ["mlp", "softmax"])
def test_of_networks_whose_gradients_are_by_hand(kind):
    trainer = networks.trainer(kind)
    model = trainer.train_many([MEMBERS], [0])[0]
    logits, weights = networks.function(kind), networks.weights(kind, trainer, model)

    def of(scalar, rows, labels):
        inputs = torch.tensor(np.c_[rows, np.ones(len(rows))], dtype=torch.float64)
        return np.stack(
            [
                networks.gradient(lambda w, x=x, y=y: scalar(logits(w, x), y), weights)
                for x, y in zip(inputs, labels, strict=True)
            ]
        )

    given, theirs = (trainer.x[:, : networks.FEATURES], trainer.y), trainer.x_targets[:, : networks.FEATURES]
    jacobians = np.stack(
        [of(lambda z, y, c=c: z[c], given[0], given[1]) for c in range(networks.CLASSES)], axis=1
    )  # [e, c, p]
    inputs = torch.tensor(np.c_[given[0], np.ones(len(given[0]))], dtype=torch.float64)
    p = torch.softmax(torch.stack([logits(weights, x) for x in inputs]), 1).numpy()
    curvature = np.stack([j.T @ (np.diag(row) - np.outer(row, row)) @ j for j, row in zip(jacobians, p, strict=True)])
    expected = formula(
        curvature,
        of(networks.cross_entropy, *given),
        of(networks.margin, theirs, networks.dataset().y_test),
        MEMBERS,
        0.05,
    )
    assert_scores(influence.scores(trainer.gradients(model), MEMBERS, 0), expected)


@pytest.mark.parametrize("kind", ["cnn", "transformer", "branches"])
def test_of_any_network(kind, monkeypatch):
    monkeypatch.setattr(influence, "LEAST_DAMPING", 0.1)  # float32 has few digits for nearly singular matrices
    build, data = nets.CASES[kind]
    trainer, _ = nets.trained(build, data())
    members = np.arange(0, nets.POOL, 3)
    model = trainer.train_many([members], [0])[0]
    parameters, z, y = nets.logits(trainer, model, trainer.pool)
    losses = np.stack([nets.gradient(functional.cross_entropy(a, b), parameters) for a, b in zip(z, y, strict=True)])
    jacobians = np.stack([[nets.gradient(value, parameters) for value in row] for row in z])
    p = torch.softmax(z, 1).detach().numpy()
    curvature = [j.T @ (np.diag(row) - np.outer(row, row)) @ j for j, row in zip(jacobians, p, strict=True)]
    _, z, y = nets.logits(trainer, model, trainer.targets)
    outputs = np.stack([nets.gradient(nets.margin(a, b), parameters) for a, b in zip(z, y, strict=True)])
    expected = formula(np.stack(curvature).astype(float), losses.astype(float), outputs, members, 0.1)
    found = influence.scores(trainer.gradients(model), members, 0)
    assert_scores(found, expected)
    assert min(influence.cost(trainer.gradients(model), members)) > 0


class Known(Gradients):
    """Gradients that are given: losses [e, p], outputs [n, p], curvature [e, r, p] or None."""

    def __init__(self, losses, outputs, curvature=None):
        self.losses, self.outputs, self.curvature = losses, outputs, curvature
        self.examples, self.parameters = losses.shape
        self.targets = len(outputs)

    def of_losses(self, rows):
        return self.losses[rows]

    def of_outputs(self, rows):
        return self.outputs[rows]

    def of_curvature(self, rows):
        return super().of_curvature(rows) if self.curvature is None else self.curvature[rows]

    def last(self):
        return Known(self.losses[:, -2:], self.outputs[:, -2:])


@pytest.fixture
def known():
    def make(factors=6, parameters=30):
        rng = np.random.default_rng(0)
        shapes = (20, parameters), (4, parameters), (20, factors, parameters)
        return Known(*(rng.normal(size=shape).astype(np.float32) for shape in shapes))

    return make


def test_projected_gradients_have_the_same_products_on_average(known, monkeypatch):
    monkeypatch.setattr(influence, "DIMENSIONS", 12)
    vectors, rng = known().losses, np.random.default_rng(1)
    products = []
    for _ in range(2000):
        project = influence._Sketch.draw(30, rng)
        found = project(vectors)
        assert found.shape == (20, 12)
        products.append(found @ found.T)
    products, exact = np.stack(products), vectors @ vectors.T
    error = products.std(axis=0) / np.sqrt(len(products))
    assert (np.abs(products.mean(axis=0) - exact) < 5 * error + 1e-4).all()


def test_the_curvature_of_mixed_factors_and_of_some_members_is_the_same_on_average(known, monkeypatch):
    monkeypatch.setattr(influence, "FACTORS", 2)
    monkeypatch.setattr(influence, "MOST_MEMBERS", 5)
    monkeypatch.setattr(influence, "slices", lambda count, bytes_each: (slice(i, i + 1) for i in range(count)))
    given, members, rng = known(), np.arange(0, 20, 2), np.random.default_rng(2)
    sketch = influence._Sketch.draw(30, rng)
    found = np.stack([influence._curvature(given, members, sketch, rng, lambda: None) for _ in range(2000)])
    exact = np.einsum("erp,erq->pq", given.curvature[members], given.curvature[members]) / len(members)
    assert (np.abs(found.mean(axis=0) - exact) < 5 * found.std(axis=0) / np.sqrt(len(found)) + 1e-4).all()


def test_without_a_curvature_the_gradients_of_losses_take_its_place(known):
    given, members = known(), np.arange(7)
    plain = Known(given.losses, given.outputs)
    outer = Known(given.losses, given.outputs, given.losses[:, None])
    assert_scores(influence.scores(plain, members, 0), influence.scores(outer, members, 0))


def test_very_long_gradients_are_those_of_the_last_layer(known, monkeypatch):
    given = known()
    monkeypatch.setattr(influence, "LARGE", 4 * 30 * 24 - 1)
    assert_scores(influence.scores(given, np.arange(9), 0), influence.scores(given.last(), np.arange(9), 0))
    monkeypatch.setattr(Known, "last", Gradients.last)
    with pytest.raises(InputError, match="does not give the last layer"):
        influence.scores(given, np.arange(9), 0)


def test_scores_of_a_diverged_model_are_no_numbers(known):
    given = known()
    given.curvature[3] = np.nan
    assert np.isnan(influence.scores(given, np.arange(9), 0)).all()
    assert np.isfinite(influence.scores(given, np.arange(4, 9), 0)).all()
