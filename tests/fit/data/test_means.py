import dataclasses

import numpy as np
import pytest

from datamodels.fit.data import means, moments
from datamodels.fit.data.rows import Rows
from datamodels.fit.kernels import popcount


@pytest.mark.parametrize("own", [None, [3, -1, 11]])
def test_they_are_those_of_the_rows_that_count(made_problem, own):
    made, x = made_problem(d=12, m=5000, n=3, own=own, shift=2.0, pinned_in=(4,), pinned_out=(7,))
    rows = Rows(made)
    outputs, keep = rows.outputs(0, 3), rows.keep(0, 3)
    fit, heldout = (means.of(rows, span, outputs, keep) for span in (rows.fit, rows.heldout))
    found = fit + heldout
    for j in range(3):
        counts = ~x[:, own[j]] if own and own[j] >= 0 else np.ones(5000, dtype=bool)
        chosen, y = x[counts].astype(float), made.outputs[counts, j].astype(float)
        place = j if own else 0
        assert found.count[j] == counts.sum()
        assert found.mean[j] == pytest.approx(y.mean())
        assert found.variance[j] == pytest.approx(y.var())
        np.testing.assert_allclose(found.mean_masks[place] + made.center, chosen.mean(axis=0), atol=1e-6)
        np.testing.assert_allclose(found.members(made.center)[place], chosen.sum(axis=0))
        np.testing.assert_allclose(found.curvature(made.center)[place], chosen.var(axis=0), atol=1e-9)
        assert not found.curvature(made.center)[place, [4, 7]].any()
        expected = ((chosen - chosen.mean(axis=0)) * (y - y.mean())[:, None]).mean(axis=0)
        np.testing.assert_allclose(found.covariance[j], expected, atol=1e-7)


@pytest.mark.parametrize("own", [None, [3, -1]])
def test_heldout_error_is_that_of_the_rows_that_count(made_problem, own):
    made, x = made_problem(d=10, m=500, n=2, own=own)
    rows = Rows(made)
    theta, level = np.random.default_rng(0).normal(size=(2, 10)).astype("f4"), np.array([0.5, -2.0])
    keep = rows.keep(0, 2)
    keep = None if keep is None else keep[rows.heldout]
    found = means.heldout_error(rows, rows.outputs(0, 2, rows.heldout), keep, theta, level)
    for j in range(2):
        counts = made.heldout & (~x[:, own[j]] if own and own[j] >= 0 else True)
        miss = (x[counts] - made.center) @ theta[j] + level[j] - made.outputs[counts, j]
        assert found[j] == pytest.approx((miss**2).mean(), rel=1e-5)


def test_sums_say_how_well_weights_predict_held_out_rows(made_problem):
    made, _ = made_problem(d=10, m=900, n=4, shift=3.0, pinned_in=(4,))
    outputs = made.outputs.copy()
    outputs[:, 2] = 1.75
    rows = Rows(dataclasses.replace(made, outputs=outputs))
    theta = np.random.default_rng(0).normal(size=(4, 10)).astype("f4")
    theta[3], level = 0, np.array([0.5, -2.0, 1.0, 3.0])
    there = rows.outputs(0, 4) - 3
    counts = popcount.gram(rows.problem.masks[rows.order[rows.heldout]], 10, threads=1)
    masks = moments.of_heldout(counts, int(made.heldout.sum()), np.dtype(np.float32))
    found = means.heldout_of_sums(means.of(rows, rows.heldout, there, None), masks, theta, level)
    expected = means.heldout(rows, there[rows.heldout], None, theta, level)
    np.testing.assert_allclose(found.error, expected.error, rtol=1e-5)
    np.testing.assert_allclose(found.correlation, expected.correlation, atol=1e-5)
    assert np.abs(found.correlation[:2]).min() > 0.05 and not found.correlation[2:].any()
