import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodels.fit.data import moments
from datamodels.fit.kernels import coordinate_descent
from datamodels.fit.kernels.batched import Batched
from datamodels.fit.lasso import coordinate
from datamodels.fit.lasso.coordinate import Descent
from datamodels.run import designs
from datamodels.run.designs import Design
from datamodels.testing import reference
from tests.helpers.properties import examples


def made(d: int, m: int, a: int, seed: int) -> tuple[np.ndarray, np.ndarray, moments.Masks]:
    """(masks bool[m, d], outputs [m, a], moments in float64); outputs of mixed noise, a column twice."""
    rng = np.random.default_rng(seed)
    x = designs.unpack(designs.subsets(Design("uniform", seed, 0.5, d), 0, m), d)
    x[:, -1] = x[:, 0]
    y = x @ (rng.standard_t(2.5, size=(d, a)) * (rng.random((d, a)) < 0.3)) + rng.normal(size=(m, a))
    counts = (x.T.astype(float) @ x.astype(float)).astype(np.int32)
    return x, y, moments.of_counts(counts, m, np.dtype(float))


def started(solver: Descent, x: np.ndarray, y: np.ndarray, factor: np.ndarray | None = None):
    products = (y - y.mean(axis=0)).T.dot(x - x.mean(axis=0)) / len(x)
    return solver.start(products, y.var(axis=0), np.arange(y.shape[1]), None, factor)


def excess(x, y, state) -> np.ndarray:
    """How far each target's objective is above the optimum, over that at zero weights."""
    found = []
    for j in range(y.shape[1]):
        best, intercept, _ = reference.lasso(x.astype(float), y[:, j], state.lambda_[j])
        mine = reference.objective(
            x, y[:, j], state.theta[j], (y[:, j] - x @ state.theta[j]).mean(), state.lambda_[j]
        ) - reference.objective(x, y[:, j], best, intercept, state.lambda_[j])
        found.append(mine / (y[:, j].var() / 2))
    return np.array(found)


WAYS = {
    "coordinates": {"small": 10**6},
    "proximal steps": {"small": 0},
    "both": {"small": 8},
    "array operations": {"loops": Batched(np)},
}


@examples(12)
@given(
    way=st.sampled_from(sorted(WAYS)),
    shape=st.sampled_from([(20, 400), (30, 60), (25, 26), (30, 20)]),
    fractions=st.lists(st.floats(0.02, 0.9), min_size=1, max_size=3),
    seed=st.integers(0, 50),
)
def test_every_way_reaches_the_optimum_at_every_lambda_of_a_path(way, shape, fractions, seed):
    """From well conditioned to fewer rows than columns, by each kind of step alone and by both."""
    x, y, masks = made(*shape, a=3, seed=seed)
    solver = Descent(masks, **WAYS[way])
    state = started(solver, x, y)
    top = np.abs(state.products).max(axis=1)
    for fraction in sorted(fractions, reverse=True):
        solver.set_lambda(state, np.arange(3), fraction * top)
        for _ in range(3000):
            solver.step(state, np.full(3, 1e-8))
            if solver.measure(state).gap(state.lambda_).max() <= 1e-8:
                break
        assert solver.measure(state).gap(state.lambda_).max() <= 1e-8
        assert np.abs(excess(x, y, state)).max() <= 1.1e-8


def test_the_gap_bounds_the_excess_on_the_way():
    x, y, masks = made(30, 45, a=4, seed=1)
    solver = Descent(masks, 0)
    state = started(solver, x, y)
    solver.set_lambda(state, np.arange(4), 0.05 * np.abs(state.products).max(axis=1))
    for _ in range(12):
        solver.step(state, np.full(4, 1e-8))
        assert (solver.measure(state).gap(state.lambda_) >= excess(x, y, state) - 1e-12).all()


@pytest.mark.parametrize(("m", "momentum"), [(600, False), (25, True)])
def test_momentum_is_for_what_is_badly_conditioned_and_gradients_are_exact_in_both(m, momentum):
    x, y, masks = made(30, m, a=2, seed=3)
    solver = Descent(masks, 0)
    state = started(solver, x, y)
    solver.set_lambda(state, np.arange(2), 0.1 * np.abs(state.products).max(axis=1))
    for _ in range(6):
        solver.step(state, np.full(2, 1e-8))
    assert (state.speed > 1).any() == momentum
    residuals = y - y.mean(axis=0) - (x - x.mean(axis=0)) @ state.theta.T
    np.testing.assert_allclose(state.neg_grad, ((x - x.mean(axis=0)).T @ residuals).T / m, atol=1e-12)


