import numpy as np
import pytest

from datamodels.analyze.what_if.calibration import calibrate, subsets
from datamodels.analyze.what_if.retrain import Retrainer
from datamodels.errors import InputError, NotReadyError
from datamodels.run import designs
from datamodels.testing import linear


def ask(run, *, alpha, models=12, predict=None, modelled=None):
    def true(masks):
        members = designs.unpack(masks, run.design.columns)
        return members @ linear.theta(run.n).T + np.arange(run.n)

    modelled = np.ones(run.n, dtype=bool) if modelled is None else modelled
    retrainer = Retrainer(run, linear.load(), models)
    return calibrate(run, retrainer, predict or true, modelled, alpha=alpha, models=models)


@pytest.mark.parametrize("alpha", [0.25, 0.5, 0.75, 1])
def test_true_weights_of_a_linear_world_are_calibrated_everywhere(alpha):
    found = ask(linear.make_run(), alpha=alpha)
    assert found.bias == pytest.approx(0, abs=0.1) and found.slope == pytest.approx(1, abs=0.02)
    assert found.bias_interval[0] < found.bias < found.bias_interval[1]
    assert found.slope_interval[0] < found.slope < found.slope_interval[1]
    assert (found.models, found.targets, found.alpha) == (12, linear.N, alpha)
    assert found.predicted - found.true == pytest.approx(found.bias)


def test_predictions_of_another_scale_and_place_show_as_slope_and_bias():
    run = linear.make_run()
    found = ask(run, alpha=1, predict=lambda masks: np.tile(2 * linear.theta().sum(axis=1), (len(masks), 1)))
    true = linear.theta().sum(axis=1) + np.arange(linear.N)
    predicted = 2 * linear.theta().sum(axis=1)
    assert found.bias == pytest.approx((predicted - true).mean(), abs=0.1)
    assert found.slope == pytest.approx(np.polyfit(predicted, true, 1)[0], abs=0.02)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    covered = 0
    for seed in range(20):
        low, high = ask(linear.make_run(seed=seed), alpha=1, models=20).bias_interval
        covered += low <= 0 <= high
    assert covered >= 16


def test_training_examples_are_judged_by_models_without_them():
    run = linear.make_run(targets="train")
    assert ask(run, alpha=0.5, models=20).bias == pytest.approx(0, abs=0.1)
    with pytest.raises(NotReadyError, match="alpha = 1: 0 targets have 3 models trained without them"):
        ask(run, alpha=1)


def test_failed_models_and_targets_without_a_model_are_left_out():
    run = linear.make_run(trainer={"class": "datamodels.testing.linear:Diverging"})
    modelled = np.arange(linear.N) != 2
    found = ask(run, alpha=0.5, models=40, modelled=modelled)
    assert found.models < 40 and found.targets == linear.N - 1 and np.isfinite(found.bias)


@pytest.mark.parametrize("design", ["uniform", "complement", "stratified"])
def test_subsets_have_their_share_and_are_none_that_were_fitted(design):
    run = linear.make_run(design={"kind": design})
    members = designs.unpack(subsets(run, 0.75, 6), linear.D)
    assert (members.sum(axis=1) == 30).all() and len(np.unique(members, axis=0)) == 6
    own = designs.unpack(subsets(run, 0.5, 6), linear.D)
    known = designs.unpack(designs.subsets(run.design, 0, run.spec.m), linear.D)
    assert not (own[:, None] == known).all(axis=2).any()
    assert designs.unpack(subsets(run, 1, 2), linear.D).all()


@pytest.mark.parametrize(
    "asked, fault",
    [
        ({"alpha": 0}, "alpha = 0: must be above 0"),
        ({"alpha": 1.01}, "must be above 0 and at most 1"),
        ({"alpha": float("nan")}, "alpha = nan"),
        ({"alpha": 0.001}, "draws 0: must draw at least 1"),
        ({"alpha": 0.5, "models": 2}, "models = 2: must be at least 3"),
    ],
)
def test_bad_questions_are_refused(asked, fault):
    with pytest.raises(InputError, match=fault):
        ask(linear.make_run(), **asked)
