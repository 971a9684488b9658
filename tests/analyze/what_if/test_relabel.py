import dataclasses

import numpy as np
import pytest

from datamodels.analyze.what_if import mislabel, relabel
from datamodels.analyze.what_if.relabel import NO_LABEL, relabelling
from datamodels.analyze.what_if.retrain import Retrainer, measure_relabelled
from datamodels.analyze.what_if.support import FOUND, NO_WEIGHTS, NONE, WRONG, support
from datamodels.errors import InputError, TargetRangeError
from datamodels.fit.data import problem
from datamodels.testing import linear
from tests.analyze.what_if.test_support import solve


@pytest.fixture(scope="module")
def run():
    return linear.make_run(trainer={"class": "datamodels.testing.linear:Labelled"})


def test_the_label_is_that_whose_examples_harm_most(run):
    theta = linear.theta()
    for target in range(linear.N):
        harm = {label: np.minimum(theta[target, run.labels == label], 0).sum() for label in (0, 2, 3)}
        assert relabel.most_harmful_label(run, solve(theta), target) == min(harm, key=harm.get)


@pytest.mark.parametrize("targets", ["test", "both"])
def test_a_suspect_gets_the_label_that_its_weights_suggest(targets):
    """By their harm, the label whose targets they help most; as targets, the label whose examples harm them most."""
    run = linear.make_run(targets=targets)
    theta = linear.theta(run.n)
    if targets == "both":
        theta[-1] = np.abs(theta[-1])  # nothing harms it
    suspects = mislabel.suspects(run, solve(theta), linear.D)
    labels = dict(zip(suspects.example.tolist(), relabel.suggested(run, solve(theta), suspects), strict=True))
    for example, label in labels.items():
        others = [k for k in range(4) if k != run.labels[example]]
        if targets == "test":
            gain = [theta[run.target_labels == k, example].clip(0).sum() for k in others]
        else:
            gain = [-theta[run.own == example][:, run.labels == k].clip(max=0).sum() for k in others]
        assert label == (others[np.argmax(gain)] if max(gain) > 0 else None)
    assert targets == "test" or labels[run.own[-1]] is None


def test_the_fewest_most_helpful_labels_are_changed(run):
    """Against the definition, column by column."""
    theta = linear.theta()
    for target in range(linear.N - 2):
        found = relabelling(run, solve(theta, np.arange(linear.N)), target, limit=40, safety=0.5)
        order = [c for c in np.argsort(-theta[target], kind="stable") if run.labels[c] != found.label]
        value, chosen = theta[target].sum() + target, []
        while value >= -0.5:
            value -= 2 * theta[target, order[len(chosen)]]
            chosen.append(order[len(chosen)])
        assert (found.support.status, found.support.columns.tolist()) == (FOUND, chosen)
        assert found.support.curve[-1] == pytest.approx(value, abs=1e-4)


def test_a_mislabel_support_flips_where_a_changed_label_does_the_contrary(run):
    solution, retrainer = solve(linear.theta(), np.arange(linear.N)), Retrainer(run, linear.load(), 4)
    for target in range(3):
        found = relabelling(run, solution, target, limit=40, safety=0.5)
        measured = measure_relabelled(retrainer, run, target, found.support.columns, found.label)
        assert measured.share == 1 and measured.mean == pytest.approx(found.support.curve[-1], abs=0.3)


def test_it_is_smaller_than_a_support(run):
    solution = solve(linear.theta(), np.arange(linear.N))
    for target in range(3):
        changed, removed = (ask(run, solution, target, limit=40) for ask in (relabelling, support))
        assert len(changed.support.columns) <= len(removed.columns)


def test_targets_that_have_none_say_why(run):
    assert relabelling(run, solve(linear.theta()), linear.N - 1).support.status == WRONG
    assert relabelling(run, solve(linear.theta(), 3.0), linear.N - 2).support.status == NONE
    found = relabelling(run, solve(linear.theta(), status=problem.NO_ROWS), 0)
    assert (found.support.status, found.label) == (NO_WEIGHTS, NO_LABEL)


def test_bad_questions_are_refused(run):
    solution = solve(linear.theta())
    with pytest.raises(TargetRangeError):
        relabelling(run, solution, linear.N)
    with pytest.raises(InputError, match="limit = 41"):
        relabelling(run, solution, 0, limit=41)
    with pytest.raises(InputError, match="no class labels"):
        relabelling(dataclasses.replace(run, labels=None), solution, 0)
    with pytest.raises(InputError, match="no label but that of target 0"):
        relabelling(dataclasses.replace(run, labels=np.ones(linear.D, dtype=np.int32)), solution, 0)
