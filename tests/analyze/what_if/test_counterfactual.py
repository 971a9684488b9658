import dataclasses

import numpy as np
import pytest

from datamodels.analyze.quality.noise import Noise
from datamodels.analyze.what_if import pool
from datamodels.analyze.what_if.counterfactual import before_interval, counterfactual, weights_error
from datamodels.errors import InputError, MaskError, NotReadyError, TargetRangeError
from datamodels.fit.data import problem
from datamodels.outputs import SQUARED_ERROR
from datamodels.run import designs
from datamodels.testing import linear
from tests.analyze.what_if.test_support import solve

EMPTY = pool.NO_COLUMNS


def known(n, deviation=0.2, misfit=0.1):
    return Noise(np.full(n, deviation), np.full(n, misfit))


def ask(run, *, solution=None, noise=None, targets=(0,), base=None, remove=EMPTY, add=EMPTY, other_label=EMPTY):
    return counterfactual(
        run,
        solve(linear.theta(run.n)) if solution is None else solution,
        known(run.n) if noise is None else noise,
        100,
        targets=np.array(targets, dtype=np.int32),
        base=pool.whole(run) if base is None else base,
        remove=np.asarray(remove, dtype=np.int32),
        add=np.asarray(add, dtype=np.int32),
        other_label=np.asarray(other_label, dtype=np.int32),
    )


@pytest.fixture(scope="module")
def run():
    return linear.make_run()


def test_what_goes_and_what_comes_changes_the_prediction_by_its_weights(run):
    theta = linear.theta()
    base = np.arange(linear.D) < 20
    found = ask(run, targets=(2, 0), base=base, remove=[3, 5], add=[30])
    np.testing.assert_allclose(found.before, theta[[2, 0], :20].sum(axis=1), rtol=1e-5)
    np.testing.assert_allclose(found.change, theta[[2, 0], 30] - theta[[2, 0]][:, [3, 5]].sum(axis=1), rtol=1e-5)
    np.testing.assert_allclose(found.after, found.before + found.change)


def test_another_label_has_twice_the_effect_of_removal_and_twice_its_error(run):
    removed, relabelled = ask(run, remove=[3, 5]), ask(run, other_label=[3, 5])
    np.testing.assert_allclose(relabelled.change, 2 * removed.change)
    np.testing.assert_allclose(np.ptp(relabelled.change_interval), 2 * np.ptp(removed.change_interval))
    both = ask(run, remove=[3], other_label=[5])
    np.testing.assert_allclose(both.change, ask(run, remove=[3]).change + 2 * ask(run, remove=[5]).change)
    with pytest.raises(InputError, match="column 3 is not in the changed set"):
        ask(run, remove=[3], other_label=[3])
    with pytest.raises(InputError, match="no class labels"):
        ask(dataclasses.replace(run, labels=None), other_label=[3])
    with pytest.raises(InputError, match="leaves no example of class"):
        ask(run, other_label=np.flatnonzero(run.labels == run.labels[0]))


def test_intervals_hold_the_estimate_and_grow_with_what_is_removed(run):
    few, many = ask(run, remove=[0]), ask(run, remove=range(20))
    assert few.change_interval[0, 0] < few.change[0] < few.change_interval[0, 1]
    assert np.ptp(few.change_interval) < np.ptp(many.change_interval)
    assert np.ptp(few.after_interval) > np.ptp(few.change_interval)


def test_predictions_and_intervals_of_a_squared_error_end_at_0(run):
    squared = dataclasses.replace(run, declared=SQUARED_ERROR)
    raw, found = (ask(one, targets=range(run.n), remove=range(10), noise=known(run.n, 5.0)) for one in (run, squared))
    assert raw.before.min() < 0 and raw.after.min() < 0 and raw.before_interval.min() < 0
    for field in ("before", "after", "before_interval", "after_interval"):
        np.testing.assert_array_equal(getattr(found, field), np.maximum(getattr(raw, field), 0))
    np.testing.assert_array_equal(found.change, raw.change)
    noise, solution = known(run.n), solve(linear.theta(run.n))
    for target in range(run.n):
        low, high = before_interval(run, solution, noise, target)
        assert before_interval(squared, solution, noise, target) == (max(low, 0), max(high, 0))


def test_an_interval_that_nothing_tells_is_nan(run):
    found = ask(run, remove=[0], noise=known(run.n, np.nan, np.nan))
    assert np.isnan(found.change_interval).all() and np.isfinite(found.change).all()


def test_the_error_of_a_sum_of_weights_is_that_of_least_squares(run):
    rng, rows, chosen = np.random.default_rng(0), 4000, np.arange(linear.D) < 5
    x = designs.unpack(designs.subsets(run.design, 0, rows), linear.D).astype(float) - 0.5
    noise = rng.normal(size=(rows, 400))
    weights = np.linalg.lstsq(x, noise, rcond=None)[0]  # of least norm: subsets are of one size
    assert weights_error(run, chosen, rows) == pytest.approx(weights[chosen].sum(axis=0).std(), rel=0.15)


def test_a_training_example_is_asked_about_without_itself():
    run = linear.make_run(targets="train")
    theta = np.ones((run.n, linear.D), dtype=np.float32)
    theta[np.diag_indices(linear.D)] = 0  # as the fit has it
    found = ask(run, solution=solve(theta), targets=(4,), remove=[4, 6])
    assert found.change[0] == -1
    alone = ask(run, solution=solve(theta), targets=(4,), remove=[6])
    assert found.change_error[0] == pytest.approx(alone.change_error[0])


@pytest.mark.parametrize(
    "asked, error, fault",
    [
        ({}, InputError, "remove and add: both are empty"),
        ({"remove": [linear.D]}, MaskError, "column 40: must be 0 to 39"),
        ({"remove": [3, 3]}, InputError, "remove: names a column twice"),
        ({"add": [3]}, InputError, "column 3 is already in the set"),
        ({"remove": [9], "base": np.arange(linear.D) < 9}, InputError, "column 9 is not in the set"),
        ({"remove": range(1, linear.D, 4)}, InputError, "no example of class 1"),
        ({"remove": range(linear.D)}, InputError, "no examples to train on"),
        ({"remove": [1], "targets": (linear.N,)}, TargetRangeError, "target 6"),
        ({"remove": [1], "solution": solve(linear.theta(), status=problem.NO_ROWS)}, NotReadyError, "has no weights"),
    ],
)
def test_bad_questions_are_refused(run, asked, error, fault):
    with pytest.raises(error, match=fault):
        ask(run, **asked)


def test_the_effect_of_a_pinned_column_is_unknown():
    run = linear.make_run(design={"pinned_in": [7], "pinned_out": [8]})
    for asked in ({"remove": [7]}, {"add": [8]}):
        with pytest.raises(InputError, match="is pinned"):
            ask(run, **asked)
