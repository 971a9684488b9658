import numpy as np
import pytest

from datamodels.aggregate.manifest import NONE, Snapshot
from datamodels.analyze.quality import noise
from datamodels.fit.data import problem
from datamodels.storage.local import LocalStore
from datamodels.testing import committed


def measured(folder, *, wrong_by=0.0, **fields):
    """The noise of the true weights, all but target 2's, whose weights are too large by a share."""
    store, run = LocalStore(folder), committed.make_run(**fields)
    snapshot = committed.commit(store, run)
    theta = committed.truth(run).T
    theta[2] *= 1 + wrong_by
    zeros = np.zeros(run.n)
    status = [problem.OK] * (run.n - 1) + [problem.NO_ROWS]
    solution = problem.of_dense(theta, status=status, lambda_=zeros, gap=zeros, heldout_r2=zeros, intercept=zeros)
    return noise.measure(run, snapshot, store, solution)


def test_true_weights_leave_the_noise_of_training_and_no_misfit(tmp_path):
    found = measured(tmp_path, evaluate={"subsets": 60, "models": 4})
    np.testing.assert_allclose(found.deviation[:-1], 0.1, rtol=0.2)
    assert (found.misfit[:-1] < 0.05).all()


def test_weights_that_are_wrong_by_a_share_are_found_to_be(tmp_path):
    found = measured(tmp_path, wrong_by=0.5, evaluate={"subsets": 60, "models": 4})
    theta = committed.truth(committed.make_run())[:, 2]
    # Predictions of 1.5 theta miss by a third of their own spread, and by their mean.
    mean = theta.sum() / 2
    spread = np.sqrt(0.25 * ((theta - theta.mean()) ** 2).sum() * 30 / 29)
    expected = np.hypot(0.5 * spread, 0.5 * mean) / (1.5 * spread)
    assert found.misfit[2] == pytest.approx(expected, rel=0.2)


def test_without_unseen_subsets_the_models_that_lambda_was_chosen_on_tell(tmp_path):
    found = measured(tmp_path, m=1000, evaluate={"subsets": 0, "models": 2})
    np.testing.assert_allclose(found.deviation[:-1], 0.1, rtol=0.35)
    assert (found.misfit[:-1] > 0.02).all()


def test_a_target_without_a_model_and_a_run_without_outputs_have_none(tmp_path):
    assert np.isnan(measured(tmp_path / "a").deviation[-1])
    run = committed.make_run()
    zeros = np.zeros(run.n)
    solution = problem.of_dense(
        committed.truth(run).T,
        status=[problem.OK] * run.n,
        lambda_=zeros,
        gap=zeros,
        heldout_r2=zeros,
        intercept=zeros,
    )
    found = noise.measure(run, Snapshot(run.name, NONE, ()), LocalStore(tmp_path / "b"), solution)
    assert np.isnan(found.deviation).all() and np.isnan(found.misfit).all()
