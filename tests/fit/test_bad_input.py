"""Every kind of bad input beside good targets, for every solver: a status for each, and the good none the worse."""

import dataclasses

import numpy as np
import pytest

from datamodels.errors import OutputsError
from datamodels.fit.data import problem
from datamodels.fit.data.sums import Sums
from datamodels.fit.estimators.base import uses_sums
from datamodels.fit.job import fits
from datamodels.fit.job.fitter import Fitter
from datamodels.fit.job.progress import FitState
from datamodels.fit.solve import fit
from datamodels.run import runs
from datamodels.run.specs import FitSpec
from datamodels.settings import FitterSettings
from datamodels.storage.local import LocalStore
from datamodels.testing import committed, reference

M, D = 240, 24
GOOD = [0, 3, 9]
BAD = {
    1: ("constant", problem.CONSTANT),
    2: ("nan", problem.NOT_FINITE),
    4: ("infinite", problem.NOT_FINITE),
    5: ("beyond float16", problem.NOT_FINITE),
    6: ("constant where it is fitted", problem.NO_SIGNAL),
    7: ("constant on the held-out rows", problem.OK),
    8: ("constant and nan", problem.NOT_FINITE),
}


@pytest.fixture(params=["saga", "stream", "gram", "gram from sums"])
def solved(request):
    """Fits a problem by one of the solvers."""

    def solve(problem, **settings):
        chosen = FitSpec(solver=request.param.split()[0], lambdas=8, tolerance=1e-5, max_epochs=2000, **settings)
        sums = None
        if request.param == "gram from sums":
            assert uses_sums(problem, chosen)
            sums = Sums.empty(problem.columns, problem.n)
            sums.add(problem.masks, problem.outputs, problem.heldout)
        with np.errstate(all="raise", under="ignore"):
            return fit(problem, chosen, 0, threads=1, sums=sums)

    return solve


def excess(problem, solution, target) -> float:
    """The objective above its optimum, relative to that at zero weights."""
    x, y = reference.design_of(problem, target)
    lambda_ = solution.lambda_[target]
    theta, intercept, _ = reference.lasso(x, y, lambda_)
    found = solution.dense([target])[0].astype(np.float64)
    best = reference.objective(x, y, theta, intercept, lambda_)
    return (reference.objective(x, y, found, solution.intercept[target], lambda_) - best) / (y.var() / 2)


def halved(problem):
    """With outputs as they are stored."""
    with np.errstate(over="ignore"):
        return dataclasses.replace(problem, outputs=problem.outputs.astype(np.float16))


@pytest.fixture
def mixed(made_problem):
    """Good and bad targets in one block, columns that are never and always in, and two that are always together."""
    made, x = made_problem(d=D, m=M, n=10, pinned_in=(5,), pinned_out=(11,))
    x, y = x.copy(), made.outputs.copy()
    x[:, 1] = x[:, 0]
    y[:, 1] = -2.5
    y[7, 2] = np.nan
    y[9, 4] = -np.inf
    y[20, 5] = 70_000  # becomes infinite in float16
    y[:, 6] = np.where(made.heldout, y[:, 6], 1.0)
    y[made.heldout, 7] = 0.5
    y[:, 8] = 1.0
    y[3, 8] = np.nan
    return halved(dataclasses.replace(made, masks=np.packbits(x, axis=1, bitorder="little"), outputs=y))


