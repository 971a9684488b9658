import dataclasses
from typing import ClassVar

import numpy as np
import pytest

from datamodels.baselines import lime
from datamodels.errors import InputError, TargetRangeError
from datamodels.testing import linear
from datamodels.train import Dataset
from datamodels.train.workloads import digits
from tests.baselines import networks as made
from tests.baselines.test_neighbours import given


class Weighing:
    """Its output is a sum of the features of the target, by weights that are known, whatever it is trained on."""

    weights = np.array([2.0, 0.0, -1.0, 0.5])

    def __init__(self, dataset, targets):
        self.x = targets.x

    def train(self, subset, seed):
        return None

    def outputs(self, model):
        return self.x @ self.weights


class Reading(Weighing):
    """Its output is a sum over the tokens that its attention mask lets it see."""

    weights = np.array([100.0, 100.0, 2.0, -1.0, 0.0])

    def outputs(self, model):
        if self.x.dtype.names is None:
            return self.weights[self.x].sum(axis=1)
        return (self.weights[self.x["input_ids"]] * self.x["attention_mask"]).sum(axis=1)


def tokens(fields):
    """Three examples of the tokens 2 to 4, with a rare one, 1, and padding, 0."""
    x = np.array([[2, 3, 4, 0], [3, 3, 0, 0], [1, 2, 3, 2]], dtype=np.int32)
    if not fields:
        return x
    found = np.zeros(3, dtype=[("attention_mask", np.int32, (4,)), ("input_ids", np.int32, (4,))])
    found["input_ids"], found["attention_mask"] = x, x > 0
    return found


class Counting(Weighing):
    """Its output is scaled by how many examples it was trained on, and it remembers on which."""

    subsets: ClassVar = []

    def train(self, subset, seed):
        self.subsets.append(list(subset))
        return len(subset)

    def outputs(self, model):
        return model * super().outputs(model)


def test_a_sum_of_features_is_taken_apart(tmp_path):
    data = made.dataset()
    run = given(tmp_path, data, trainer={"class": "tests.baselines.test_lime:Weighing"}).run
    (found,) = lime.explain(run, data, [3], models=2, samples=400)
    expected = Weighing.weights * (data.x_test[3] - data.x.mean(axis=0))
    np.testing.assert_allclose(found.weights, expected, atol=0.05)
    assert found.r2 > 0.99 and found.output == pytest.approx(data.x_test[3] @ Weighing.weights, abs=1e-4)
    assert found.strongest == np.argsort(-np.abs(expected)).tolist()


@pytest.mark.parametrize("fields", [True, False], ids=["a mask", "a blank token"])
def test_tokens_are_blanked_one_by_one(tmp_path, fields):
    """By the mask and padding, or by the token that stands for an unknown word; what is blank already is no part."""
    names = ("(none)", "(rare)", "cat", "sat\x1b", "down")
    data = Dataset(tokens(fields), np.arange(3), tokens(fields), np.arange(3), token_names=names)
    data = dataclasses.replace(data, blank_token=0 if fields else 1)
    run = given(tmp_path, data, trainer={"class": "tests.baselines.test_lime:Reading"}).run
    first, last = lime.explain(run, data, [0, 2], models=1, samples=400)
    if fields:
        assert list(first.names) == ["1 cat", "2 sat\ufffd", "3 down"] and first.parts.tolist() == [0, 1, 2, -1]
        np.testing.assert_allclose(first.weights, [2, -1, 0], atol=0.05)
        np.testing.assert_allclose(last.weights, [100, 2, -1, 2], atol=3)
    else:
        assert list(last.names) == ["2 cat", "3 sat\ufffd", "4 cat"] and last.parts.tolist() == [-1, 0, 1, 2]
        np.testing.assert_allclose(last.weights, [-98, -101, -98], atol=4)


def test_intervals_hold_the_truth_where_outputs_are_noisy():
    rng, true = np.random.default_rng(0), np.linspace(-1, 1, 10)
    held = []
    for _ in range(40):
        kept = rng.random((300, 10)) < 0.5
        _, interval, r2 = lime.regress(kept, kept @ true + rng.normal(size=300))
        held.append((interval[:, 0] <= true) & (true <= interval[:, 1]))
        assert 0 < r2 < 1
    assert np.mean(held) > 0.88


