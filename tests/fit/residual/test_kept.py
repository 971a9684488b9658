"""Weights that hardly matter are left out, and the others rounded: predictions stay what they are."""

import numpy as np

from datamodels.fit.residual import kept

D, TARGETS = 400, 6


def test_predictions_stay_what_they_are():
    rng = np.random.default_rng(0)
    weights = (rng.standard_t(3, size=(TARGETS, D)) * np.geomspace(0.001, 1000, TARGETS)[:, None]).astype(np.float32)
    share = rng.uniform(0.1, 0.9, size=D)
    share[7], weights[:, 7], weights[0] = 1, 0, 0  # a column that never varies, and a target without weights
    variance = (share * (1 - share))[None]
    classes = rng.integers(4, size=D)
    found = kept.largest(weights, variance, classes)
    assert found.dtype == np.float32 and not found[0].any() and not found[:, 7].any()

    stays = found != 0
    missing = ((np.where(stays, 0, weights) ** 2) * variance).sum(axis=1)
    total = ((weights.astype(np.float64) ** 2) * variance).sum(axis=1)
    assert (missing <= kept.DROPPED * total).all() and (missing[1:] > 0.9 * kept.DROPPED * total[1:]).all()
    terms = np.sqrt(variance) * np.abs(weights)
    assert all(terms[j][stays[j]].min() >= terms[j][~stays[j]].max() for j in range(1, TARGETS))
    assert 0.2 < stays[1:].mean() < 0.95
    for one in range(4):
        mine = classes == one
        moved = (found - weights)[1:, mine][stays[1:, mine]] / np.abs(weights[1:, mine][stays[1:, mine]])
        assert np.abs(moved).max() < 0.2
        size = np.abs(weights[1:, mine]).sum(axis=1)
        np.testing.assert_allclose(found[1:, mine].sum(axis=1) / size, weights[1:, mine].sum(axis=1) / size, atol=3e-4)

    masks = rng.random((4000, D)) < share
    for j in range(1, TARGETS):
        correlation = np.corrcoef(masks @ weights[j].astype(float), masks @ found[j].astype(float))[0, 1]
        assert correlation > 1 - 2 * kept.DROPPED
