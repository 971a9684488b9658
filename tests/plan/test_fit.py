import dataclasses

import numpy as np
import pytest

from datamodels.fit.data import moments, rows
from datamodels.fit.lasso import gram
from datamodels.fit.memory import Size
from datamodels.plan import fit as plan
from datamodels.plan.fit import Rates
from datamodels.run.estimators import ESTIMATORS, SOLVERS
from datamodels.run.specs import FitSpec


def test_what_is_made_up_is_like_the_run_but_smaller():
    size = Size(rows=6000, columns=1000, targets=300, leave_out=100, alpha=0.3)
    made = plan.made_up(size, 100, 30, FitSpec(estimator="lasso"))
    assert (made.rows, made.columns, made.n) == (600, 100, 30)
    assert np.count_nonzero(made.own_column >= 0) == 10
    assert made.heldout.mean() == pytest.approx(0.1, abs=0.01)
    assert made.center[0] == pytest.approx(0.3)
    assert np.isfinite(made.outputs).all()


@pytest.mark.parametrize("size", [Size(20, 2, 1), Size(50, 2, 1, leave_out=1), Size(100, 3, 5, leave_out=5, alpha=0.9)])
def test_the_smallest_runs_can_be_planned(size):
    for solver in SOLVERS:
        found = plan.plan(size, FitSpec(solver=solver, lambdas=3, holdout=0.2))
        assert 0 <= found.cpu_seconds < np.inf and found.memory.peak > 0


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_every_estimator_can_be_planned(estimator):
    found = plan.plan(Size(60, 30, 4), FitSpec(estimator=estimator, lambdas=3))
    assert 0 <= found.cpu_seconds < np.inf and found.memory.peak > 0


def test_seconds_add_up():
    size, settings = Size(3000, 500, 1000), FitSpec(solver="stream")
    rates = Rates(shared=2.0, target=0.01)
    one = plan.of_rates(size, settings, rates, threads=1)
    assert one.cpu_seconds == one.seconds == pytest.approx(12)
    three = plan.of_rates(size, settings, rates, threads=3, block=250)
    assert three.cpu_seconds == pytest.approx(12)
    assert three.seconds == pytest.approx(2 / 3 + 10 / 2), "four blocks by three threads take two rounds"


@pytest.mark.parametrize("own", [0, 40])
def test_a_problem_can_be_timed_on_its_own_targets(own):
    """How long it takes is for benchmarks/fit/plan.py to say."""
    given = plan.made_up(Size(400, 60, 80, leave_out=own), 60, 80, FitSpec(estimator="lasso"))
    for solver in ("gram", "stream"):
        found = plan.measure_rates_on(given, FitSpec(solver=solver, lambdas=4))
        assert 0 < found.target < np.inf and 0 <= found.shared < np.inf


def test_a_fit_in_panels_is_timed_in_panels(monkeypatch):
    """With times of one second each: the work on masks grows with m d^2, the edge with d^2, a target with d."""
    monkeypatch.setattr(gram, "GRAM_BYTES", 0)
    monkeypatch.setattr(plan, "PANEL_TRIAL_COLUMNS", (100, 200))
    settings, called = FitSpec(estimator="lasso", lambdas=3), []
    monkeypatch.setattr(plan, "_target_seconds", lambda *arguments: called.append(arguments))
    monkeypatch.setattr(plan, "_timed", lambda call: (call(), 1.0)[1])
    small, large = (plan.measure_rates(Size(6 * d, d, 50), settings) for d in (200, 600))
    assert not called
    assert large.target == pytest.approx(3 * small.target), "equal times at both sizes grow with d"
    pieces = 1200 / moments.PANEL_ROWS
    assert small.shared == pytest.approx(1 + pieces) and large.shared == pytest.approx(9 * (1 + 3 * pieces))


def test_a_streamed_fit_shares_the_rows_on_which_curvature_is_measured(monkeypatch):
    """If these take a second for 500 rows of 100 columns, they take 20 for 1,000 rows of 1,000 columns."""
    monkeypatch.setattr(plan, "TRIAL_MASK_COLUMNS", 100)
    monkeypatch.setattr(rows, "MEASURED_BYTES", 1000 * 4 * 1001)
    monkeypatch.setattr(plan, "_target_seconds", lambda problem, *arguments: problem.columns * 2.0)
    monkeypatch.setattr(plan, "_timed", lambda call: (call(), 1.0)[1])
    found = plan.measure_rates(Size(5000, 1000, 2), FitSpec(estimator="lasso", solver="stream"))
    assert found.shared == pytest.approx(20) and found.target == pytest.approx(2000)


def test_a_fit_that_is_too_large_for_its_solver_is_timed_by_the_one_that_takes_it():
    settings, large = FitSpec(estimator="lasso"), Size(3_000_000, 600_000, 500)
    for size in (large, dataclasses.replace(large, leave_out=500), dataclasses.replace(large, leave_out=20)):
        assert plan.rehearsed(size, settings, "cpu").solver == "stream"
    for size in (Size(6000, 1000, 500), Size(6000, 1000, 500, leave_out=20), Size(300_000, 50_000, 9, leave_out=9)):
        assert plan.rehearsed(size, settings, "cpu") == settings
    saga = FitSpec(estimator="lasso", solver="saga")
    assert plan.rehearsed(large, saga, "cpu") == saga


def test_pods_share_the_targets_and_repeat_the_work_on_the_masks():
    size, settings = Size(3000, 500, 1000), FitSpec(solver="stream")
    rates = Rates(shared=2.0, target=0.01)
    alone, three, many = (plan.on_pods(size, settings, rates, n, threads=2, block=250) for n in (1, 3, 99))
    assert alone.seconds == plan.of_rates(size, settings, rates, threads=2, block=250).seconds == pytest.approx(1 + 5)
    assert three.seconds == pytest.approx(1 + 2.5), "one of the pods has two blocks, which it solves side by side"
    assert (many.pods, many.seconds) == (4, pytest.approx(1 + 2.5)) and many.hours == pytest.approx(4 * 3.5 / 3600)
    assert many.read_bytes == 3000 * 1000 * 4 and many.disk_bytes >= many.read_bytes
