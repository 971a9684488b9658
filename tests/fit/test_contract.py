"""What every estimator and solver owes: statuses, the same result however it is cut up, resumption, progress."""

import dataclasses
import threading

import numpy as np
import pytest

from datamodels.errors import StageError
from datamodels.fit.estimators.base import made_up_prior
from datamodels.fit.solve import fit
from datamodels.run.estimators import ESTIMATORS, GRAM, SOLVERS
from datamodels.run.specs import FitSpec
from tests.fit.solutions import relative_excess, same

WAYS = [(name, solver) for name, needs in ESTIMATORS.items() for solver in (SOLVERS if needs.solver else [GRAM])]


@pytest.fixture(params=WAYS, ids=[f"{name}-{solver}" if ESTIMATORS[name].solver else name for name, solver in WAYS])
def settings(request):
    """Every estimator, and by every solver if it has them."""
    estimator, solver = request.param
    return FitSpec(estimator=estimator, solver=solver, lambdas=4, batch=64, max_epochs=2000)


@pytest.fixture
def problem_for(settings, made_problem):
    """Makes problems with what the estimator needs. `own` is ignored if it takes no training examples as targets."""

    def make(d, m, n, own=None, **options):
        taken = "train" in ESTIMATORS[settings.estimator].targets
        made, _ = made_problem(d=d, m=m, n=n, own=own if taken else None, **options)
        return dataclasses.replace(made, prior=made_up_prior(settings, n, d))

    return make


def test_targets_that_cannot_be_fitted_do_not_hold_up_the_others(settings, problem_for):
    settings = settings.model_copy(update={"tolerance": 3e-6, "batch_size": 50, "lambdas": 8})
    made = problem_for(d=30, m=300, n=8, own=[-1, -1, -1, 6, -1, -1, 6, 2], pinned_in=(6,))
    outputs = made.outputs.copy()
    outputs[:, 1] = 1.0
    outputs[17, 4] = np.nan
    outputs[:, 5] = np.where(np.arange(300) == 299, np.inf, 1)
    broken = dataclasses.replace(made, outputs=outputs)
    solution, whole = fit(broken, settings, 0, threads=1), fit(made, settings, 0, threads=1)
    if solution.choice is not None:  # it is of all targets that can be fitted; what the others hold changes nothing
        outputs = np.where(np.isin(np.arange(8), (1, 4, 5)), np.nan, outputs)
        whole = fit(dataclasses.replace(made, outputs=outputs), settings, 0, threads=1)
    no_rows = "no_rows" if made.own_column[3] == 6 else "ok"
    assert solution.status == ["ok", "constant", "ok", no_rows, "not_finite", "not_finite", no_rows, "ok"]
    for j, status in enumerate(solution.status):
        if status == "ok":
            np.testing.assert_allclose(solution.dense([j]), whole.dense([j]), atol=1e-3)
            assert settings.estimator != "lasso" or relative_excess(broken, solution, j) < 1e-5
        else:
            assert not len(solution.row(j)[0])
            assert solution.intercept[j] == (1 if status == "constant" else 0)
            assert solution.lambda_[j] == 0 and np.isnan(solution.heldout_r2[j])


def test_no_target_can_be_fitted(settings, problem_for):
    made = problem_for(d=30, m=100, n=2)
    made = dataclasses.replace(made, outputs=np.ones_like(made.outputs))
    assert fit(made, settings, 0).status == ["constant", "constant"]


@pytest.mark.parametrize("m", [1, 2, 3])
def test_hardly_any_rows(settings, problem_for, m):
    made = problem_for(d=30, m=m, n=2)
    outputs = np.array([[1, -1], [-1, 1], [1, 1]], dtype=np.float32)[:m]
    made = dataclasses.replace(made, outputs=outputs, heldout=np.arange(m) == m - 1)
    solution = fit(made, settings, 0)
    assert solution.status == (["ok"] * 2 if m == 3 else ["no_rows"] * 2)
    assert np.isfinite(solution.weights).all() and np.isfinite(solution.intercept).all()


def test_outputs_that_masks_do_not_tell_get_no_weights(settings, problem_for):
    """All rows have one mask, so that no column varies and the lambda_max of the LASSO is 0."""
    made = problem_for(d=30, m=100, n=2)
    made = dataclasses.replace(made, masks=np.repeat(made.masks[:1], 100, axis=0))
    solution = fit(made, settings, 0)
    sparse = settings.estimator in ("lasso", "weighted") or ESTIMATORS[settings.estimator].folds  # it chooses the LASSO
    assert solution.status == ["no_signal" if sparse else "ok"] * 2 and not len(solution.weights)
    outputs = made.outputs > 0 if settings.estimator == "influence" else made.outputs
    np.testing.assert_allclose(solution.intercept, outputs.mean(axis=0), atol=1e-5)


