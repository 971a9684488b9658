import numpy as np
import pytest

from datamodels.analyze.what_if import pool
from datamodels.analyze.what_if.retrain import Measured, Retrainer, conclusion, measure, measure_relabelled
from datamodels.analyze.what_if.support import FOUND, support
from datamodels.errors import InputError, StageError
from datamodels.outputs import MARGIN, SQUARED_ERROR
from datamodels.testing import linear
from tests.analyze.what_if.test_support import solve


def test_retrained_models_are_those_of_the_sets_and_share_their_seeds():
    run = linear.make_run()
    sets = [pool.whole(run), pool.whole(run) & (np.arange(linear.D) != 3)]
    found = Retrainer(run, linear.load(), 5).outputs(sets)
    assert found.shape == (2, 5, linear.N)
    theta = linear.theta()
    np.testing.assert_allclose(found[0].mean(axis=0), theta.sum(axis=1) + np.arange(linear.N), atol=0.3)
    np.testing.assert_allclose((found[0] - found[1]).T, theta[:, [3]].repeat(5, axis=1), atol=1e-4)
    assert len(np.unique(found[0, :, 0])) == 5


def test_a_set_is_trained_once(tmp_path):
    run = linear.make_run()
    retrainer = Retrainer(run, linear.load(), 2)
    first = retrainer.outputs([pool.whole(run)])
    np.testing.assert_array_equal(retrainer.outputs([pool.whole(run), pool.whole(run)]), first.repeat(2, axis=0))


def test_single_models_have_seeds_of_their_own_on_equal_sets_too():
    run = linear.make_run()
    retrainer = Retrainer(run, linear.load(), 3)
    found = retrainer.singles([pool.whole(run)] * 3)
    np.testing.assert_array_equal(found, retrainer.outputs([pool.whole(run)])[0])
    assert len(np.unique(found[:, 0])) == 3


def test_supports_flip_where_the_world_is_linear():
    run = linear.make_run()
    solution = solve(linear.theta(), np.arange(linear.N))
    found = [support(run, solution, target, limit=40, safety=0.5) for target in range(linear.N)]
    found = [s for s in found if s.status == FOUND]
    assert found
    whole = pool.whole(run)
    retrainer = Retrainer(run, linear.load(), 8)
    measured = measure(retrainer, run, [(s.target, whole & ~pool.members_of(run, s.columns, "support")) for s in found])
    assert all(m.share == 1 and m.share_interval[0] > 0.6 for m in measured)
    for s, m in zip(found, measured, strict=True):
        assert m.interval[0] - 0.1 < s.curve[-1] < m.interval[1] + 0.1
    assert all(m.flipped == 0 for m in measure(retrainer, run, [(s.target, whole) for s in found]))


def test_a_training_example_is_never_trained_on_itself():
    run = linear.make_run(targets="train")
    (found,) = measure(Retrainer(run, linear.load(), 4), run, [(3, pool.whole(run))])
    theta = linear.theta(run.n)[3]
    assert found.mean == pytest.approx(theta.sum() - theta[3] + 3, abs=0.3)


def test_labels_are_changed_for_the_models_that_ask_for_it_alone():
    run = linear.make_run(trainer={"class": "datamodels.testing.linear:Labelled"}, targets="both")
    retrainer, columns = Retrainer(run, linear.load(), 4), np.array([5, 9])
    (whole,) = measure(retrainer, run, [(0, pool.whole(run))])
    found = measure_relabelled(retrainer, run, 0, columns, 2)
    theta = linear.theta(run.n)
    assert found.mean - whole.mean == pytest.approx(-2 * theta[0, columns].sum(), abs=1e-4)
    assert measure_relabelled(retrainer, run, 0, columns, 1).mean == pytest.approx(whole.mean, abs=1e-4)
    assert measure(retrainer, run, [(0, pool.whole(run))])[0].mean == whole.mean
    own = measure_relabelled(retrainer, run, linear.N + 9, columns, 2)  # column 9 is the target itself
    (before,) = measure(retrainer, run, [(linear.N + 9, pool.whole(run))])
    assert own.mean - before.mean == pytest.approx(-2 * theta[linear.N + 9, 5], abs=1e-4)


def test_failed_models_are_tried_once_more_and_then_left_out():
    run = linear.make_run(trainer={"class": "datamodels.testing.linear:Diverging"})
    (found,) = measure(Retrainer(run, linear.load(), 40), run, [(0, pool.whole(run))])
    assert 20 < len(found.outputs) < 40 and np.isfinite(found.outputs).all()


def test_when_all_failed_that_is_said():
    with pytest.raises(StageError, match="trainer check"):
        Measured(np.zeros(0), MARGIN)


def test_bad_questions_are_refused():
    run = linear.make_run()
    with pytest.raises(InputError, match="models = 1: must be 2"):
        Retrainer(run, linear.load(), 1)
    with pytest.raises(InputError, match="has no examples"):
        Retrainer(run, linear.load(), 2).outputs([np.zeros(linear.D, dtype=bool)])


def test_the_interval_of_a_mean_squared_error_ends_at_0():
    errors = np.array([0.0, 0.01, 0.3])
    low, high = Measured(errors, MARGIN).interval
    assert low < 0 and Measured(errors, SQUARED_ERROR).interval == (0, high)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (0, 20, "confirmed"),
        (8, 18, "confirmed"),
        (0, 13, "unclear"),
        (0, 3, "refuted"),
        (11, 20, "wrong_before"),
        (20, None, "wrong_before"),
        (3, None, "right_before"),
    ],
)
def test_what_follows_from_models_without_a_support(before, after, expected):
    def wrong(count):
        return None if count is None else Measured(np.where(np.arange(20) < count, -1.0, 1.0), MARGIN)

    assert conclusion(wrong(before), wrong(after)) == expected


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [([0.25, 0.25], "refuted"), ([-0.25, -0.25], "confirmed"), ([0.25, 0.26], "unclear"), ([1.0, 1.0], "unclear")],
)
def test_two_models_say_all_if_the_seed_changes_nothing(outputs, expected):
    """Whole numbers, such as hits, may be the same by chance."""
    before, after = (Measured(np.array(found), MARGIN) for found in ([0.5, 0.5], outputs))
    assert conclusion(before, after) == expected
    assert after.certain == (expected != "unclear")
