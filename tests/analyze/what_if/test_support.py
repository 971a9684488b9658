import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodels.analyze.what_if import support as supports
from datamodels.analyze.what_if.support import FOUND, NO_WEIGHTS, NONE, WRONG, support
from datamodels.errors import InputError, TargetRangeError
from datamodels.fit.data import problem
from datamodels.outputs import MARGIN
from datamodels.testing import linear


def solve(theta, intercept=0.0, status=problem.OK):
    n = len(theta)
    zeros = np.zeros(n)
    return problem.of_dense(
        theta, status=[status] * n, lambda_=zeros, gap=zeros, heldout_r2=zeros, intercept=zeros + intercept
    )


@pytest.fixture(scope="module")
def run():
    return linear.make_run()


@given(seed=st.integers(0, 10_000), intercept=st.floats(0, 2), safety=st.sampled_from([0.0, 0.3]))
def test_no_smaller_set_does_it(seed, intercept, safety):
    """Against every set of columns of a tiny problem."""
    run, rng = linear.make_run(), np.random.default_rng(seed)
    theta = np.zeros((1, linear.D))
    theta[0, :9] = rng.normal(0.2, 1, size=9)
    found = support(run, solve(theta, intercept), 0, limit=9, safety=safety)
    whole = theta.sum() + intercept
    smallest = None
    if whole >= 0:
        fits = (
            k
            for k in range(10)
            for removed in itertools.combinations(range(9), k)
            if whole - theta[0, list(removed)].sum() < -safety
        )
        smallest = next(fits, None)
    if found.status == FOUND:
        assert len(found.columns) == smallest
        assert found.curve[-1] == pytest.approx(whole - theta[0, found.columns].sum(), abs=1e-5)
        assert (found.curve[:-1] >= -safety).all() and found.curve[-1] < -safety
    else:
        assert smallest is None and found.status == (WRONG if whole < 0 else NONE)


def test_a_curve_ends_at_the_bounds_of_the_output_and_the_set_is_the_same(run):
    bounded = dataclasses.replace(run, declared=dataclasses.replace(MARGIN, highest=2.0, lowest=-0.01))
    raw, found = (support(one, solve(linear.theta(), 1.0), 0, limit=30) for one in (run, bounded))
    assert raw.status == FOUND and raw.curve[0] > 2 and raw.curve[-1] < -0.01
    np.testing.assert_array_equal(found.columns, raw.columns)
    np.testing.assert_array_equal(found.curve, raw.curve.clip(-0.01, 2))


def test_the_curve_is_the_prediction_as_columns_go_most_helpful_first(run):
    theta = linear.theta()
    found = support(run, solve(theta, 20.0), 0, limit=10)
    assert found.status == NONE and len(found.columns) == 10
    np.testing.assert_array_equal(found.columns, np.argsort(-theta[0], kind="stable")[:10])
    removed = np.ones(linear.D)
    for step, column in enumerate([None, *found.columns.tolist()]):
        if column is not None:
            removed[column] = 0
        assert found.curve[step] == pytest.approx(theta[0] @ removed + 20, abs=1e-4)


def test_a_larger_margin_of_safety_takes_more_examples(run):
    sizes = [len(support(run, solve(linear.theta()), 0, limit=40, safety=s).columns) for s in (0.0, 1.0, 3.0)]
    assert sizes == sorted(set(sizes))


def test_a_target_that_is_wrong_already_has_no_support(run):
    found = support(run, solve(linear.theta()), linear.N - 1)
    assert (found.status, len(found.columns), len(found.curve)) == (WRONG, 0, 1) and found.curve[0] < 0
    assert support(run, solve(linear.theta(), 5.0), linear.N - 2, threshold=5.5).status == WRONG


def test_none_found_is_said_at_the_limit_and_where_nothing_helps(run):
    assert support(run, solve(linear.theta(), 3.0), linear.N - 2).status == NONE
    found = support(run, solve(linear.theta(), 3.0), 0, limit=1)
    assert (found.status, len(found.columns), len(found.curve)) == (NONE, 1, 2)


def test_a_target_without_a_model_is_said_to_have_none(run):
    found = support(run, solve(linear.theta(), status=problem.NO_ROWS), 0)
    assert (found.status, len(found.columns)) == (NO_WEIGHTS, 0)


def test_it_stops_before_a_class_has_no_examples(run):
    theta = np.zeros((1, linear.D), dtype=np.float32)
    theta[0, run.labels == 2] = 1
    members = np.count_nonzero(run.labels == 2)
    # All of the class but one leave 1 - 0.5 >= 0, or 1 - 1.5 < 0.
    found = support(run, solve(theta, -0.5), 0, limit=40)
    assert (found.status, len(found.columns)) == (NONE, members - 1)
    found = support(run, solve(theta, -1.5), 0, limit=40)
    assert (found.status, len(found.columns)) == (FOUND, members - 1)


def test_a_training_example_is_not_in_its_own_support_nor_a_pinned_column():
    run = linear.make_run(targets="train", design={"pinned_in": [7], "pinned_out": [8]})
    theta = np.ones((run.n, linear.D), dtype=np.float32)
    found = support(run, solve(theta, -30.0), 3, limit=40)
    assert found.status == FOUND and not {3, 7, 8} & set(found.columns.tolist())
    assert found.curve[0] == pytest.approx(linear.D - 2 - 30)


@pytest.mark.parametrize(
    "asked, fault",
    [
        ({"limit": linear.D + 1}, f"limit = {linear.D + 1}: must be 1 to {linear.D}"),
        ({"limit": -1}, "limit = -1"),
        ({"safety": -0.1}, "safety = -0.1"),
        ({"safety": np.nan}, "safety = nan"),
        ({"threshold": np.inf}, "threshold = inf"),
    ],
)
def test_bad_questions_are_refused(run, asked, fault):
    with pytest.raises(InputError, match=fault):
        support(run, solve(linear.theta()), 0, **asked)
    with pytest.raises(TargetRangeError):
        support(run, solve(linear.theta()), linear.N)


def test_the_default_limit_is_a_share_of_the_columns(run):
    assert supports.default_limit(run) == 8


@given(seed=st.integers(0, 10_000), grouped=st.booleans())
def test_as_many_are_removable_as_leave_an_example_of_each_class(seed, grouped):
    """Against removing one column after the other. Groups have examples of several classes."""
    rng = np.random.default_rng(seed)
    run = linear.make_run()
    if grouped:
        groups = np.concatenate([np.arange(9), rng.integers(9, size=linear.D - 9)])
        run = dataclasses.replace(run, design=dataclasses.replace(run.design, kind="grouped", groups=groups))
    d = run.design.columns
    run = dataclasses.replace(run, labels=rng.choice([-7, 2, 3, 900], size=linear.D).astype(np.int32))
    base = rng.random(d) < 0.8
    order = rng.permutation(np.flatnonzero(base))[: rng.integers(d)]
    held = [set(run.labels[run.design.members(np.setdiff1d(np.flatnonzero(base), order[:k]))]) for k in range(d + 1)]
    expected = next((k - 1 for k in range(len(order) + 1) if held[k] != held[0]), len(order))
    assert supports.before_a_class_is_empty(run, base, order) == expected
