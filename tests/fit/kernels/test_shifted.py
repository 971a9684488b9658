import numpy as np

from datamodels.fit.kernels import shifted


def test_all_shifts_are_solved_from_one_iteration():
    rng = np.random.default_rng(0)
    rows, scale = rng.normal(size=(50, 30)), rng.random((4, 30)) + 0.1
    right = rng.normal(size=(4, 30)) * np.array([[1.0], [1e-3], [0.0], [10.0]])
    shifts, products = np.array([300.0, 0.05, 2.0]), 0

    def multiply(vectors):
        nonlocal products
        products += 1
        return scale * (scale * vectors @ rows.T @ rows)

    found = shifted.solve(multiply, right, shifts, np.full(4, 1e-20), 200)
    assert products < 60, "no more than the smallest shift alone takes"
    for j in range(4):
        matrix = scale[j][:, None] * (rows.T @ rows) * scale[j]
        for shift, u in zip(shifts, found[:, j], strict=True):
            exact = np.linalg.solve(matrix + shift * np.eye(30), right[j])
            np.testing.assert_allclose(u, exact, rtol=1e-6, atol=1e-9)


def test_it_stops_at_the_goal_and_after_the_steps():
    rng = np.random.default_rng(0)
    rows, right = rng.normal(size=(50, 30)), rng.normal(size=(1, 30))
    residuals = []
    for steps in (1, 5, 100):
        u = shifted.solve(lambda v: v @ rows.T @ rows, right, np.array([1.0]), np.array([1e-2]), steps)
        residuals.append(((right - u[0] @ (rows.T @ rows) - u[0]) ** 2).sum())
    assert residuals[0] > residuals[1] > 1e-2 >= residuals[2] > 1e-8
