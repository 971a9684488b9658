"""Say how single examples look: a label, and a picture, a text or the numbers of a row."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from datamodels import spans
from datamodels.display import picture
from datamodels.run.dataset import Dataset
from datamodels.run.runs import Run
from datamodels.run.sections import DisplaySpec

FEATURES = 64
"""Most numbers of a row that are shown: the first ones."""
POOL, TARGET = "pool", "target"
"""Roles of examples."""


@dataclasses.dataclass(frozen=True, eq=False)
class Features:
    """The numbers of a row of x.

    names      of the numbers
    units      of the numbers; empty if none is known
    mean       float64[f]; over the pool
    deviation  float64[f]; standard deviation over the pool
    """

    names: list[str]
    units: list[str]
    mean: np.ndarray
    deviation: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Look:
    """How an example looks. What it does not have is None or empty.

    label    its class
    value    its y, if that is a number and no class
    name     what its label is called: the name of the class, or a label that is a text
    title    what its owner calls the example
    picture  PNG
    text     of the example, perhaps cut
    span     (first, last): the target is the letters `first <= letter < last` of the text
    row      float64[f]; the first FEATURES numbers of x
    """

    label: int | None = None
    value: float | None = None
    name: str = ""
    title: str = ""
    picture: bytes | None = None
    text: str | None = None
    span: tuple[int, int] | None = None
    row: np.ndarray | None = None


class Looks(Protocol):
    """Gives the looks of the examples of a run."""

    @property
    def features(self) -> Features | None:
        """Names and units of the numbers of a row; None if examples are not shown as rows."""

    def pool(self, index: int) -> Look:
        """Return the look of a training example."""

    def target(self, index: int) -> Look:
        """Return the look of a target."""


class Loaded:
    """Takes looks from the data set of a run. limits: the section `display` of its spec."""

    def __init__(self, run: Run, dataset: Dataset, limits: DisplaySpec | None = None):
        self._run, self._data = run, dataset
        self._limits = limits or run.spec.display
        self.tests = 0 if run.spec.targets == "train" else len(dataset.y_test)
        """Number of targets that are test examples. They come first; the others are training examples."""
        self.features = _features(run, dataset)

    def pool(self, index: int) -> Look:
        """Return the look of a training example."""
        data = self._data
        text = _item(data.texts, index)
        look = self._look(data.x[index], data.y[index], None if text is None else self._cut(text), None)
        return dataclasses.replace(look, title=_storable(_item(data.titles, index) or ""))

    def target(self, index: int) -> Look:
        """Return the look of a target."""
        data = self._data
        if index >= self.tests:
            return self.pool(int(self._run.own[index]))
        text, span = _item(data.texts_test, index), _item(data.spans_test, index)
        if text is not None and span is not None:
            text, *span = spans.excerpt(text, span[0], span[1], self._limits.letters)
        elif text is not None:
            text = self._cut(text)
        look = self._look(data.x_test[index], data.y_test[index], text, span)
        return dataclasses.replace(look, title=_storable(_item(data.titles_test, index) or ""))

    def _cut(self, text: str) -> str:
        text, most = _storable(text), self._limits.letters
        return text if len(text) <= most else f"{text[:most].rstrip()} …"

    def _look(self, x: np.ndarray, y: np.ndarray, text: str | None, span: list[int] | None) -> Look:
        label, value, name = _named(self._run, y)
        picture, row = None, None
        if self._data.image_shape is not None:
            picture = self._picture(x)
        elif text is None and x.ndim == 1 and len(x) and x.dtype.kind in "fiub":
            row = np.asarray(x[:FEATURES], dtype=np.float64)
        ends = None if span is None else (int(span[0]), int(span[1]))
        return Look(label, value, name, "", picture, text, ends, row)

    def _picture(self, x: np.ndarray) -> bytes | None:
        try:
            return picture.of_row(self._data, x, self._limits.pixels)
        except (TypeError, ValueError):  # x does not have the shape that the data set says
            return None


def _item(values: Sequence[Any] | None, index: int) -> Any:
    return None if values is None else values[index]


def _storable(text: object) -> str:
    """Return a text without halves of surrogate pairs, which cannot be stored."""
    return str(text).encode("utf-8", "replace").decode()


def _named(run: Run, y: np.ndarray) -> tuple[int | None, float | None, str]:
    """Return the label, the value and the name of an entry of y."""
    if y.ndim:
        return None, None, ""
    if y.dtype.kind in "US":
        return None, None, _storable(y)
    if run.labels is not None and y.dtype.kind in "iub":
        return int(y), None, run.label_name(int(y))
    return None, float(y) if np.isfinite(y) else None, ""


def _features(run: Run, dataset: Dataset) -> Features | None:
    """Summarise the first numbers of the rows of x. Returns None if rows are no numbers, or are pictures or texts."""
    x = dataset.x
    better = dataset.image_shape is not None or dataset.texts is not None or run.design.grouped
    if better or x.ndim != 2 or not x.shape[1] or x.dtype.kind not in "fiub":
        return None
    x = x[:, :FEATURES].astype(np.float64)
    names, units = dataset.feature_labels[: x.shape[1]], [str(unit) for unit in dataset.feature_units]
    return Features(names, units[: x.shape[1]], x.mean(axis=0), x.std(axis=0))
