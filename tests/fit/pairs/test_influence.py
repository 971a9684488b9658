"""Influence functions against fits with a little more of one example."""

import numpy as np
import pytest

from datamodels.fit.pairs import influence, inputs
from datamodels.fit.pairs.influence import Logistic, Ridge

LITTLE = 1e-4


@pytest.fixture
def data():
    """Inputs with a constant, of a pool and of targets; hot classes of the pool, and classes of the targets."""
    rng = np.random.default_rng(0)
    x, theirs = (inputs.with_constant(rng.normal(size=(size, 4)) / 2) for size in (30, 6))
    labels = rng.integers(3, size=30)
    return x, theirs, np.eye(3)[labels], rng.integers(3, size=6)


def minimised(x, hot, lambda_, extra):
    """Weights float64[q, k] at the minimum of the mean loss + `extra` times the last loss, by Newton's method."""
    share = np.append(np.full(len(x) - 1, 1 / (len(x) - 1)), extra)
    q, k = x.shape[1], hot.shape[1]
    weights = np.zeros((q, k))
    for _ in range(30):
        p = np.exp(x @ weights)
        p /= p.sum(axis=1, keepdims=True)
        gradient = (x.T @ ((p - hot) * share[:, None]) + lambda_ * weights).ravel()
        hessian = lambda_ * np.eye(q * k)
        for i in range(len(x)):
            hessian += share[i] * np.kron(np.outer(x[i], x[i]), np.diag(p[i]) - np.outer(p[i], p[i]))
        weights -= np.linalg.solve(hessian, gradient).reshape(q, k)
    return weights


def margins(x, labels, weights):
    scores = x @ weights
    found = []
    for row, label in zip(scores, labels, strict=True):
        found.append(row[label] - np.log(np.exp(np.delete(row, label)).sum()))
    return np.array(found)


def test_the_influence_on_margins_is_that_of_a_little_more_of_an_example(data, monkeypatch):
    monkeypatch.setattr(influence, "GRADIENT", 1e-9)
    x, theirs, hot, labels = data
    (model,) = Logistic.fits(x, hot, np.arange(30)[None], 0.05)
    given = [part.astype(np.float32) for part in (x, hot - model.probabilities(x), theirs)]
    found = model.influence(*given, labels) * len(x)
    for i in (0, 7, 29):
        longer, classes = np.vstack([x, x[i]]), np.vstack([hot, hot[i]])
        more, less = (minimised(longer, classes, 0.05, extra) for extra in (LITTLE, -LITTLE))
        slope = (margins(theirs, labels, more) - margins(theirs, labels, less)) / (2 * LITTLE)
        np.testing.assert_allclose(found[:, i], slope, rtol=1e-2, atol=1e-2 * np.abs(slope).max())


def test_models_that_are_fitted_together_are_those_of_each_subset(data):
    x, _, hot, _ = data
    subsets = np.random.default_rng(1).permuted(np.tile(np.arange(30), (3, 1)), axis=1)[:, :20]
    rough = Logistic.fits(x, hot, subsets, 0.2)
    for model, subset in zip(Logistic.fits(x, hot, subsets, 0.05, rough), subsets, strict=True):
        missing = model.probabilities(x[subset]) - hot[subset]
        gradient = x[subset].T @ missing / 20 + 0.05 * model.weights  # 0 at the only minimum
        assert model.rows == 20 and np.abs(gradient).max() <= influence.GRADIENT


def test_a_class_that_the_pool_lacks_has_finite_influences(data):
    x, theirs, hot, _ = data
    (model,) = Logistic.fits(x, hot, np.arange(30)[None], 0.05)
    given = [part.astype(np.float32) for part in (x, hot - model.probabilities(x), theirs)]
    assert np.isfinite(model.influence(*given, np.full(6, -1))).all()


def test_the_leverage_is_that_of_a_little_more_of_an_example(data):
    x, theirs, _, _ = data
    y = np.random.default_rng(1).normal(size=(30, 1))
    model = Ridge.fit(x, y, 0.05)
    for i in (0, 7, 29):

        def predicted(extra, i=i):
            hessian = x.T @ x / 30 + extra * np.outer(x[i], x[i]) + 0.05 * np.eye(5)
            return theirs @ np.linalg.solve(hessian, x.T @ y / 30 + extra * y[i] * x[i][:, None])

        slope = (predicted(LITTLE) - predicted(-LITTLE))[:, 0] / (2 * LITTLE)
        found = model.leverage(x, theirs)[:, i] * (y - x @ model.weights)[i] * 30
        np.testing.assert_allclose(found, slope, rtol=1e-4, atol=1e-6)
