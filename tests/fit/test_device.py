"""The solvers as a GPU runs them: on an array module that is not NumPy, and mixes with it no more than CuPy does."""

import dataclasses

import numpy as np
import pytest

from datamodels.fit.data.problem import FOLDS
from datamodels.fit.data.rows import Rows
from datamodels.fit.estimators.base import solve_of, solver_of
from datamodels.fit.lasso import leave_out
from datamodels.fit.memory import Size
from datamodels.fit.pairs.gradients import GradientScores
from datamodels.fit.pairs.pairs import of_arrays
from datamodels.plan.fit import made_up
from datamodels.run import designs
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


def of_estimator(made, settings, xp):
    rows = Rows(made, xp=xp)
    return solve_of(settings)(rows, settings, 0, made.n, seed=0, tick=lambda progress: None)


def with_a_prior(m, own, kind):
    """A problem whose prior helps, if there are few models; its features are those of classes or of numbers."""
    settings = FitSpec(estimator="prior", lambdas=6)
    made = made_up(Size(m, 40, 9, own), 40, 9, settings)
    rng = np.random.default_rng(0)
    x, theirs = rng.normal(size=(60, 12)), rng.normal(size=(9, 12))
    y, y_theirs = (a[:, 0] if kind == "numbers" else np.arange(len(a)) % 3 for a in (x, theirs))
    pairs = of_arrays(x, y, theirs, y_theirs, alpha=0.5, columns=(np.arange(60) % 40, 40))
    scores = [np.stack([pairs.of(np.arange(9))[0]] * FOLDS)]
    pairs = dataclasses.replace(pairs, gradients=GradientScores(3, 1.0, scores))
    truth = pairs.of(np.arange(9))[:2].sum(axis=0)
    y = (designs.unpack(made.masks, 40) - 0.5) @ truth.T
    y = y / y.std(axis=0) + rng.normal(size=y.shape)
    return dataclasses.replace(made, outputs=y.astype(np.float16), prior=pairs)


@pytest.mark.parametrize("kind", ["classes", "numbers"])
@pytest.mark.parametrize("m, own", [(60, 0), (300, 0), (200, 5)])
def test_estimators_that_choose_do_so_as_with_numpy(m, own, kind, monkeypatch):
    """But for the solver of training examples, which has no twin: with few models, its lambdas are others."""
    monkeypatch.setattr(leave_out, "LEAVE_OUT_BYTES", 0)
    made = with_a_prior(m, own, kind)
    for estimator in ("pooled", "prior") if kind == "classes" else ("prior",):
        settings = FitSpec(estimator=estimator, lambdas=6)
        ours, theirs = (of_estimator(made, settings, xp) for xp in (np, strict))
        assert theirs.status == ours.status == ["ok"] * made.n
        assert theirs.choice["errors"] == pytest.approx(ours.choice["errors"], abs=5e-3)
        assert theirs.choice["way"] == ours.choice["way"]
        np.testing.assert_allclose(theirs.dense(range(9)), ours.dense(range(9)), atol=0.02)
        np.testing.assert_allclose(theirs.intercept, ours.intercept, atol=0.1)
        np.testing.assert_allclose(theirs.heldout_r2, ours.heldout_r2, atol=0.02)
