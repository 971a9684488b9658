import dataclasses

import numpy as np
import pytest

from datamodels.analyze.patterns import leakage, review
from datamodels.analyze.what_if import mislabel
from datamodels.analyze.what_if.support import FOUND, NONE, support
from datamodels.errors import InputError, NotReadyError
from datamodels.fit.data import problem
from datamodels.testing import linear
from tests.analyze.what_if.test_support import solve


@pytest.fixture(scope="module")
def run():
    return linear.make_run()


def test_what_helps_and_harms_overall_is_the_mean_weight(run):
    theta = linear.theta()
    helpful, harmful = review.overall(run, solve(theta), 4)
    mean = theta.mean(axis=0)
    np.testing.assert_array_equal(helpful.column, np.argsort(-mean)[:4])
    np.testing.assert_array_equal(harmful.column, np.argsort(mean)[:4])
    for found in (helpful, harmful):
        np.testing.assert_allclose(found.mean, mean[found.column], rtol=1e-5)
        assert (found.interval[:, 0] < found.mean).all() and (found.mean < found.interval[:, 1]).all()


def test_of_the_mean_weights_the_part_that_was_measured():
    run = linear.make_run(targets="both")
    theta, part = linear.theta(run.n), np.where(np.arange(linear.D) % 2, 0.25, -1)
    solution = problem.of_dense(
        theta,
        status=[problem.OK] * run.n,
        **dict.fromkeys(("lambda_", "gap", "heldout_r2", "intercept"), np.zeros(run.n)),
        measured=theta * part,
    )
    for found in review.overall(run, solution, 4):
        np.testing.assert_allclose(found.measured, found.mean * part[found.column], rtol=1e-5)
    assert review.overall(run, solve(theta), 4)[0].measured is None


def test_the_interval_is_that_of_the_mean_over_targets():
    """With many targets, it is close to the normal interval."""
    run = linear.make_run(targets="train")
    run = dataclasses.replace(run, own=np.full(2000, -1, dtype=np.int32), target_labels=np.zeros(2000, dtype=np.int32))
    theta = np.random.default_rng(0).normal(0.1, 1, size=(2000, linear.D)).astype(np.float32)
    found, _ = review.overall(run, solve(theta), 5)
    half = 1.96 * theta[:, found.column].std(axis=0) / 2000**0.5
    np.testing.assert_allclose(found.interval[:, 1] - found.mean, half, rtol=0.15)
    np.testing.assert_allclose(found.mean - found.interval[:, 0], half, rtol=0.15)


def test_targets_in_the_pool_and_those_without_a_model_do_not_count():
    run = linear.make_run(targets="both")
    theta = linear.theta(run.n)
    solution = solve(theta)
    solution.status[0] = problem.NO_ROWS
    helpful, _ = review.overall(run, solution, 1)
    assert helpful.mean[0] == pytest.approx(theta[1 : linear.N].mean(axis=0).max(), rel=1e-5)
    with pytest.raises(NotReadyError, match="no target has weights"):
        review.overall(run, dataclasses.replace(solution, status=[problem.NO_ROWS] * run.n), 1)


def test_fragile_targets_are_those_of_small_supports(run):
    solution = solve(linear.theta(), np.arange(linear.N) / 2)
    found = review.fragile(run, solution, 10, 0.5)
    supports = [support(run, solution, target, limit=20) for target in range(linear.N)]
    expected = sorted((len(s.columns), s.target) for s in supports if s.status == FOUND)
    assert len(expected) > 1
    assert [*zip(found.size.tolist(), found.target.tolist(), strict=True)] == expected
    assert (found.limit, found.count, found.wrong) == (20, len(expected), 1)
    assert found.of == len(expected) + sum(s.status == NONE for s in supports)
    assert found.interval[0] < found.count / found.of < found.interval[1]
    assert len(review.fragile(run, solution, 1, 0.5).target) == 1


def test_all_tables_at_once_and_why_one_is_missing(run):
    solution = solve(linear.theta())
    found = review.review(run, solution, k=3, share=0.5)
    assert found.left_out == {} and found.suspects.by == mislabel.HARM and found.leaked.by == leakage.BY_INPUTS
    run = linear.make_run(targets="train", design={"pinned_in": [0]})
    found = review.review(run, solve(linear.theta(run.n)), k=3, share=0.5)
    assert found.leaked is None and "all its targets are training examples" in found.left_out["leaked"]
    assert found.suspects.by == mislabel.OWN


def test_without_the_data_set_leaks_are_ranked_by_weights_and_why_is_said(run):
    gone = {"load": "tests.gone:load"}
    elsewhere = dataclasses.replace(
        run, spec=run.spec.model_copy(update={"dataset": run.spec.dataset.model_copy(update=gone)})
    )
    found = leakage.find(elsewhere, solve(linear.theta()), 3)
    assert found.by == leakage.BY_WEIGHTS and "tests.gone" in found.reason


@pytest.mark.parametrize(
    "asked, fault", [({"k": 0}, "k = 0"), ({"share": 0.0}, "share = 0.0"), ({"share": np.nan}, "share = nan")]
)
def test_bad_questions_are_refused(run, asked, fault):
    with pytest.raises(InputError, match=fault):
        review.review(run, solve(linear.theta()), **{"k": 3, "share": 0.1} | asked)
