import dataclasses

import numpy as np
import pytest

from datamodels.analyze.quality.evaluate import evaluate, record, recorded
from datamodels.analyze.quality.unseen import Unseen, counting_subsets, targets_to_show
from datamodels.errors import NotReadyError
from datamodels.fit.data import problem
from datamodels.outputs import LOSS
from datamodels.run import designs
from datamodels.storage.local import LocalStore
from datamodels.testing import committed


def solution_of(run):
    n = run.n
    fields = {"lambda_": np.zeros(n), "gap": np.zeros(n), "heldout_r2": np.zeros(n), "intercept": np.zeros(n)}
    return problem.of_dense(committed.truth(run).T, status=[problem.OK] * n, **fields)


@pytest.mark.parametrize("targets", ["test", "train"])
def test_the_true_weights_of_a_run_explain_nearly_all(tmp_path, targets):
    store = LocalStore(tmp_path)
    run = committed.make_run(targets=targets, m=40, evaluate={"subsets": 20, "models": 3})
    snapshot, reports = committed.commit(store, run), []
    unseen = Unseen.read(run, snapshot, store)
    found = unseen.predicted_by(solution_of(run)).quality(resamples=50, progress=reports.append)
    assert found.mean.r2 > found.single.r2 > 0.9
    assert found.mean.r2 == pytest.approx(found.mean.ceiling, abs=0.05)
    assert reports == sorted(reports) and reports[-1] == pytest.approx(1)
    assert found.evaluation.subsets == 20 and np.isfinite(found.points.mean).all()


def test_a_run_without_unseen_models_is_told_so(tmp_path):
    store, run = LocalStore(tmp_path), committed.make_run()
    snapshot = committed.commit(store, run, stop=100)
    with pytest.raises(NotReadyError, match="0 of 3 unseen subsets"):
        Unseen.read(run, snapshot, store).predicted_by(solution_of(run)).quality()
    run = committed.make_run(evaluate={"subsets": 0})
    with pytest.raises(NotReadyError, match="subsets is 0"):
        Unseen.read(run, committed.commit(store, run), store)


@pytest.fixture
def unseen(tmp_path):
    """Of a run whose targets are test examples and then training examples; some models failed."""
    store = LocalStore(tmp_path)
    run = committed.make_run(targets="both", m=40, evaluate={"subsets": 6, "models": 3})
    return Unseen.read(run, committed.commit(store, run, failed=(3, 41)), store)


def test_the_outputs_are_those_of_the_models_on_the_subsets_behind_those_of_fits(unseen):
    run = unseen.run
    assert unseen.outputs.shape == (6, 3, run.n)
    missing = np.isnan(unseen.outputs).all(axis=2)
    assert np.flatnonzero(missing).tolist() == [1] and np.isnan(unseen.outputs).sum() == run.n
    for i, members in enumerate(unseen.members):
        assert (np.flatnonzero(members) == designs.subset(run.design, 40 + i)).all()
    # The models differ from the truth by their noise alone.
    truth = unseen.members @ committed.truth(run)
    np.testing.assert_allclose(np.nanmean(unseen.outputs, axis=1), truth, atol=0.5)


def test_a_target_counts_only_on_subsets_without_it_and_only_if_it_has_a_model(unseen):
    run = unseen.run
    modelled = np.ones(run.n, dtype=bool)
    modelled[2] = False
    counts = counting_subsets(run, unseen.masks, modelled)
    assert counts[:, :2].all() and not counts[:, 2].any()
    own = committed.N + 7  # the test examples come first
    assert (counts[:, own] == ~unseen.members[:, 7]).all()
    tests = committed.make_run(m=40, evaluate={"subsets": 6, "models": 3})
    assert counting_subsets(tests, unseen.masks, np.ones(tests.n, dtype=bool)) is None


def test_predictions_of_a_fit_and_of_anything_else_are_scored_alike(unseen):
    solution = solution_of(unseen.run)
    by_fit = unseen.predicted_by(solution)
    counts = counting_subsets(unseen.run, unseen.masks, solution.modelled)
    expected = evaluate(solution.predict(unseen.members), unseen.outputs, counts=counts, seed=unseen.run.spec.seed)
    assert by_fit.evaluate().document() == expected.document()
    chosen = np.array([4, 1])
    some = unseen.with_predictions(by_fit.predicted[:, chosen], solution.modelled, chosen).evaluate()
    ratios = some.per_target / expected.per_target[chosen]  # LDS of 3 models are corrected by the targets scored
    np.testing.assert_allclose(ratios, ratios[0], rtol=1e-3)


def test_an_evaluation_is_recorded_once(tmp_path, unseen):
    store = LocalStore(tmp_path / "records")
    found, other = (unseen.predicted_by(solution_of(unseen.run)).evaluate(resamples=r) for r in (20, 40))
    assert recorded(store, "r", 0) is None
    record(store, "r", 0, found)
    record(store, "r", 0, other)
    assert recorded(store, "r", 0).document() == found.document() != other.document()


def test_targets_to_show_are_spread_by_their_mean_output():
    outputs = np.tile(np.array([5.0, 1.0, 4.0, 2.0, 3.0]), (2, 3, 1))
    run = committed.make_run()
    assert targets_to_show(run, outputs, 3) == [1, 4, 0]
    assert targets_to_show(run, outputs, 9) == [1, 3, 4, 2, 0]
    assert targets_to_show(dataclasses.replace(run, declared=LOSS), outputs, 3) == [0, 4, 1]
    outputs[:, :, 1], outputs[0, 0, 4] = np.nan, np.nan
    assert targets_to_show(run, outputs, 9) == [3, 4, 2, 0, 1]
    assert targets_to_show(run, None, 2) == [0, 4]
