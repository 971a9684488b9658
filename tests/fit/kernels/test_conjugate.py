import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodels.fit.kernels import conjugate


@given(
    a=st.integers(1, 6),
    d=st.integers(1, 20),
    seed=st.integers(0, 999),
    by=st.sampled_from(["none", "good", "exact"]),
)
def test_it_solves_the_equations_of_every_target(a, d, seed, by):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(a, d, max(1, d - 2)))
    grams, lambda_ = root @ root.transpose(0, 2, 1), rng.uniform(0.1, 3, size=a)
    systems = grams + lambda_[:, None, None] * np.eye(d)
    right = rng.normal(size=(a, d)) * rng.integers(0, 2, size=(a, 1))
    helper = {"none": [np.eye(d)] * a, "good": systems + 0.3 * np.eye(d), "exact": systems}[by]
    inverse = {float(shift): np.linalg.inv(matrix) for shift, matrix in zip(lambda_, helper, strict=True)}
    products = 0

    def multiply(vectors, places):
        nonlocal products
        products += 1
        return np.einsum("pij,pj->pi", grams[places], vectors)

    def precondition(residual, shifts):
        return np.array([inverse[float(s)] @ r for s, r in zip(shifts, residual, strict=True)]).reshape(residual.shape)

    goal = 1e-16 * (1 + (right**2).sum(axis=1))
    theta = conjugate.solve(multiply, precondition, right, lambda_, goal, 10 * d + 10)
    miss = np.einsum("aij,aj->ai", systems, theta) - right
    assert ((miss**2).sum(axis=1) <= 4 * goal).all()
    assert not theta[~right.any(axis=1)].any()
    assert products <= (2 if by == "exact" else 10 * d + 10)


def test_it_stops_after_so_many_steps():
    gram = np.diag(np.arange(1.0, 31.0))
    arguments = (lambda r, _: r, np.ones((1, 30)), np.array([0.1]), np.array([1e-20]))
    errors = []
    for steps in (0, 3, 6, 60):
        theta = conjugate.solve(lambda v, _: v @ gram, *arguments, steps)
        errors.append(float(((theta @ gram + 0.1 * theta - 1) ** 2).sum()))
    assert errors[0] == 30 and errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-18 < 1e-3 < errors[1]


@pytest.mark.parametrize("size", [1.0, 1e-17, 1e-38])
def test_a_goal_of_0_is_reached_as_far_as_numbers_go(size):
    """Products of numbers that float32 has no digits for are 0, and their ratios no numbers."""
    gram = np.diag(np.linspace(1, 30, 20)).astype(np.float32)
    right = np.full((3, 20), size, dtype=np.float32)
    with np.errstate(all="raise", under="ignore"):
        theta = conjugate.solve(lambda v, _: v @ gram, lambda r, _: r / 7, right, np.ones(3), np.zeros(3), 200)
    assert np.isfinite(theta).all()
    assert np.abs(theta @ gram + theta - right).max() <= max(1e-5 * size, 1e-30)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_it_keeps_to_the_type_it_is_given(dtype):
    right = np.ones((2, 5), dtype=dtype)
    theta = conjugate.solve(lambda v, _: 2 * v, lambda r, _: r, right, np.ones(2), np.full(2, 1e-8), 9)
    assert theta.dtype == dtype
    np.testing.assert_allclose(theta, 1 / 3, rtol=1e-6)