def test_each_bad_target_has_its_status_and_no_good_one_suffers(mixed, solved):
    solution = solved(mixed)
    for target, (what, status) in BAD.items():
        assert solution.status[target] == status, what
    for target in (*GOOD, 7):
        assert solution.status[target] == problem.OK
        assert target == 7 or len(solution.row(target)[0]), f"good target {target} has weights"
        assert excess(mixed, solution, target) < 2e-5
    for target, (what, status) in BAD.items():
        if status != problem.OK:
            assert not len(solution.row(target)[0]), what
            assert np.isnan(solution.heldout_r2[target]) or status == problem.NO_SIGNAL, what
    assert solution.intercept[1] == -2.5
    assert solution.intercept[6] == pytest.approx(mixed.outputs[:, 6].astype(np.float64).mean(), abs=1e-5)
    assert np.isnan(solution.heldout_r2[7]), "held-out outputs that do not vary explain nothing"
    assert not np.isin([5, 11], solution.columns).any(), "columns that never vary have no weight"
    for name in ("lambda_", "gap", "intercept", "weights"):
        assert np.isfinite(getattr(solution, name)).all(), name


def test_the_good_are_as_they_are_alone(mixed, solved):
    alone = dataclasses.replace(mixed, outputs=mixed.outputs[:, GOOD], own_column=mixed.own_column[GOOD])
    together, apart = solved(mixed), solved(alone)
    np.testing.assert_allclose(together.lambda_[GOOD], apart.lambda_, rtol=1e-4)
    np.testing.assert_allclose(together.dense(GOOD) @ np.ones(D), apart.dense(range(3)) @ np.ones(D), atol=0.02)


def test_masks_that_never_vary_tell_nothing(made_problem, solved):
    made, _ = made_problem(d=D, m=60, n=2)
    made = halved(dataclasses.replace(made, masks=np.repeat(made.masks[:1], 60, axis=0)))
    solution = solved(made)
    assert solution.status == [problem.NO_SIGNAL] * 2 and not len(solution.weights)
    np.testing.assert_allclose(solution.intercept, made.outputs.astype(np.float64).mean(axis=0), atol=1e-4)


@pytest.mark.parametrize("m", [1, 2])
def test_too_few_models(made_problem, solved, m):
    made, _ = made_problem(d=D, m=m, n=2)
    outputs = np.arange(2.0 * m, dtype=np.float16).reshape(m, 2)
    solution = solved(dataclasses.replace(made, outputs=outputs, heldout=np.arange(m) == m - 1))
    assert solution.status == [problem.NO_ROWS] * 2


@pytest.mark.parametrize("solver", ["saga", "stream", "gram"])
def test_a_target_that_every_model_was_trained_on_has_no_rows_left(made_problem, solver):
    made, _ = made_problem(d=D, m=M, n=4, own=[5, 2, -1, 11], pinned_in=(5,), pinned_out=(11,))
    solution = fit(made, FitSpec(solver=solver, lambdas=6), 0, threads=1)
    assert solution.status == [problem.NO_ROWS, problem.OK, problem.OK, problem.OK]
    assert not len(solution.row(0)[0]) and 2 not in solution.row(1)[0]
    assert all(len(solution.row(j)[0]) for j in (1, 2, 3))


def test_an_output_beyond_float32_is_refused_at_the_door_by_name():
    """So that the fit never sees what rounding to float32 has made infinite."""
    run = committed.make_run()
    outputs = np.zeros((2, run.n))
    outputs[1, 3] = 1e39
    with pytest.raises(OutputsError, match=r"target 3 .* beyond float32, .* rescale"):
        committed.part.validate(run, range(0, 10), np.arange(2, dtype=np.int32), outputs, {})


def test_a_run_with_a_target_that_cannot_be_fitted_is_committed_with_its_status(tmp_path):
    run = committed.make_run(m=60, fit={"holdout": 0.04})  # 2 of 60 models held out
    store = LocalStore(tmp_path / "store")
    runs.create(store, run)
    committed.commit(store, run, failed=range(10, 60))
    fitter = Fitter(store, FitterSettings(scratch=str(tmp_path / "scratch"), device="cpu", threads=1))
    try:
        fitter.fit(run.name)
        assert list(fitter.watch(run.name))[-1].state is FitState.DONE
    finally:
        fitter.close()
    solution = fits.load(store, fits.read_newest_fit(store, run.name))
    assert solution.status == [problem.NO_ROWS] * run.n and not len(solution.weights)