def test_an_output_that_never_moves_has_no_parts():
    weights, _, r2 = lime.regress(np.random.default_rng(0).random((50, 4)) < 0.5, np.full(50, 3.0))
    assert np.abs(weights).max() < 1e-12 and r2 == 0


def test_networks_are_explained_by_their_own_contract(tmp_path):
    data = made.dataset()
    (found,) = lime.explain(given(tmp_path, data).run, data, [0], models=3, samples=100)
    assert found.weights.shape == (made.FEATURES,) and found.weights.any()
    assert (found.interval[:, 0] <= found.weights).all() and (found.weights <= found.interval[:, 1]).all()


@pytest.mark.parametrize(("targets", "trainings"), [("test", 1), ("both", 2)])
def test_several_targets_are_explained_as_each_alone_by_one_training(tmp_path, targets, trainings):
    """But for those in the pool, which models are trained without."""
    data = made.dataset()
    run = given(tmp_path, data, targets=targets, trainer={"class": "tests.baselines.test_lime:Counting"}).run
    chosen = [5, 0, run.n - 1]
    Counting.subsets = []
    together = lime.explain(run, data, chosen, models=2, samples=40)
    assert len(Counting.subsets) == 2 * trainings
    assert (made.EXAMPLES - 1 in Counting.subsets[-1]) == (targets == "test")
    for target, found in zip(chosen, together, strict=True):
        (alone,) = lime.explain(run, data, [target], models=2, samples=40)
        np.testing.assert_allclose(found.weights, alone.weights)
        assert found.output == pytest.approx(alone.output)


def test_features_have_their_names():
    data = dataclasses.replace(made.dataset(), feature_names=("age", "height"))
    assert lime.parts_of(data, data.x_test[0])[1] == ["age", "height", "x2", "x3"]


def test_a_picture_is_cut_into_squares():
    assert lime.parts_of(digits.load(), np.zeros(64))[0].tolist() == list(range(64))
    x, y = np.zeros((3, 20 * 16 * 3)), np.zeros(3, dtype=int)
    data = Dataset(x, y, x, y, image_shape=(20, 16, 3))
    parts, names = lime.parts_of(data, x[0])
    parts = parts.reshape(20, 16, 3)
    assert parts.max() == 63 and (parts == parts[:, :, :1]).all()
    assert all(len(np.unique(np.argwhere(parts == part)[:, 0])) in (2, 3) for part in range(64))
    assert (parts[:2, :2] == 0).all() and parts[0, 2, 0] == 1
    for part, name in enumerate(names):
        left, top, width, height = np.multiply(lime.square_of(data.image_shape, part), [16, 20, 16, 20])
        inside = np.zeros((20, 16), dtype=bool)
        inside[round(top) : round(top + height), round(left) : round(left + width)] = True
        np.testing.assert_array_equal(inside, parts[:, :, 0] == part)
        assert name == f"row {part // 8 + 1}, column {part % 8 + 1}"


def test_bad_questions_are_refused(tmp_path):
    data, run = made.dataset(), given(tmp_path, made.dataset()).run
    with pytest.raises(TargetRangeError, match="target 7: must be 0 to 6"):
        lime.explain(run, data, [0, 7])
    with pytest.raises(InputError, match="samples = 7: must be at least 8, twice the parts"):
        lime.explain(run, data, [0], samples=7)
    words = dataclasses.replace(data, x=np.array(["a"] * made.EXAMPLES), x_test=np.array(["b"] * made.TARGETS))
    with pytest.raises(InputError, match="not numbers"):
        lime.explain(run, words, [0])
    fields = Dataset(tokens(True), np.arange(3), tokens(True), np.arange(3))
    run = given(tmp_path, fields).run
    with pytest.raises(InputError, match=r"x has fields; LIME blanks parts of numbers, and tokens if .* `token_names`"):
        lime.explain(run, fields, [0])
    renamed = fields.x.view([("mask", np.int32, (4,)), ("words", np.int32, (4,))])
    renamed = dataclasses.replace(fields, x=renamed, x_test=renamed, token_names=("a",))
    with pytest.raises(InputError, match="x has the fields mask, words, but not 'input_ids'"):
        lime.explain(run, renamed, [0])
    with pytest.raises(InputError, match="models = 0"):
        lime.explain(linear.make_run(), linear.load(), [0], models=0)