@pytest.mark.parametrize("factor", [None, np.random.default_rng(0).uniform(0.5, 2, size=(5, 30))])
def test_taking_targets_takes_all_that_belongs_to_them(factor):
    x, y, masks = made(30, 200, a=5, seed=2)
    solver = Descent(masks)
    state = started(solver, x, y, factor)
    solver.set_lambda(state, np.arange(5), 0.1 * np.abs(state.products).max(axis=1))
    chosen = np.array([3, 0])
    taken = state.take(chosen)
    for field in dataclasses.fields(state):
        if field.name != "factor" or factor is not None:
            assert np.array_equal(getattr(taken, field.name), getattr(state, field.name)[chosen])
    for _ in range(3):
        solver.step(state, np.full(5, 1e-8))
        solver.step(taken, np.full(2, 1e-8))
    np.testing.assert_allclose(taken.theta, state.theta[chosen], atol=1e-12)


@pytest.mark.parametrize("small", [0, 30])
def test_thresholds_of_each_column_are_those_of_rescaled_columns(small):
    """By coordinates and by proximal steps; sum_c f_c |theta_c| of columns x is ||phi||_1 of columns x / f."""
    x, y, masks = made(30, 200, a=3, seed=4)
    factor = np.random.default_rng(1).uniform(0.3, 2, size=(3, 30))
    solver = Descent(masks, small=small)
    state = started(solver, x, y, factor)
    solver.set_lambda(state, np.arange(3), 0.1 * np.abs(state.products / factor).max(axis=1))
    for _ in range(3000):
        if solver.measure(state).gap(state.lambda_).max() < 1e-9:
            break
        solver.step(state, np.full(3, 1e-10))
    assert solver.measure(state).gap(state.lambda_).max() < 1e-9
    for j in range(3):
        best, _, _ = reference.lasso(x / factor[j], y[:, j], state.lambda_[j])
        np.testing.assert_allclose(state.theta[j], best / factor[j], atol=1e-4 * np.abs(best).max())
        assert 2 < np.count_nonzero(best) < 30


@pytest.mark.parametrize("d, m", [(2, 10), (25, 128), (30, 100), (28, 31), (60, 20), (300, 900)])
def test_the_largest_eigenvalue_of_the_gram(d, m):
    for seed in range(5):
        _, _, masks = made(d, m, a=1, seed=seed)
        assert masks.edge == pytest.approx(np.linalg.eigvalsh(masks.gram)[-1], rel=0.01)
    assert coordinate.SAFE * 1.01 < 2, "a step that trusts it must be safe even so"


@pytest.mark.parametrize("value", [0, 1])
def test_the_largest_eigenvalue_of_a_gram_of_columns_that_are_alike(value):
    """All of them are one column, which varies or does not."""
    x = np.repeat(np.arange(10)[:, None] % 2 * value, 7, axis=1)
    masks = moments.of_counts((x.T @ x).astype(np.int32), 10, np.dtype(np.float32))
    assert masks.edge == pytest.approx(7 * 0.25 * value)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_few_changes_are_multiplied_as_many_are(dtype):
    """The columns span several tiles; the numbers of changes are beside multiples of eight, and none."""
    rng = np.random.default_rng(0)
    d, counts = 2 * coordinate_descent.GRAM_TILE + 3, np.array([0, 1, 7, 8, 9, 40])
    gram, base, base_neg_grad = rng.normal(size=(d, d)), rng.normal(size=(6, d)), rng.normal(size=(6, d))
    theta = base.copy()
    for j, count in enumerate(counts):
        theta[j, rng.choice(d, count, replace=False)] += 1
    gram, base, base_neg_grad, theta = (array.astype(dtype) for array in (gram, base, base_neg_grad, theta))
    neg_grad = np.zeros((6, d), dtype)
    np.testing.assert_array_equal(coordinate_descent.nonzeros(theta, base), counts)
    coordinate_descent.sparse_neg_grads(np.array([0, 2, 3, 4, 5]), counts, theta, base, base_neg_grad, gram, neg_grad)
    wanted = base_neg_grad - (theta - base) @ gram
    wanted[1] = 0
    np.testing.assert_allclose(neg_grad, wanted, atol=200 * np.finfo(dtype).eps)
