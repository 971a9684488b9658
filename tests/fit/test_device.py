"""The solvers as a GPU runs them: on an array module that is not NumPy, and mixes with it no more than CuPy does."""

import numpy as np
import pytest

from datamodels.fit.data.rows import Rows
from datamodels.fit.estimators.base import solver_of
from datamodels.run.estimators import SOLVERS
from datamodels.run.specs import FitSpec
from tests.fit.device import strict


def solved(made, settings, xp):
    solve = solver_of(settings).solve
    return solve(Rows(made, xp=xp), settings, 0, made.n, seed=0, tick=lambda progress: progress.arrays())


SHAPES = {
    "more rows": {"d": 40, "m": 400, "n": 9},
    "many held out": {"d": 30, "m": 200, "n": 4, "holdout": 0.4},
    "fewer rows": {"d": 60, "m": 50, "n": 3},
    "own subsets": {"d": 30, "m": 300, "n": 5, "own": [-1, 3, -1, 7, 7]},
}


@pytest.mark.parametrize(
    ("solver", "shape"), [(s, k) for s in SOLVERS for k in SHAPES if (s, k) != ("saga", "fewer rows")]
)
def test_it_chooses_and_fits_as_with_numpy(made_problem, solver, shape):
    """But for saga on fewer rows, which takes it thousands of epochs anywhere."""
    made, _ = made_problem(**SHAPES[shape], scale=3.0, shift=-7.0, pinned_out=(5,))
    made.outputs[:, -1] = 2.5
    settings = FitSpec(solver=solver, lambdas=8, lambda_ratio=0.03, tolerance=1e-4, max_epochs=1000)
    ours, theirs = (solved(made, settings, xp) for xp in (np, strict))
    assert theirs.status == ours.status == ["ok"] * (made.n - 1) + ["constant"]
    np.testing.assert_allclose(theirs.lambda_, ours.lambda_, rtol=1e-4)
    np.testing.assert_allclose(theirs.heldout_r2, ours.heldout_r2, atol=2e-3)
    np.testing.assert_allclose(theirs.dense(range(made.n)), ours.dense(range(made.n)), atol=0.02)
    np.testing.assert_allclose(theirs.intercept, ours.intercept, atol=0.2)
    assert theirs.gap.max() <= 1e-4


@pytest.mark.gpu
@pytest.mark.parametrize("solver", sorted(SOLVERS))
def test_a_gpu_does_as_numpy(cupy, made_problem, solver):
    made, _ = made_problem(d=100, m=900, n=20)
    settings = FitSpec(solver=solver, lambdas=12, tolerance=1e-5, max_epochs=2000)
    ours, theirs = (solved(made, settings, xp) for xp in (np, cupy))
    assert theirs.status == ours.status
    np.testing.assert_allclose(theirs.lambda_, ours.lambda_, rtol=1e-5)
    np.testing.assert_allclose(theirs.dense(range(20)), ours.dense(range(20)), atol=5e-3)
