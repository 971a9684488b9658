"""The prior mean and the rest by ridge regression, against dense algebra."""

import dataclasses

import numpy as np
import pytest

from datamodels.fit.data.rows import Rows
from datamodels.fit.residual import pooled, ridge
from datamodels.fit.residual.sample import Sample
from datamodels.testing import reference

D, TARGETS = 25, 5


@pytest.fixture(params=[None, [3, -1, 0, 17, 3]], ids=["all rows", "leave out"])
def sample(request, made_problem):
    made, _ = made_problem(d=D, m=200, n=TARGETS, own=request.param, scale=2.0, shift=-3.0, pinned_in=(4,))
    spread = np.array([1, 3, 0.5, 1, 1], dtype=np.float32)
    return Sample.read(Rows(dataclasses.replace(made, outputs=made.outputs * spread), dtype=np.float64))


@pytest.fixture
def features():
    made = np.random.default_rng(5).normal(size=(3, TARGETS, D))
    made[:, :, 4] = 0
    return made


def centred(sample, j, whole):
    """Centred masks and outputs of the rows that count for a target."""
    x, y = reference.design_of(sample.rows.problem, j, heldout=whole)
    return x - x.mean(axis=0), y - y.mean()


@pytest.mark.parametrize("whole", [True, False])
def test_the_shared_numbers_are_those_of_least_squares(sample, features, whole, monkeypatch):
    monkeypatch.setattr(pooled, "RIDGE", 0.0)
    covariance = sample.covariance(whole=whole)
    mean = pooled.fit(features, covariance, sample.variance)
    # The covariances are means over rows, so every target has the same say, however many rows count for it.
    left, right = [], []
    for j in range(TARGETS):
        x, y = centred(sample, j, whole)
        scale = np.sqrt(len(x) * sample.variance[j])
        left.append(x @ features[:, j].T / scale)
        right.append(y / scale)
    exact = np.linalg.lstsq(np.vstack(left), np.concatenate(right), rcond=None)[0]
    np.testing.assert_allclose(mean.beta, exact, rtol=1e-6)

    prior = pooled.weights(features, mean, covariance)
    guess = np.tensordot(exact, features, 1)
    explained, aligned = np.zeros((2, TARGETS))
    for j in range(TARGETS):
        x, y = centred(sample, j, whole)
        explained[j], aligned[j] = ((x @ guess[j]) ** 2).mean(), (x @ guess[j] * y).mean()
    pull = pooled.SHRINK * explained.mean()
    np.testing.assert_allclose(prior, guess * ((aligned + pull) / (explained + pull))[:, None], rtol=1e-6)


def test_the_rest_is_the_most_likely_one(sample, features):
    prior, covariance = features[0] / 10, sample.covariance(whole=True)
    shares = np.array([0.05, 0.4, 0.9])
    found, _ = ridge.solve(prior, covariance, shares, 1e-14, 500)
    alone, gaps = ridge.solve(prior, covariance, shares[1:2], 1e-14, 500)
    np.testing.assert_allclose(alone[0], found[1], atol=1e-5)
    assert (gaps < 1e-12).all()
    for j in range(TARGETS):
        x, y = centred(sample, j, True)
        rest, varies = y - x @ prior[j], x.var(axis=0) > 0
        size = np.sqrt((prior[j] ** 2).sum() / varies.sum())
        square = (np.abs(prior[j]) / size + ridge.FLOOR) * varies
        square /= square.sum() / varies.sum()
        for h, delta in zip(shares, found[:, j], strict=True):
            variance = h * rest.var() * square / x.var(axis=0).sum()  # of each weight, before the outputs are seen
            noise = (1 - h) * rest.var()
            keep = variance > 0
            precision = np.diag(1 / variance[keep]) + x[:, keep].T @ x[:, keep] / noise
            exact = np.linalg.solve(precision, x[:, keep].T @ rest / noise)
            np.testing.assert_allclose(delta[keep], exact, atol=1e-5)
            assert not delta[~keep].any()


def test_errors_and_intercepts(sample, features):
    theta = features[0]
    found, intercept = sample.heldout(theta), sample.intercept(theta)
    for j in range(TARGETS):
        x, y = reference.design_of(sample.rows.problem, j)
        assert intercept[j] == pytest.approx((y - x @ theta[j]).mean(), abs=1e-5)
        x, y = reference.design_of(sample.rows.problem, j, heldout=False)
        level = (y - x @ theta[j]).mean()
        x, y = reference.design_of(sample.rows.problem, j, fit=False)
        assert found.error[j] == pytest.approx(((x @ theta[j] + level - y) ** 2).mean(), rel=1e-5)
        assert found.correlation[j] == pytest.approx(np.corrcoef(x @ theta[j], y)[0, 1], rel=1e-5)
    assert not sample.heldout(np.zeros_like(theta)).correlation.any()
