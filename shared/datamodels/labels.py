"""Labels of examples: read what people give, and say what is wrong with it, or likely wrong.

Integers and texts are classes, and floats are numbers.
"""

from __future__ import annotations

import collections
from collections.abc import Sequence
from typing import Any

import numpy as np

from datamodels import words
from datamodels.screen import plain

NUMBERS = (int, float, np.number, np.bool_)
MISSING = ("nan", "NaT", "<NA>", "None")
"""Missing values as text, by which they are known without importing pandas."""
MISSING_TEXTS = ("", "nan", "NaN", "NaT", "<NA>")
"""Texts that are no classes: what is left of missing values if they are made texts. `None` may be a class."""
MANY, MANY_SHARE = 20, 0.5
"""More classes than both this and this fraction of the examples are doubted: they may be numbers, or identities."""
SHOWN = 5
"""Most classes that a message names."""


def as_labels(y: Any) -> np.ndarray:
    """Return labels as an array of numbers or texts, if they are that: also objects and categories of pandas."""
    found = np.asarray(y)
    if found.ndim == 2 and found.shape[1] == 1:
        found = found[:, 0]
    kinds = {type(value) for value in found.flat} if found.dtype.kind == "O" else set()
    if kinds and (all(issubclass(k, str) for k in kinds) or all(issubclass(k, NUMBERS) for k in kinds)):
        found = np.array(found.tolist())
    return found.astype(np.int64) if found.dtype.kind == "b" else found


def fault_of(y: np.ndarray) -> str:
    """Return what is wrong with labels; empty if nothing is."""
    if y.dtype.kind in "iu":
        return ""
    if y.dtype.kind in "US":
        return _fault_of_texts(y.astype(str))
    if y.dtype.kind == "f":
        missing = np.isnan(y)
    else:
        missing = np.array([not isinstance(value, str) and str(value) in MISSING for value in y.flat], dtype=bool)
    if missing.any():
        return _missing(missing.reshape(y.shape), "missing values")
    if y.dtype.kind == "f":
        return ""
    if y.dtype.names:
        fields = " and ".join(y.dtype.names)
        return (
            f"has the fields {fields}: must be numbers; make them columns: np.stack([y[name] for name in ...], axis=1)"
        )
    kinds = sorted({type(value).__name__ for value in y.flat}) if y.dtype.kind == "O" else [str(y.dtype)]
    return f"holds {' and '.join(kinds)}: must be all numbers or all texts" if kinds else ""


def _fault_of_texts(y: np.ndarray) -> str:
    missing = np.isin(np.char.strip(y), MISSING_TEXTS)
    if missing.any():
        first = str(y[missing].flat[0])
        return _missing(missing, f"labels that stand for missing values, such as {first!r}")
    try:
        numbers = y.astype(np.float64)
    except ValueError:  # words, as classes should be
        return ""
    distinct = len(np.unique(y))
    decimal = np.char.find(y, ".") >= 0
    odd = decimal & ((numbers != np.rint(numbers)) | (distinct > most_classes(len(y))))
    if not odd.any():
        return ""
    return (
        f"holds numbers as texts, such as {str(y[odd].flat[0])!r}, which would make {distinct:,} classes; make them "
        "numbers: y.astype(float)"
    )


def _missing(missing: np.ndarray, what: str) -> str:
    first = int(np.argmax(missing)) // (missing.size // len(missing))
    return (
        f"has {what}, {missing.sum()} of {missing.size}, the first at example {first}; fill them, or leave the "
        "examples out"
    )


def fault_of_pair(y: np.ndarray, y_test: np.ndarray) -> str:
    """Return how the labels of the pool and those of the test examples do not fit each other; empty if they do."""
    if not y.size or not y_test.size:
        return ""
    kinds = [_kind(labels) for labels in (y, y_test)]
    if kinds[0] == kinds[1]:
        return ""
    if "texts" in kinds:
        kinds = ["texts" if kind == "texts" else "numbers" for kind in kinds]
        return f"y holds {kinds[0]} and y_test {kinds[1]}: must both hold one or the other"
    return (
        f"y holds {kinds[0]} and y_test {kinds[1]}: integers are classes, and floats are numbers; make both integers "
        "if they are classes, and both floats if they are not"
    )


def _kind(y: np.ndarray) -> str:
    return {"U": "texts", "S": "texts", "f": "floats"}.get(y.dtype.kind, "integers")


def fault_of_classes(labels: np.ndarray) -> str:
    """Return what is wrong with class labels, int[examples]; empty if nothing is."""
    most = np.iinfo(np.int32).max
    wrong = np.flatnonzero((labels < 0) | (labels > most))
    if not len(wrong):
        return ""
    return (
        f"has {labels[wrong[0]]} at example {wrong[0]}: integers are classes, from 0 to {most}; number the classes "
        "with np.unique(y, return_inverse=True)[1], or give numbers that are no classes as floats"
    )


def most_classes(examples: int) -> int:
    """Return the most classes of so many examples that are not doubted."""
    return max(MANY, int(MANY_SHARE * examples))


def doubts(y: np.ndarray, targets: np.ndarray, names: Sequence[str] = ()) -> list[str]:
    """Return what is likely wrong with labels that are classes, a sentence each, with names and counts.

    y        labels of the pool, [examples]
    targets  labels of the targets, [n]
    names    of the classes, if they have any

    They may be right: a target of a class that no model can learn may be there on purpose. So they are no errors.
    """
    found = []
    for labels, whose in ((y, "y"), (targets, "y of the targets")):
        if labels.dtype.kind == "f" and (endless := np.isinf(labels)).any():
            first = int(np.argmax(endless)) // (endless.size // len(endless))
            found.append(
                f"{whose} has {words.count(int(endless.sum()), 'value')} that {'are' if endless.sum() > 1 else 'is'} "
                f"infinite, the first at example {first}"
            )
    if not all(labels.ndim == 1 and labels.size and labels.dtype.kind in "iuUS" for labels in (y, targets)):
        return found
    classes = np.unique(y)
    lacking = targets[~np.isin(targets, classes)]
    if len(lacking):
        counted = collections.Counter(_name(label, names) for label in lacking.tolist()).most_common()
        listed = ", ".join(f"{name} ({words.count(count, 'target')})" for name, count in counted[:SHOWN])
        more = f" and {len(counted) - SHOWN:,} more" if len(counted) > SHOWN else ""
        found.append(
            f"{len(lacking):,} of {words.count(len(targets), 'target')} are of classes that the training examples "
            f"lack: {listed}{more}. No model can learn these, so what their outputs depend on means little"
        )
    if len(classes) > most_classes(len(y)):
        alone = int(np.count_nonzero(np.unique(y, return_counts=True)[1] == 1))
        found.append(
            f"y has {len(classes):,} classes in {len(y):,} training examples, and {alone:,} of them have a single "
            "example. If y holds numbers and not classes, make it floats: y.astype(float)"
        )
    if names and y.dtype.kind in "iu" and (most := int(max(y.max(), targets.max()))) >= len(names):
        found.append(f"there are {len(names)} label_names, and a label {most}: the names may be of other classes")
    return found


def _name(label: Any, names: Sequence[str]) -> str:
    return words.label(label, names) if isinstance(label, int) else plain(str(label))
