"""Inputs of examples: read what people give, and say what is wrong with it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from datamodels import labels, words
from datamodels.errors import SpecError
from datamodels.labels import NUMBERS
from datamodels.screen import plain

READ = 2**30
"""Most bytes of inputs that are searched for missing values."""
SHOWN = 30
"""Most letters of a value that a message quotes."""
BLOCK = 2**24
"""Bytes that are searched at a time."""
SEARCHED = 10**6
"""Most values of a table of objects that are searched for texts."""
FIELDS = "fields of a structured array (docs/guides/networks.md)"


def read(name: str, given: Any) -> np.ndarray:
    """Return an argument of a data set as an array: labels if its name begins with y, else inputs.

    Raises SpecError for what is none, such as a generator, a sparse matrix or rows of different lengths.
    """
    fault = _fault_of(given)
    try:
        found = np.empty(0) if fault else labels.as_labels(given) if name.startswith("y") else as_inputs(given)
    except ValueError as error:
        if "inhomogeneous" not in str(error):
            raise
        fault = (
            f"has rows of different lengths, {_lengths(given)}; pad them to one length"
            if name.startswith("x")
            else "has different numbers of labels for examples; give a row of 0 and 1 for each, one for each class: "
            "sklearn.preprocessing.MultiLabelBinarizer"
        )
    if not fault and not found.ndim and not isinstance(given, (*NUMBERS, str, np.ndarray)):
        fault = f"is a {type(given).__name__}: must be an array or a list, with a row for each example"
    if fault:
        raise SpecError(f"dataset: {name} {fault}")
    return found


def _fault_of(given: Any) -> str:
    kind = type(given).__name__
    if np.ma.is_masked(given):
        return f"has masked values, {np.ma.count_masked(given)} of {given.size}; fill them, or leave the examples out"
    if isinstance(given, Iterator):
        return f"is a {kind}, which can be read only once; make it a list or an array"
    if hasattr(given, "toarray") and hasattr(given, "nnz"):  # of SciPy
        return f"is a sparse matrix, {kind}; make it an array: .toarray()"
    if isinstance(given, Mapping):
        return f"is a {kind}; if its arrays are several inputs of each example, make them {FIELDS}"
    return ""


def _lengths(rows: Sequence[Any]) -> str:
    found = sorted({len(row) for row in rows if hasattr(row, "__len__")})
    return f"{found[0]} to {found[-1]}" if len(found) > 1 else "at some depth"


def as_inputs(given: Any) -> np.ndarray:
    """Return inputs as an array. Objects that are all numbers, or missing, become float64; missing ones become NaN.

    Tables of pandas with columns of several types, or that may have missing values, are such objects.
    """
    found = np.asarray(given)
    if found.dtype.kind != "O" or not found.size:
        return found
    kinds = {kind: _is_number(kind) for kind in map(type, found.flat)}
    if not any(kinds.values()) or any(not known and not _stands_for_missing(kind) for kind, known in kinds.items()):
        return found
    if all(kinds.values()) and all(issubclass(kind, int | np.integer | np.bool_) for kind in kinds):
        return np.array(found.tolist())
    numbers = (value if kinds[type(value)] else math.nan for value in found.flat)
    return np.fromiter(numbers, np.float64, found.size).reshape(found.shape)


def _is_number(kind: type) -> bool:
    return issubclass(kind, NUMBERS) and not issubclass(kind, np.complexfloating | np.timedelta64)


def _stands_for_missing(kind: type) -> bool:
    """Return whether values of a type stand for missing numbers: None, and that of pandas, which is not imported."""
    return kind.__name__ in ("NoneType", "NAType")


def columns_of(given: Any) -> tuple[str, ...]:
    """Return the names of the columns of a table of pandas or polars; empty for anything else, and for numbers."""
    names = getattr(given, "columns", None)
    if names is None or callable(names) or all(isinstance(name, int | np.integer) for name in names):
        return ()
    return tuple(map(str, names))


def other_columns(table: Any, tests: Any) -> str:
    """Say how the columns of two tables with names differ; empty if they are the same. Trainers see no names."""
    columns, of_tests = columns_of(table), columns_of(tests)
    if not columns or not of_tests or columns == of_tests:
        return ""
    other, one = next(pair for pair in itertools.zip_longest(of_tests, columns) if pair[0] != pair[1])
    found, wanted = ("nothing" if name is None else repr(plain(name))[:SHOWN] for name in (other, one))
    return f"has other columns than those of the pool, or in another order: {found} instead of {wanted}; take these"


def missing(x: np.ndarray, names: Sequence[str] = ()) -> str:
    """Say what in inputs is no finite number, although the others are numbers; empty if nothing is.

    names  of the numbers of a row

    Of larger arrays, which may be memory-mapped, the first READ bytes are looked at.
    """
    if x.dtype.kind not in "fO" or not x.size:
        return ""
    if x.dtype.kind == "O":
        return _texts(x[: max(1, SEARCHED * len(x) // x.size)], names)
    row_bytes = x.nbytes // len(x) or 1
    step, values, rows = max(1, BLOCK // row_bytes), 0, 0
    first: tuple[Any, ...] = ()
    for start in range(0, min(len(x), max(1, READ // row_bytes)), step):
        bad = ~np.isfinite(x[start : start + step])
        if bad.any():
            row, *rest = np.unravel_index(np.argmax(bad), bad.shape)
            first = first or (start + row, *rest)
            values += int(np.count_nonzero(bad))
            rows += int(np.count_nonzero(bad.reshape(len(bad), -1).any(axis=1)))
    if not values:
        return ""
    return (
        f"{words.count(values, 'value')} that cannot be computed with, in {words.count(rows, 'example')}, the first is "
        f"{x[first]} at {_place(first, x.shape, names)}"
    )


def _texts(x: np.ndarray, names: Sequence[str]) -> str:
    """Say where a table of numbers has something else, such as a text; empty if it is no table."""
    if x.ndim != 2 or not any(_is_number(type(value)) for value in x[0]):
        return ""
    odd = np.array([[not _is_number(type(value)) for value in row] for row in x])
    if not odd.any():
        return ""
    columns, first = np.flatnonzero(odd.any(axis=0)), np.unravel_index(np.argmax(odd), x.shape)
    value = plain(repr(x[first]))[:SHOWN]
    return (
        f"{words.count(len(columns), 'column')} with other values than numbers, the first is {value} at "
        f"{_place(first, x.shape, names)}; encode them as numbers, each class as a column of 0 and 1 if they are "
        "classes (pandas.get_dummies)"
    )


def _place(first: Sequence[Any], shape: tuple[int, ...], names: Sequence[str]) -> str:
    row, *rest = (int(place) for place in first)
    column = int(np.ravel_multi_index(rest, shape[1:])) if rest else 0
    named = f" ({plain(names[column])})" if column < len(names) else ""
    return f"example {row}, column {column}{named}"
