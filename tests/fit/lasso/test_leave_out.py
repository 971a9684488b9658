"""What is specific to targets that are training examples; `test_solve` compares them with the reference, too."""

import dataclasses

import numpy as np
import pytest

from datamodels.fit.data import problem
from datamodels.fit.data.problem import Problem
from datamodels.fit.data.rows import Rows
from datamodels.fit.lasso import gap, gram, leave_out, path
from datamodels.fit.solve import fit
from datamodels.run.specs import FitSpec
from datamodels.testing import reference


def fitted(made: Problem, spec: FitSpec, **options) -> leave_out.Fitted:
    rows = Rows(made)
    return leave_out.fitted(rows, spec, rows.outputs(0, made.n), rows.keep(0, made.n), **options)


def excess(made: Problem, solution: problem.Solution, j: int) -> float:
    """Of the objective over its optimum, relative to that at zero weights, as gaps are."""
    x, y = reference.design_of(made, j)
    theta, intercept, _ = reference.lasso(x, y, solution.lambda_[j])
    found = reference.objective(x, y, solution.dense([j])[0], solution.intercept[j], solution.lambda_[j])
    return (found - reference.objective(x, y, theta, intercept, solution.lambda_[j])) / (y.var() / 2)


def test_it_chooses_and_fits_as_saga_does(made_problem):
    made, _ = made_problem(d=60, m=800, n=8, own=np.arange(8) * 7, noise=np.geomspace(0.2, 5, 8), scale=3, shift=-11)
    spec = FitSpec(estimator="lasso", lambdas=12, tolerance=1e-5, batch=50, max_epochs=2000)
    theirs, ours = (fit(made, spec.model_copy(update={"solver": s}), 0) for s in ("saga", "gram"))
    assert ours.status == theirs.status == ["ok"] * 8
    np.testing.assert_allclose(ours.lambda_, theirs.lambda_, rtol=1e-5)
    np.testing.assert_allclose(ours.heldout_r2, theirs.heldout_r2, atol=1e-3)
    np.testing.assert_allclose(ours.dense(range(8)), theirs.dense(range(8)), atol=0.01)
    np.testing.assert_allclose(ours.intercept, theirs.intercept, atol=0.1)


@pytest.mark.parametrize("tolerance", [1e-2, 1e-3, 1e-5])
def test_the_gap_is_an_upper_bound_and_not_much_more_than_the_one_from_the_masks(made_problem, tolerance):
    """It allows for residuals that are rounded; the other is of the residuals themselves, in float64."""
    made, _ = made_problem(d=50, m=600, n=8, own=np.arange(8), scale=7.0, shift=30.0)
    solution, rows = fit(made, FitSpec(estimator="lasso", lambdas=8, tolerance=tolerance), 0), Rows(made)
    exact, intercept = gap.certify(
        rows, rows.whole, rows.outputs(0, 8), rows.keep(0, 8), solution.dense(range(8)).T, solution.lambda_
    )
    assert (solution.gap <= tolerance).all()
    assert (np.abs(solution.gap - exact) < tolerance).all()
    assert all(excess(made, solution, j) <= solution.gap[j] + 1e-9 for j in range(8))
    np.testing.assert_allclose(solution.intercept, intercept, rtol=1e-6)


def test_few_passes_for_a_lambda(made_problem):
    """At most 1.5 on average, down to the end of the path, where a third of the columns have a weight."""
    made, _ = made_problem(d=300, m=3600, n=6, own=[3, 50, 120, 121, 200, 299])
    found = fitted(made, FitSpec(estimator="lasso", lambdas=20, patience=20))
    assert found.solved.all() and (found.lambdas == 20).all()
    assert (found.admitted > 100).all()
    assert found.passes.sum() <= 1.5 * found.lambdas.sum()


def test_the_path_is_no_longer_than_patience_has_it(made_problem):
    made, _ = made_problem(d=30, m=300, n=6, own=np.arange(6), noise=5.0, holdout=0.3)
    spec = FitSpec(estimator="lasso", lambdas=15, patience=2, tolerance=1e-5)
    found = fitted(made, spec)
    for j in range(6):
        x, y = reference.design_of(made, j, heldout=False)
        x_heldout, y_heldout = reference.design_of(made, j, fit=False)
        errors, rises = [], 0
        for lambda_ in reference.lambda_max(x, y) * path.grid(spec):
            theta, intercept, _ = reference.lasso(x, y, lambda_)
            errors.append(((x_heldout @ theta + intercept - y_heldout) ** 2).mean())
            rises = rises + 1 if len(errors) > 1 and errors[-1] > errors[-2] else 0
            if rises == 2:
                break
        assert found.lambdas[j] == len(errors)
        assert found.error[j] == pytest.approx(min(errors), rel=1e-3)


def test_targets_that_want_too_many_columns_are_left_to_others(made_problem):
    made, _ = made_problem(d=60, m=600, n=6, own=np.arange(6), noise=np.array([50, 0.1, 50, 0.1, 0.1, 50]))
    rows, spec = Rows(made), FitSpec(estimator="lasso", lambdas=10)
    whole = fit(made, spec, 0)
    wanted = fitted(made, spec).admitted
    solution, left = leave_out.solve(rows, spec, 0, 6, tick=lambda here: None, most=int(np.sort(wanted)[3]) - 1)
    assert 0 < left.sum() < 6
    for j in range(6):
        if left[j]:
            assert not len(solution.row(j)[0])
        else:
            assert np.array_equal(solution.row(j)[1], whole.row(j)[1])
    streamed = fit(made, spec.model_copy(update={"solver": "stream"}), 0)
    full = gram.completed(solution, left, lambda first, last: problem.rows_of(streamed, first, last))
    assert full.status == ["ok"] * 6
    for j in range(6):
        assert np.array_equal(full.row(j)[1], (streamed if left[j] else whole).row(j)[1])


def test_where_it_applies(made_problem):
    made, _ = made_problem(d=20, m=50, n=1)
    assert leave_out.applies(Rows(made))
    assert leave_out.bytes_of(2 * 10**6, 10_000, 4) > leave_out.LEAVE_OUT_BYTES


def test_a_target_does_not_depend_on_those_beside_it(made_problem):
    """But for what products of matrices of other shapes round differently."""
    made, _ = made_problem(d=40, m=400, n=12, own=np.arange(12))
    spec, order = FitSpec(estimator="lasso", tolerance=1e-5), np.random.default_rng(0).permutation(12)
    whole = fit(made, spec, 0)
    mixed = dataclasses.replace(
        made, outputs=made.outputs[:, order], own_column=np.where(order % 3, order, -1).astype(np.int32)
    )
    found = fit(mixed, spec, 0, block_targets=5, threads=2)
    for place, j in enumerate(order):
        if j % 3:
            assert found.lambda_[place] == pytest.approx(whole.lambda_[j], rel=1e-9)
            np.testing.assert_allclose(found.dense([place]), whole.dense([j]), atol=1e-4)


def test_pinned_columns_and_a_target_that_is_always_in(made_problem):
    made, _ = made_problem(d=30, m=300, n=3, own=[4, 7, 9], pinned_in=(7,), pinned_out=(9, 11))
    solution = fit(made, FitSpec(estimator="lasso", lambdas=6), 0)
    assert solution.status == ["ok", "no_rows", "ok"]
    assert not np.isin([7, 9, 11], solution.columns).any() and 4 not in solution.row(0)[0]
