"""Ridge against the closed form, target by target."""

import dataclasses

import numpy as np
import pytest

from datamodels.fit.estimators import ridge
from datamodels.fit.solve import fit
from datamodels.run.specs import FitSpec
from datamodels.testing import reference


def closed_form(x, y, lambda_):
    """(theta, intercept) by numpy.linalg."""
    centred = x - x.mean(axis=0)
    theta = np.linalg.solve(centred.T @ centred / len(x) + lambda_ * np.eye(x.shape[1]), centred.T @ y / len(x))
    return theta, y.mean() - x.mean(axis=0) @ theta


def objective(x, y, theta, intercept, lambda_):
    return ((x @ theta + intercept - y) ** 2).mean() / 2 + lambda_ / 2 * (theta**2).sum()


def curve(made, target, settings):
    """(lambdas, held-out errors) of the whole grid."""
    x, y = reference.design_of(made, target, heldout=False)
    x_held, y_held = reference.design_of(made, target, fit=False)
    share = x.mean(axis=0)
    lambdas = (share * (1 - share)).sum() / len(x) * ridge.grid(settings)
    fits = [closed_form(x, y, lambda_) for lambda_ in lambdas]
    return lambdas, np.array([((x_held @ theta + b - y_held) ** 2).mean() for theta, b in fits]), y_held.var()


@pytest.mark.parametrize("own", [None, [3, -1, 0, 17, 3, -1]])
@pytest.mark.parametrize(("m", "tolerance"), [(400, 1e-3), (400, 1e-6), (40, 1e-3)])
def test_it_is_the_closed_form_at_the_lambda_that_suits_the_heldout_rows(made_problem, own, m, tolerance):
    noise = np.geomspace(0.1, 5, 6)
    made, _ = made_problem(
        d=40, m=m, n=6, own=own, noise=noise, scale=3.0, shift=-20.0, pinned_in=(5,), pinned_out=(11, 39), holdout=0.25
    )
    settings = FitSpec(estimator="ridge", tolerance=tolerance, patience=20)
    solution = fit(made, settings, 0, threads=1)
    assert solution.status == ["ok"] * 6
    assert (solution.gap <= tolerance).all()
    for j in range(6):
        lambdas, errors, variance = curve(made, j, settings)
        k = int(np.argmin(np.abs(np.log(lambdas / solution.lambda_[j]))))
        assert solution.lambda_[j] == pytest.approx(lambdas[k], rel=1e-4)
        assert errors[k] <= errors.min() + 0.003 * variance
        assert solution.heldout_r2[j] == pytest.approx(1 - errors[k] / variance, abs=0.01, rel=0.05)
        x, y = reference.design_of(made, j)
        theta, intercept = closed_form(x, y, lambdas[k])
        found = solution.dense([j])[0].astype(np.float64)
        excess = objective(x, y, found, solution.intercept[j], lambdas[k]) - objective(
            x, y, theta, intercept, lambdas[k]
        )
        assert -1e-7 < excess / (y.var() / 2) <= solution.gap[j] + 1e-7, "the gap bounds the excess"
        np.testing.assert_allclose(found, theta, atol=3 * np.sqrt(tolerance) * np.abs(theta).max() + 1e-4)
    assert not np.isin([5, 11, 39], solution.columns).any()


def test_the_gap_is_the_duality_gap_of_the_residuals(made_problem):
    """Fenchel: P(theta) - D(r / m), D(v) = v . y - m / 2 ||v||^2 - ||X' v||^2 / (2 lambda)."""
    made, _ = made_problem(d=30, m=300, n=2, own=[-1, 4])
    solution = fit(made, FitSpec(estimator="ridge", tolerance=1e-2, lambdas=1), 0)
    for j in range(2):
        x, y = reference.design_of(made, j)
        lambda_, theta = solution.lambda_[j], solution.dense([j])[0].astype(np.float64)
        x, y = x - x.mean(axis=0), y - y.mean()
        v = (y - x @ theta) / len(y)
        dual = v @ y - len(y) / 2 * (v @ v) - ((x.T @ v) ** 2).sum() / (2 * lambda_)
        assert solution.gap[j] == pytest.approx((objective(x, y, theta, 0, lambda_) - dual) / (y.var() / 2), abs=1e-9)


def test_a_path_ends_when_its_error_has_risen_often_enough(made_problem):
    made, _ = made_problem(d=40, m=300, n=8, noise=np.geomspace(0.1, 30, 8))
    settings = FitSpec(estimator="ridge", patience=1, tolerance=1e-5)
    solution = fit(made, settings, 0)
    for j in range(8):
        lambdas, errors, _ = curve(made, j, settings)
        rise = int(np.argmax(np.append(np.diff(errors) > 0, True)))
        assert solution.lambda_[j] == pytest.approx(lambdas[rise], rel=1e-4)


def test_very_wide_masks_are_streamed(made_problem, monkeypatch):
    """Without an eigendecomposition, with and without own subsets."""
    monkeypatch.setattr(ridge, "EIGEN_COLUMNS", 400)
    made, _ = made_problem(d=401, m=40, n=2, own=[-1, 3], holdout=0.25)
    solution = fit(made, FitSpec(estimator="ridge", lambdas=4), 0)
    assert solution.status == ["ok", "ok"]
    for j in range(2):
        x, y = reference.design_of(made, j)
        x = x - x.mean(axis=0)
        kernel = x @ x.T / len(x) + solution.lambda_[j] * np.eye(len(x))
        theta = x.T @ np.linalg.solve(kernel, y - y.mean()) / len(x)
        np.testing.assert_allclose(solution.dense([j])[0], theta, atol=0.05 * np.abs(theta).max())


def test_out_of_steps_is_said_and_the_weights_are_kept(made_problem):
    made, _ = made_problem(d=60, m=70, n=3, own=[1, 2, 3], noise=0.05)
    solution = fit(made, FitSpec(estimator="ridge", tolerance=1e-6, max_epochs=1, patience=20), 0)
    assert solution.status == ["not_converged"] * 3
    assert (solution.gap > 1e-6).all() and len(solution.weights)


def test_outputs_that_do_not_vary_among_the_rows_to_fit(made_problem):
    """The path has nothing to find there but rounding; the last fit, on all rows, has."""
    made, _ = made_problem(d=40, m=120, n=5, own=[-1, 3, 4, -1, 5], holdout=0.3)
    outputs = made.outputs.copy()
    outputs[~made.heldout] = 2.0
    with np.errstate(all="raise", under="ignore"):
        solution = fit(dataclasses.replace(made, outputs=outputs), FitSpec(estimator="ridge"), 0, threads=1)
    assert solution.status == ["ok"] * 5
    assert (solution.heldout_r2 <= 0).all() and np.isfinite(solution.heldout_r2).all()
    assert np.isfinite(solution.weights).all() and len(solution.weights)


def test_outputs_of_any_scale_are_fitted_alike(made_problem):
    made, _ = made_problem(d=30, m=400, n=4, own=[-1, -1, 3, 4])
    scaled = dataclasses.replace(made, outputs=(made.outputs * 1e-3 + 50).astype(np.float32))
    settings = FitSpec(estimator="ridge")
    one, other = fit(made, settings, 0), fit(scaled, settings, 0)
    np.testing.assert_allclose(other.lambda_, one.lambda_, rtol=1e-6)
    np.testing.assert_allclose(other.dense(range(4)) * 1e3, one.dense(range(4)), atol=0.03 * np.abs(one.weights).max())
