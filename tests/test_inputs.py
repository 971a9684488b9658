import types
from datetime import date

import numpy as np
import pytest
from scipy import sparse

from datamodels import inputs
from datamodels.errors import SpecError
from datamodels.run.dataset import Dataset


class NAType:
    """Stands for missing values, as in pandas."""


class Table:
    """A table as those of pandas and polars: NumPy makes objects of columns of several types."""

    def __init__(self, columns):
        self.columns, self._values = list(columns), columns

    def __array__(self, dtype=None, copy=None):
        return np.array(list(zip(*self._values.values(), strict=True)), dtype=object)


@pytest.mark.parametrize(
    ("name", "given", "fault"),
    [
        ("x", (row for row in [[1.0], [2.0]]), "x is a generator, which can be read only once; make it a list or an a"),
        ("y_test", map(int, "01"), "y_test is a map, which can be read only once"),
        ("x", sparse.csr_matrix(np.eye(3)), r"x is a sparse matrix, csr_matrix; make it an array: .toarray\(\)"),
        ("x", {"ids": np.eye(2)}, "x is a dict; if its arrays are several inputs of each example"),
        ("x", [[1.0], [1.0, 2.0, 3.0]], "x has rows of different lengths, 1 to 3; pad them to one length"),
        ("y", [["a"], ["a", "b"]], "y has different numbers of labels for examples; give a row of 0 and 1 for each"),
        ("x", types.SimpleNamespace(), "x is a SimpleNamespace: must be an array or a list, with a row for each exam"),
    ],
)
def test_what_is_no_array_is_refused_with_what_to_do(name, given, fault):
    with pytest.raises(SpecError, match=f"^dataset: {fault}"):
        inputs.read(name, given)


def test_a_table_of_numbers_becomes_numbers_whatever_its_columns_hold():
    """With columns of several types, or that may have missing values, NumPy makes objects of a table of pandas."""
    table = Table({"a": [1, NAType()], "b": [2.5, np.nan], "c": [True, None]})
    found = inputs.read("x", table)
    assert found.dtype == np.float64 and inputs.columns_of(table) == ("a", "b", "c")
    assert inputs.columns_of(Table({0: [1.0], 1: [2.0]})) == inputs.columns_of(np.eye(2)) == ()
    np.testing.assert_array_equal(found, [[1, 2.5, 1], [np.nan, np.nan, np.nan]])
    whole = inputs.read("x", np.array([[1, True], [2**60 + 1, 0]], dtype=object))
    assert whole.dtype == np.int64 and whole[1, 0] == 2**60 + 1
    assert inputs.missing(found, ("a", "b")) == (
        "3 values that cannot be computed with, in 1 example, the first is nan at example 1, column 0 (a)"
    )


@pytest.mark.parametrize(
    ("pair", "names", "fault"),
    [
        ("x", "ba", "x_test has other columns than those of the pool, or in another order: 'b' instead of 'a'"),
        ("x", "abc", "x_test .*: 'c' instead of nothing; take these: x_test.x.columns.$"),
        ("x", "a", "x_test .*: nothing instead of 'b'"),
        ("y", "ba", "y_test .*: 'b' instead of 'a'; take these: y_test.y.columns.$"),
    ],
)
def test_columns_of_tests_are_those_of_the_pool_in_their_order(pair, names, fault):
    """Trainers see numbers without names: outputs were those of a model that reads other columns."""
    arrays = {"x": np.eye(2), "y": np.eye(2), "x_test": np.eye(2), "y_test": np.eye(2)}
    table = Table({name: [0.0, 1.0] for name in "ab"})
    Dataset(**arrays | {pair: table, f"{pair}_test": table})
    Dataset(**arrays | {pair: table})
    with pytest.raises(SpecError, match=f"^dataset: {fault}"):
        Dataset(**arrays | {pair: table, f"{pair}_test": Table({name: [0.0, 1.0] for name in names})})


def test_a_text_among_numbers_is_named_with_its_column():
    table = Table({"a": [1.0, 2.0], "city": ["Rome", "Oslo"], "when": [date(2020, 1, 1)] * 2})
    found = inputs.read("x", table)
    assert found.dtype == object
    assert inputs.missing(found, inputs.columns_of(table)).startswith(
        "2 columns with other values than numbers, the first is 'Rome' at example 0, column 1 (city); encode them"
    )
    for other in (np.array(["a", "b"]), np.array([{"a": 1}, {"b": 2}]), np.array([["a", 1.0]], dtype=object)[:, :1]):
        assert inputs.missing(inputs.read("x", other)) == ""  # a trainer of its own may read these


def test_missing_numbers_are_counted_in_arrays_that_are_searched_in_parts(monkeypatch):
    monkeypatch.setattr(inputs, "BLOCK", 64)
    x = np.zeros((50, 2, 2))
    x[17, 1, 0] = x[40, 0, 0] = x[40, 0, 1] = np.inf
    assert inputs.missing(x) == (
        "3 values that cannot be computed with, in 2 examples, the first is inf at example 17, column 2"
    )