def test_blocks_of_any_size_and_any_number_of_threads_fit_the_same(settings, problem_for):
    settings = settings.model_copy(update={"tolerance": 1e-5})
    made = problem_for(d=25, m=200, n=7, own=[-1, 4, -1, 4, 5, -1, 6])
    whole, single = fit(made, settings, 0), fit(made, settings, 0, block_targets=1)
    threes = fit(made, settings, 0, threads=1, block_targets=3)
    assert same(fit(made, settings, 0, threads=3, block_targets=3), threes)
    for cut in (single, threes):
        np.testing.assert_allclose(cut.lambda_, whole.lambda_, rtol=1e-9)
        np.testing.assert_allclose(cut.dense(range(7)), whole.dense(range(7)), atol=0.02 * np.abs(whole.weights).max())


def test_the_seed_matters_to_saga_alone(settings, problem_for):
    made = problem_for(d=25, m=200, n=5, own=[-1, 4, -1, 4, 5])
    draws = settings.estimator == "lasso" and settings.solver == "saga"
    once = fit(made, settings, 3)
    assert same(once, fit(made, settings, 3)) and same(once, fit(made, settings, 4)) != draws


def test_a_fit_reads_the_settings_that_are_declared(settings, problem_for):
    read = set()

    class Recorded(FitSpec):
        def __getattribute__(self, name):
            read.update({name} & FitSpec.model_fields.keys())
            return super().__getattribute__(name)

    fit(problem_for(d=20, m=120, n=3), Recorded(**settings.model_dump(by_alias=False)), 0, threads=1)
    declared = set(ESTIMATORS[settings.estimator].settings)
    assert read - {"estimator", "tolerance", "holdout"} <= declared
    assert declared - read <= {"batch_size", "gradients"}, "these are for targets by rows, and for the run"


class Killed(Exception):
    pass


def test_a_killed_fit_keeps_its_finished_blocks(settings, problem_for, tmp_path):
    made = problem_for(d=25, m=200, n=9, own=[-1, -1, -1, 4, 5, 6, -1, -1, 7])
    arguments = {"threads": 1, "block_targets": 3}
    whole = fit(made, settings, 0, **arguments)
    for done in (0, 3):

        def progress(now, done=done):
            if now.epochs:
                assert now.targets_done >= done, "finished blocks are not solved again"
            if now.targets_done == done + 3:
                raise Killed

        with pytest.raises(Killed):
            fit(made, settings, 0, checkpoint=tmp_path, progress=progress, **arguments)
    assert same(fit(made, settings, 0, checkpoint=tmp_path, **arguments), whole)


def test_it_stops_when_asked_and_goes_on_from_there(settings, problem_for, tmp_path):
    made = problem_for(d=40, m=300, n=2)
    stop = threading.Event()
    stop.set()
    with pytest.raises(StageError) as raised:
        fit(made, settings, 0, stop=stop, checkpoint=tmp_path)
    assert raised.value.exit_code == 143
    assert same(fit(made, settings, 0, checkpoint=tmp_path), fit(made, settings, 0))


def test_progress_never_falls_and_ends_at_1(settings, problem_for):
    seen = []
    solution = fit(problem_for(d=40, m=300, n=6), settings, 0, progress=seen.append)
    fractions = [now.fraction for now in seen]
    assert fractions == sorted(fractions) and fractions[-1] == pytest.approx(1)
    assert seen[-1].targets_done == seen[-1].targets == 6
    assert seen[-1].stage == "done" and seen[-1].gap == solution.gap.max() <= settings.tolerance
    if solution.lambda_.any():
        assert seen[0].stage == "path" and seen[-1].gap > 0 and seen[-1].epochs > 3


def test_float16_outputs(settings, problem_for):
    made = problem_for(d=25, m=200, n=4, own=[-1, 3, -1, 4])
    half = made.outputs.astype(np.float16)
    ours = fit(dataclasses.replace(made, outputs=half), settings, 0)
    assert same(ours, fit(dataclasses.replace(made, outputs=half.astype(np.float32)), settings, 0))


def test_masks_and_outputs_from_disk(settings, problem_for, tmp_path):
    made = problem_for(d=25, m=200, n=4)
    half = dataclasses.replace(made, outputs=made.outputs.astype(np.float16))
    for name in ("outputs", "masks"):
        np.save(tmp_path / name, getattr(half, name))
    mapped = {name: np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in ("outputs", "masks")}
    assert same(fit(dataclasses.replace(half, **mapped), settings, 0), fit(half, settings, 0))
