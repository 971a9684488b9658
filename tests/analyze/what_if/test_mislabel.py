import dataclasses

import numpy as np
import pytest

from datamodels.analyze.what_if import mislabel
from datamodels.errors import InputError, NotReadyError
from datamodels.fit.data import problem
from datamodels.testing import linear
from tests.analyze.what_if.test_support import solve


def test_by_harm_a_wrong_label_moves_others_and_does_not_help_its_own():
    run = linear.make_run()
    theta = linear.theta()
    found = mislabel.suspects(run, solve(theta), linear.D)
    same = run.target_labels[:, None] == run.labels
    score = (np.abs(theta) * ~same).sum(axis=0) - (theta * same).sum(axis=0)
    assert found.by == mislabel.HARM
    np.testing.assert_array_equal(found.example, np.argsort(-score, kind="stable"))
    np.testing.assert_allclose(found.score, np.sort(score)[::-1], rtol=1e-5)


def test_by_own_what_models_say_that_have_not_seen_it():
    run = linear.make_run(targets="both")
    theta, intercept = linear.theta(run.n), np.linspace(-20, 3, run.n)
    solution = dataclasses.replace(solve(theta, intercept), status=[problem.OK] * (run.n - 1) + [problem.NO_ROWS])
    found = mislabel.suspects(run, solution, linear.D)
    expected = -(intercept + 0.5 * theta.sum(axis=1))[linear.N : -1]
    assert found.by == mislabel.OWN and linear.D - 1 not in found.example  # the one without a model
    np.testing.assert_array_equal(found.example, np.argsort(-expected, kind="stable"))
    np.testing.assert_allclose(found.score, np.sort(expected)[::-1], rtol=1e-5)
    assert mislabel.suspects(run, solution, 3, by=mislabel.HARM).by == mislabel.HARM


def test_what_cannot_be_asked_is_refused():
    run, solution = linear.make_run(), solve(linear.theta())
    for asked, fault in (
        ({"k": 0}, "k = 0"),
        ({"k": 3, "by": "looks"}, "by = 'looks'"),
        ({"k": 3, "by": "own"}, "targets: train"),
    ):
        with pytest.raises(InputError, match=fault):
            mislabel.suspects(run, solution, **asked)
    with pytest.raises(NotReadyError, match="no target has weights"):
        mislabel.suspects(run, solve(np.zeros((linear.N, linear.D))), 3)
    with pytest.raises(InputError, match="no class labels"):
        mislabel.suspects(dataclasses.replace(run, labels=None), solution, 3)
    grouped = dataclasses.replace(run, design=dataclasses.replace(run.design, kind="grouped", groups=np.arange(40)))
    with pytest.raises(InputError, match="groups of examples"):
        mislabel.suspects(grouped, solution, 3)
