import dataclasses
import re

import numpy as np
import pytest

from datamodels.errors import SpecError
from datamodels.run.dataset import split
from datamodels.train import Dataset
from datamodels.train.workloads import digits, mlp, tabular


def test_split_puts_every_example_in_one_place_with_its_label():
    x = np.arange(20)[:, None]
    data = split(x, np.arange(20) * 10, train=12, seed=3, label_names=("a",))
    assert len(data.x) == 12 and len(data.x_test) == 8 and data.label_names == ("a",)
    assert sorted(np.concatenate([data.x, data.x_test])[:, 0].tolist()) == list(range(20))
    np.testing.assert_array_equal(data.x[:, 0] * 10, data.y)
    np.testing.assert_array_equal(data.x_test[:, 0] * 10, data.y_test)


def test_split_is_decided_by_its_seed():
    first, same, other = (split(np.arange(50), np.arange(50), train=25, seed=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(first.x, same.x)
    assert (first.x != other.x).any()


@pytest.mark.parametrize("train", [0, 20, 21, -1])
def test_split_leaves_examples_on_both_sides(train):
    with pytest.raises(SpecError, match=rf"train = {train}: must be 1 to 19"):
        split(np.arange(20), np.arange(20), train=train, seed=0)


@pytest.mark.parametrize(
    ("load", "train", "test", "features"),
    [(digits.load, 1400, 397, 64), (tabular.load_breast_cancer, 400, 169, 30), (tabular.load_diabetes, 300, 142, 10)],
)
def test_shipped_data_has_its_documented_size(load, train, test, features):
    data = load()
    assert data.x.shape == (train, features) and data.x_test.shape == (test, features)
    assert len(load(train=50).y) == 50


def test_digits_are_pictures_between_paper_and_ink():
    data = digits.load()
    assert data.x.dtype == np.float32 and data.x.min() == 0 and data.x.max() == data.image_max == 1
    assert np.prod(data.image_shape) == data.x.shape[1]
    assert sorted(set(data.y.tolist())) == list(range(len(data.label_names)))


def test_tables_are_standardised():
    data = tabular.load_diabetes()
    for columns in (np.concatenate([data.y, data.y_test])[:, None], np.concatenate([data.x, data.x_test])):
        np.testing.assert_allclose(columns.mean(axis=0), 0, atol=1e-12)
        np.testing.assert_allclose(columns.std(axis=0), 1, atol=1e-12)


def test_targets_know_which_training_example_they_are():
    data = Dataset(x=np.arange(3), y=np.arange(3), x_test=np.arange(2), y_test=np.arange(2))
    assert data.targets("both").own.tolist() == [-1, -1, 0, 1, 2]
    assert data.targets("train").own.tolist() == [0, 1, 2]
    assert data.targets("test").own.tolist() == [-1, -1]


def test_faulty_data_is_refused():
    with pytest.raises(SpecError, match=r"a row of x has shape \[8, 8\] and one of x_test \[9, 9\]: must be equal"):
        Dataset(x=np.ones((3, 8, 8)), y=np.arange(3), x_test=np.ones((2, 9, 9)), y_test=np.arange(2))
    with pytest.raises(SpecError, match="x is a NoneType: must be an array or a list, with a row for each example"):
        Dataset(x=None, y=np.arange(3), x_test=np.arange(2), y_test=np.arange(2))
    with pytest.raises(SpecError, match="x has 3 rows and y has 2"):
        Dataset(x=np.arange(3), y=np.arange(2), x_test=np.arange(2), y_test=np.arange(2))
    with pytest.raises(SpecError, match="no training examples"):
        Dataset(x=np.arange(0), y=np.arange(0), x_test=np.arange(2), y_test=np.arange(2))
    no_test = Dataset(x=np.arange(2), y=np.arange(2), x_test=np.arange(0), y_test=np.arange(0))
    with pytest.raises(SpecError, match="no such examples"):
        no_test.targets("test")


def test_texts_and_names_go_with_their_examples():
    data = split(np.arange(9), np.arange(9), train=5, seed=0, texts=[f"text {i}" for i in range(9)])
    assert list(data.texts) == [f"text {i}" for i in data.x] and list(data.texts_test) == [
        f"text {i}" for i in data.x_test
    ]
    table = tabular.load_breast_cancer()
    assert len(table.feature_names) == table.x.shape[1] and table.feature_names[0] == "mean radius"
    with pytest.raises(SpecError, match="has 1 texts for 2 y: must be equal"):
        Dataset(x=np.arange(2), y=np.arange(2), x_test=np.arange(2), y_test=np.arange(2), texts=["a"])


@dataclasses.dataclass
class Categories:
    """As pandas.Categorical: an array of objects to NumPy."""

    values: list

    def __array__(self, dtype=None, copy=None):
        return np.array(self.values, dtype=object)


@pytest.mark.parametrize(
    ("y", "read"),
    [
        (np.array([[3], [4], [5]]), np.array([3, 4, 5])),
        (np.array([True, False, True]), np.array([1, 0, 1])),
        (["a", "b", "a"], np.array(["a", "b", "a"])),
        (Categories(["cat", "dog", "cat"]), np.array(["cat", "dog", "cat"])),
        (Categories([1, 2, 3]), np.array([1, 2, 3])),
        (Categories([True, False, True]), np.array([1, 0, 1])),
        (np.array([0.5, 1.5, np.inf]), np.array([0.5, 1.5, np.inf])),
    ],
)
def test_labels_may_be_numbers_texts_booleans_and_categories(y, read):
    found = Dataset(x=np.arange(3), y=y, x_test=np.arange(3), y_test=y)
    for labels in (found.y, found.y_test):
        assert labels.dtype == read.dtype
        np.testing.assert_array_equal(labels, read)


class Missing:
    """As pandas.NA: no comparison with it is true or false."""

    def __eq__(self, other):
        return self

    def __bool__(self):
        raise TypeError("boolean value of NA is ambiguous")

    def __repr__(self):
        return "<NA>"


@pytest.mark.parametrize(
    ("y", "fault"),
    [
        (
            [1.0, np.nan, np.nan],
            "dataset: y has missing values, 2 of 3, the first at example 1; fill them, or leave the",
        ),
        (["a", "b", None], "y has missing values, 1 of 3, the first at example 2"),
        (np.array(["a", np.nan, "b"], dtype=object), "y has missing values, 1 of 3, the first at example 1"),
        (np.array([1, 2, Missing()], dtype=object), "y has missing values, 1 of 3, the first at example 2"),
        (np.array(["2026-01-01", "NaT", "NaT"], dtype="M8[D]"), "y has missing values, 2 of 3, the first at example 1"),
        (np.array(["2026-01-01"] * 3, dtype="M8[D]"), r"y holds datetime64\[D\]: must be all numbers or all texts"),
        (np.array([1, "a", 2], dtype=object), "y holds int and str: must be all numbers or all texts"),
    ],
)
def test_labels_that_are_missing_or_mixed_are_refused(y, fault):
    with pytest.raises(SpecError, match=fault):
        Dataset(x=np.arange(3), y=y, x_test=np.arange(1), y_test=np.arange(1))
    with pytest.raises(SpecError, match=fault.replace("y h", "y_test h", 1)):
        Dataset(x=np.arange(3), y=np.arange(3), x_test=np.arange(3), y_test=y)


def test_labels_of_pool_and_test_must_be_of_one_kind():
    with pytest.raises(SpecError, match="y holds numbers and y_test texts: must both hold one or the other"):
        Dataset(x=np.arange(2), y=np.arange(2), x_test=np.arange(2), y_test=["0", "1"])


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({"spans_test": [(0, 1)]}, "1 spans_test for 0 texts_test"),
        ({"texts_test": ["ab"], "spans_test": []}, "0 spans_test for 1 texts_test"),
        ({"texts_test": ["ab"], "spans_test": [(1, 3)]}, "spans_test 0 is 1 to 3, of a text of 2 letters"),
    ],
)
def test_spans_that_are_in_no_text_are_refused(given, fault):
    with pytest.raises(SpecError, match=fault):
        Dataset(np.zeros(2), np.zeros(2), np.zeros(1), np.zeros(1), **given)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, ""),
        (
            {"x": np.where(np.eye(4, 3) > 0, np.nan, 1)},
            "x has 3 values that cannot be computed with, in 3 examples, the first is nan at example 0, "
            "column 0 (mass)",
        ),
        (
            {"x_test": np.array([[1, 2, 3], [4, 5, -np.inf]])},
            "x_test has 1 value that cannot be computed with, in 1 example, the first is -inf at example 1, column 2",
        ),
        ({"x": np.full((4, 3), 1e308)}, ""),  # whose sum is not finite
        ({"x": np.zeros((4, 3), dtype=int)}, ""),
    ],
)
def test_missing_inputs_are_doubted_with_their_place_and_refused_by_networks(change, said):
    """Trees, for example, can read missing values."""
    given = {"x": np.ones((4, 3)), "y": np.arange(4) % 2, "x_test": np.ones((2, 3)), "y_test": np.arange(2)}
    data = Dataset(**given | change, feature_names=("mass", "age"))
    assert data.missing == said and [text.split(". Models of a")[0] for text in data.doubts("test")] == [said] * bool(
        said
    )
    if said:
        with pytest.raises(
            SpecError, match=f"^dataset: {re.escape(said)}; fill such values, or leave the examples out"
        ):
            mlp.MLP(data, data.targets("test"))


def test_missing_inputs_of_images_are_found():
    x = np.zeros((3, 2, 2))
    x[2, 1, 0] = np.inf
    assert Dataset(x, np.arange(3.0), x[:1], np.zeros(1)).missing.endswith("is inf at example 2, column 2")


def test_examples_get_other_classes():
    data = Dataset(np.zeros((4, 2)), np.array([0, 1, 2, 1], dtype=np.uint8), np.zeros((1, 2)), np.array([1]))
    found = data.relabelled({3: 0, 0: 2})
    assert found.y.tolist() == [2, 1, 2, 0] and found.y.dtype == np.uint8 and data.y.tolist() == [0, 1, 2, 1]
    assert data.relabelled({}) is data
    for labels, fault in (({4: 0}, "example 4: must be 0 to 3"), ({0: 5}, "class 5: no training example has it")):
        with pytest.raises(SpecError, match=fault):
            data.relabelled(labels)
    with pytest.raises(SpecError, match="no classes"):
        dataclasses.replace(data, y=np.arange(4.0), y_test=np.ones(1)).relabelled({0: 1})
