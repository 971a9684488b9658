"""What is specific to `gram`; `test_solve` compares it with the reference beside `saga` and `stream`."""

import dataclasses

import numpy as np
import pytest

from datamodels.fit.data.rows import Rows
from datamodels.fit.kernels import panels
from datamodels.fit.lasso import fista, gap, gram
from datamodels.fit.solve import fit
from datamodels.run import designs
from datamodels.run.specs import FitSpec
from datamodels.testing import reference


def test_it_chooses_and_fits_as_saga_does(made_problem):
    made, _ = made_problem(d=60, m=500, n=20, noise=np.geomspace(0.2, 5, 20), scale=3.0, shift=-11.0)
    settings = FitSpec(estimator="lasso", lambdas=12, tolerance=1e-5, batch=50, max_epochs=2000)
    theirs, ours = (fit(made, settings.model_copy(update={"solver": s}), 0) for s in ("saga", "gram"))
    assert ours.status == theirs.status == ["ok"] * 20
    np.testing.assert_allclose(ours.lambda_, theirs.lambda_, rtol=1e-5)
    np.testing.assert_allclose(ours.heldout_r2, theirs.heldout_r2, atol=1e-3)
    np.testing.assert_allclose(ours.dense(range(20)), theirs.dense(range(20)), atol=0.01)
    np.testing.assert_allclose(ours.intercept, theirs.intercept, atol=0.1)


@pytest.mark.parametrize("m", [25, 60, 2000])
def test_fewer_rows_than_columns_and_many_more(made_problem, m):
    """The last with momentum, for the Gram is singular; all with working sets that grow beyond a quarter."""
    made, _ = made_problem(d=50, m=m, n=4, noise=0.1, holdout=0.2)
    settings = FitSpec(solver="gram", lambdas=15, lambda_ratio=0.003, tolerance=1e-5, max_epochs=20_000)
    solution = fit(made, settings, 0)
    assert solution.status == ["ok"] * 4
    assert m < 2000 or len(solution.weights) > 4 * 50 / 4
    for j in range(4):
        x, y = reference.design_of(made, j)
        theta, intercept, _ = reference.lasso(x, y, solution.lambda_[j])
        excess = reference.objective(x, y, solution.dense([j])[0], solution.intercept[j], solution.lambda_[j])
        excess -= reference.objective(x, y, theta, intercept, solution.lambda_[j])
        assert -1e-7 < excess / (y.var() / 2) < 1e-5


def test_the_order_and_number_of_targets_do_not_matter(made_problem):
    made, _ = made_problem(d=40, m=400, n=12)
    settings = FitSpec(solver="gram", tolerance=1e-5)
    whole = fit(made, settings, 0)
    order = np.random.default_rng(0).permutation(12)
    shuffled = fit(dataclasses.replace(made, outputs=made.outputs[:, order]), settings, 0, block_targets=5)
    np.testing.assert_allclose(shuffled.lambda_, whole.lambda_[order], rtol=1e-5)
    np.testing.assert_allclose(shuffled.dense(range(12)), whole.dense(order), atol=1e-3)


def test_the_certificate_is_the_one_from_the_masks(made_problem):
    """Up to rounding: its dual point is that of the weights before they are rounded to float32."""
    made, _ = made_problem(d=40, m=300, n=10, scale=7.0, shift=30.0)
    solution = fit(made, FitSpec(solver="gram", lambdas=8, tolerance=1e-2), 0)
    rows = Rows(made)
    found, intercept = gap.certify(
        rows, rows.whole, rows.outputs(0, 10), None, solution.dense(range(10)).T, solution.lambda_
    )
    np.testing.assert_allclose(solution.gap, found, rtol=1e-4)
    np.testing.assert_allclose(solution.intercept, intercept, rtol=1e-9)


def test_targets_with_own_subsets_and_without_are_fitted_side_by_side(made_problem):
    made, _ = made_problem(d=30, m=300, n=6, own=[-1, -1, -1, 4, -1, 9])
    solution = fit(made, FitSpec(solver="gram", lambdas=8), 0, block_targets=3)
    assert solution.status == ["ok"] * 6
    for j in range(6):
        x, y = reference.design_of(made, j)
        theta, intercept, _ = reference.lasso(x, y, solution.lambda_[j])
        excess = reference.objective(x, y, solution.dense([j])[0], solution.intercept[j], solution.lambda_[j])
        excess -= reference.objective(x, y, theta, intercept, solution.lambda_[j])
        assert excess / (y.var() / 2) < 1e-3
        assert made.own_column[j] not in solution.row(j)[0]


@pytest.mark.parametrize("tolerance", [1e-3, 1e-5])
def test_a_gram_in_panels_gives_the_same_fit(made_problem, monkeypatch, tmp_path, tolerance):
    """With columns that never vary, and with the panels in files; the gaps are those from the masks."""
    made, _ = made_problem(d=300, m=2100, n=9, noise=0.5, scale=7.0, shift=30.0, pinned_in=(3,), pinned_out=(200,))
    settings = FitSpec(estimator="lasso", solver="gram", tolerance=tolerance)
    whole = fit(made, settings, 0)
    monkeypatch.setattr(gram, "GRAM_BYTES", 0)
    monkeypatch.setattr(fista, "solve", None)
    found = fit(made, settings, 0, checkpoint=tmp_path, block_targets=5)
    assert found.status == ["ok"] * 9
    np.testing.assert_allclose(found.lambda_, whole.lambda_, rtol=1e-5)
    np.testing.assert_allclose(found.heldout_r2, whole.heldout_r2, atol=tolerance)
    np.testing.assert_allclose(found.dense(range(9)), whole.dense(range(9)), atol=50 * tolerance)
    rows = Rows(made)
    gaps, _ = gap.certify(rows, rows.whole, rows.outputs(0, 9), None, found.dense(range(9)).T, found.lambda_)
    np.testing.assert_allclose(found.gap, gaps, rtol=1e-3, atol=1e-7)


def test_masks_that_do_not_fit_in_panels_are_streamed(made_problem, monkeypatch):
    """Two columns are always together: in half of the rows, while others share a quarter."""
    made, _ = made_problem(d=8, m=100, n=2)
    rng, m = np.random.default_rng(0), 5 * panels.LIMIT
    x = rng.random((m, 8)) < 0.5
    x[:, 1] = x[:, 0]
    outputs = (x[:, :2] + rng.normal(size=(m, 2))).astype(np.float32)
    made = dataclasses.replace(made, masks=designs.pack(x), outputs=outputs, heldout=np.arange(m) % 10 == 0)
    monkeypatch.setattr(gram, "GRAM_BYTES", 0)
    settings = FitSpec(estimator="lasso", lambdas=2, tolerance=0.1)
    assert gram.spans(Rows(made), settings) is None
    assert fit(made, settings, 0).status == ["ok"] * 2
