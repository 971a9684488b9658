import dataclasses

import numpy as np
import pytest

from datamodels.baselines import scoring
from datamodels.baselines.context import Context
from datamodels.errors import InputError
from datamodels.outputs import LOSS
from datamodels.run import designs
from datamodels.storage.local import LocalStore
from datamodels.testing import committed, linear
from tests.baselines import networks as made
from tests.baselines.test_neighbours import given


def test_every_baseline_scores_every_column(tmp_path):
    """But for that which needs committed models, which is asked below."""
    asked = dataclasses.replace(given(tmp_path, made.dataset()), trainings=3)
    for name in set(scoring.METHODS) - {"feldman_zhang"}:
        entry = scoring.compute(asked, name)
        assert entry.scores.shape == (made.TARGETS, made.EXAMPLES) and np.isfinite(entry.scores).all(), name
        assert (entry.scores != 0).any(axis=1).all(), name
        assert entry.models == {scoring.NETWORKS: 2, scoring.REPLAYS: 3}.get(scoring.METHODS[name].needs, 0)


def test_a_group_does_what_its_examples_do_together(tmp_path):
    data = made.dataset()
    groups = np.arange(made.EXAMPLES) % 10
    grouped = given(
        tmp_path, type(data)(data.x, data.y, data.x_test, data.y_test, groups=groups), design={"kind": "grouped"}
    )
    found = scoring.compute(grouped, "inputs").scores
    each = scoring.compute(given(tmp_path, data), "inputs").scores
    np.testing.assert_allclose(found, each.reshape(made.TARGETS, 3, 10).sum(axis=1), rtol=1e-5, atol=1e-6)


def test_feldman_and_zhang_count_how_often_models_are_right(tmp_path):
    run, store = committed.make_run(), LocalStore(tmp_path)
    committed.commit(store, run)
    shares = Context(run, None, store, 1).shares
    models = list(range(run.spec.m))
    masks = designs.unpack(designs.subsets(run.design, 0, run.spec.m), run.design.columns)
    right = committed.outputs_of(run, models) > 0
    for target, column in ((0, 0), (3, 17), (4, 29)):
        inside, outside = right[masks[:, column], target], right[~masks[:, column], target]
        assert shares.attribution[target, column] == pytest.approx(inside.mean() - outside.mean(), abs=1e-5)
    np.testing.assert_allclose(shares.right, right.mean(axis=0))
    assert scoring.compute(Context(run, None, store, 1), "feldman_zhang").models == run.spec.m == shares.models


def test_scores_say_by_how_much_an_example_raises_the_output_also_a_loss(tmp_path):
    """So methods that say by how much an example helps are turned round, and the others have opposite signs anyway."""
    data, trainer = made.dataset(), {"class": "datamodels.train.mlp:MLP"}
    margin, loss = (
        given(tmp_path, data, trainer=trainer | {"options": {"hidden": 5, "epochs": 2, "output": output}})
        for output in ("margin", "loss")
    )
    for name in (name for name, method in scoring.METHODS.items() if method.helps):
        assert (scoring.compute(loss, name).scores == -scoring.compute(margin, name).scores).all(), name
    for name in ("last_layer", "ekfac", "influence", "trak"):
        pair = [scoring.compute(asked, name).scores.ravel() for asked in (margin, loss)]
        assert np.corrcoef(pair)[0, 1] < -0.7, name


def test_feldman_and_zhang_count_losses_above_the_threshold(tmp_path):
    run, store = committed.make_run(), LocalStore(tmp_path)
    committed.commit(store, run)
    margins = Context(run, None, store, 1).shares
    wrong = Context(dataclasses.replace(run, declared=LOSS.judged(0)), None, store, 1).shares
    np.testing.assert_array_equal(wrong.attribution, margins.attribution)  # an example raises both kinds of output
    assert (wrong.right + margins.right <= 1).all() and (wrong.right + margins.right).max() > 0.9
    assert margins.doubt(run.output) == ""
    far = Context(run.judged(-1e6), None, store, 1)
    entry = scoring.compute(far, "feldman_zhang")
    assert not entry.scores.any() and entry.doubt == (
        "its scores are all 0, because no model has an output below the threshold -1e+06; --threshold gives another one"
    )
    with pytest.raises(InputError, match="'loss' has no threshold"):
        Context(dataclasses.replace(run, declared=LOSS), None, store, 1).shares  # noqa: B018


def test_a_trainer_without_gradients_is_told_so(tmp_path):
    store, run = linear.make_store(tmp_path)
    with pytest.raises(InputError, match="no gradients of single examples"):
        scoring.compute(Context(run, linear.load(), store, 2), "tracin")


def test_names_are_checked():
    assert scoring.chosen(None) == list(scoring.METHODS)
    assert scoring.chosen(["trak", "inputs", "trak"]) == ["trak", "inputs"]
    with pytest.raises(InputError, match="baselines = 'lasso': must be of feldman_zhang, tracin"):
        scoring.chosen(["trak", "lasso"])
    with pytest.raises(InputError, match="at least 1"):
        Context(None, None, None, 0)
