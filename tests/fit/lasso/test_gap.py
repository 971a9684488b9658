import numpy as np
import pytest

from datamodels.fit.data.rows import Rows, partition
from datamodels.fit.lasso import gap
from datamodels.testing import reference


def certified(made, theta, lambda_, dtype=np.float32):
    rows = Rows(made, dtype=dtype)
    return gap.certify(
        rows,
        rows.whole,
        rows.outputs(0, made.n),
        rows.keep(0, made.n),
        np.asarray(theta, dtype=np.float32),
        np.asarray(lambda_, dtype=np.float64),
    )


@pytest.mark.parametrize("own", [None, [-1, 4, 9]])
def test_the_gap_is_small_at_the_optimum_and_bounds_the_excess_elsewhere(made_problem, own):
    made, _ = made_problem(d=30, m=250, n=3, own=own, shift=3.0)
    rng = np.random.default_rng(0)
    for noise in (0.0, 0.01, 0.1, 1.0):
        theta, lambda_, excess, zero = np.zeros((30, 3)), np.zeros(3), np.zeros(3), np.zeros(3)
        for j in range(3):
            x, y = reference.design_of(made, j)
            lambda_[j] = 0.2 * reference.lambda_max(x, y)
            best, intercept, _ = reference.lasso(x, y, lambda_[j])
            theta[:, j] = np.float32(best + noise * rng.normal(size=30) * np.abs(best).max())
            own_intercept = (y - x @ theta[:, j]).mean()
            excess[j] = reference.objective(x, y, theta[:, j], own_intercept, lambda_[j]) - reference.objective(
                x, y, best, intercept, lambda_[j]
            )
            zero[j] = y.var() / 2
        gaps, intercepts = certified(made, theta, lambda_)
        assert (gaps >= excess / zero - 1e-12).all()
        if noise == 0:
            assert gaps.max() < 1e-6
        for j in range(3):
            x, y = reference.design_of(made, j)
            assert intercepts[j] == pytest.approx((y - x @ theta[:, j]).mean(), abs=1e-6)


def test_packed_masks_give_what_floats_give(made_problem):
    """Of three pieces of rows, whose residuals differ by a million in size."""
    made, _ = made_problem(d=70, m=2 * gap.PASS_ROWS + 77, n=3)
    rows, rng = Rows(made), np.random.default_rng(0)
    pieces = [(s, s) for s in partition(rows.whole, gap.PASS_ROWS)]
    theta = np.where(rng.random((70, 3)) < 0.3, rng.normal(size=(70, 3)), 0)
    left = rng.normal(size=(made.rows, 3)) * np.geomspace(1e-6, 1, made.rows)[:, None]
    ours, theirs = (
        (*way.rows(pieces[1][0], way.by(theta), way.by(theta / 3)), way.columns(pieces, left))
        for way in (gap._Packed(rows), gap._Floats(rows))
    )
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-9)


def test_the_gap_is_1_at_zero_weights_without_penalty_and_0_above_lambda_max(made_problem):
    made, _ = made_problem(d=30, m=250, n=2)
    top = [reference.lambda_max(*reference.design_of(made, j)) for j in range(2)]
    zeros = np.zeros((30, 2))
    assert np.allclose(certified(made, zeros, [0.0, 0.0])[0], 1)
    assert np.allclose(certified(made, zeros, np.multiply(top, 1 + 1e-9))[0], 0, atol=1e-12)


def test_the_two_ways_of_writing_the_gap_agree(made_problem):
    """The formula of the module against primal less dual objective, at the dual point that it is about."""
    made, _ = made_problem(d=30, m=250, n=1)
    x, y = reference.design_of(made, 0)
    lambda_ = 0.1 * reference.lambda_max(x, y)
    theta = np.float32(reference.lasso(x, y, 2 * lambda_)[0]).astype(np.float64)
    u = y - x @ theta
    u -= u.mean()
    limit = lambda_ / (np.abs(x.T @ u).max() / len(u))
    best = min(limit, u @ (y - y.mean()) / (u @ u))
    v = best * u / len(u)
    primal = (u @ u) / (2 * len(u)) + lambda_ * np.abs(theta).sum()
    dual = v @ y - len(u) / 2 * (v @ v)
    assert certified(made, theta[:, None], [lambda_], np.float64)[0][0] == pytest.approx(
        (primal - dual) / (y.var() / 2), rel=1e-6
    )


def test_stale_residuals_make_the_gap_larger():
    parts = {name: np.array([value]) for name, value in {"square": 0.5, "aligned": 0.3, "dual_norm": 0.1}.items()}
    common = parts | {"l1": np.array([4.0]), "lambda_": np.array([0.1]), "zero": np.array([1.0])}
    assert gap.relative(**common, stale=np.array([0.04])) > gap.relative(**common)
