"""Define the data of a run: a training pool, test examples, and the targets made of them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from datamodels import inputs, labels, spans
from datamodels.errors import SpecError
from datamodels.spans import Span

NOT_IN_POOL = -1
"""`Targets.own` of a target that is not a training example."""


@dataclasses.dataclass(frozen=True)
class Targets:
    """The examples that outputs of models are recorded for.

    x    [n, ...]; inputs
    y    [n]; labels
    own  int32[n]; index of the training example that the target is, or NOT_IN_POOL
    """

    x: np.ndarray
    y: np.ndarray
    own: np.ndarray

    def __len__(self) -> int:
        return len(self.y)


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A training pool and test examples; what the function `dataset.load` of a spec returns.

    x, y               [examples, ...] and [examples]: the pool that subsets are drawn from. y holds numbers or texts,
                       none missing. Booleans become 0 and 1, and a column [examples, 1] becomes [examples]
    x_test, y_test     the same for examples that are never trained on
    groups             int[examples] or None: the group of each pool example, for grouped and stratified designs.
                       Stratified designs use integer y if there are no groups
    own_test           int[test examples] or None: the pool example that each of them is, or is a part or a copy of, or
                       NOT_IN_POOL. Its fit leaves out the subsets with that example, as if it were a training example

    The other fields are for display, and for LIME:

    label_names        name of each class; empty if y is not a class
    image_shape        (h, w) or (h, w, 3): shape of a row of x as an image; None if it is not an image
    image_max          value of ink in an image; 0 is paper
    feature_names      name of each number in a row of x; may be empty
    feature_units      unit of each number in a row of x; may be empty
    titles, titles_test  what its owner calls each pool example and each test example, such as a file or a key; None
                       if they have no such names
    texts, texts_test  text of each pool example and of each test example; None if x is not made of text
    spans_test         (first, last) for each test example, if the target is a part of its text, the letters
                       `first <= letter < last`; None if it is the whole example. `language_dataset` makes such data
    token_names        text of each number in x, if x holds numbers of tokens: an array [examples, positions], or fields
                       of that shape with `input_ids` among them. LIME then blanks tokens
    blank_token        number of the token that stands for nothing: padding, or an unknown word

    Raises SpecError for arrays that do not fit each other.
    """

    x: np.ndarray
    y: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    groups: np.ndarray | None = None
    label_names: tuple[str, ...] = ()
    image_shape: tuple[int, ...] | None = None
    image_max: float = 1.0
    feature_names: tuple[str, ...] = ()
    feature_units: tuple[str, ...] = ()
    titles: Sequence[str] | None = None
    titles_test: Sequence[str] | None = None
    texts: Sequence[str] | None = None
    texts_test: Sequence[str] | None = None
    spans_test: Sequence[tuple[int, int]] | None = None
    token_names: Sequence[str] = ()
    blank_token: int = 0
    own_test: Sequence[int] | np.ndarray | None = None

    def __post_init__(self) -> None:
        self._read()
        for x, y in (("x", "y"), ("x_test", "y_test")):
            if not getattr(self, x).ndim or not getattr(self, y).ndim:
                raise SpecError(
                    f"dataset: {x} has shape {list(getattr(self, x).shape)} and {y} {list(getattr(self, y).shape)}: "
                    "must have a row and a label for each example"
                )
            if len(getattr(self, x)) != len(getattr(self, y)):
                raise SpecError(
                    f"dataset: {x} has {len(getattr(self, x))} rows and {y} has {len(getattr(self, y))}: must be equal"
                )
        for y in ("y", "y_test"):
            if fault := labels.fault_of(getattr(self, y)):
                raise SpecError(f"dataset: {y} {fault}")
        if fault := labels.fault_of_pair(self.y, self.y_test):
            raise SpecError(f"dataset: {fault}")
        self._check_texts()
        self._check_own()
        if not len(self.y):
            raise SpecError("dataset: has no training examples")
        if len(self.y_test) and self.x.shape[1:] != self.x_test.shape[1:]:
            raise SpecError(
                f"dataset: a row of x has shape {list(self.x.shape[1:])} and one of x_test "
                f"{list(self.x_test.shape[1:])}: must be equal"
            )

    def _read(self) -> None:
        """Make arrays of what was given, and keep the names of its columns."""
        for name in ("x", "y"):
            if fault := inputs.other_columns(getattr(self, name), getattr(self, f"{name}_test")):
                raise SpecError(f"dataset: {name}_test {fault}: {name}_test[{name}.columns]")
        columns = inputs.columns_of(self.x)
        for name in ("x", "y", "x_test", "y_test"):
            object.__setattr__(self, name, inputs.read(name, getattr(self, name)))
        if not len(self.feature_names):
            object.__setattr__(self, "feature_names", columns)

    def relabelled(self, labels: Mapping[int, int]) -> Dataset:
        """Return the data set with other classes of some pool examples, by their numbers. Raises SpecError."""
        if not labels:
            return self
        chosen, given = (np.array(list(part), dtype=np.int64) for part in (labels, labels.values()))
        if self.y.dtype.kind not in "iub" or self.y.ndim != 1:
            raise SpecError("dataset.relabel: the labels of the data set are no classes, which are whole numbers")
        if chosen.max() >= len(self.y):
            raise SpecError(f"dataset.relabel: example {chosen.max()}: must be 0 to {len(self.y) - 1}")
        unknown = given[~np.isin(given, self.y)]
        if len(unknown):
            raise SpecError(f"dataset.relabel: class {unknown[0]}: no training example has it")
        y = self.y.copy()
        y[chosen] = given
        return dataclasses.replace(self, y=y)

    def _check_texts(self) -> None:
        for texts, y in (("texts", "y"), ("texts_test", "y_test"), ("titles", "y"), ("titles_test", "y_test")):
            found = getattr(self, texts)
            if found is not None and len(found) != len(getattr(self, y)):
                raise SpecError(f"dataset: has {len(found)} {texts} for {len(getattr(self, y))} {y}: must be equal")
        given = self.spans_test
        if given is None:
            return
        if self.texts_test is None or len(given) != len(self.texts_test):
            there = 0 if self.texts_test is None else len(self.texts_test)
            raise SpecError(f"dataset: has {len(given)} spans_test for {there} texts_test: must be equal")
        for row, ((first, last), text) in enumerate(zip(given, self.texts_test, strict=True)):
            if not 0 <= first <= last <= len(text):
                raise SpecError(f"dataset: spans_test {row} is {first} to {last}, of a text of {len(text)} letters")

    def _check_own(self) -> None:
        if self.own_test is None:
            return
        own = np.asarray(self.own_test)
        if own.shape != (len(self.y_test),) or own.dtype.kind not in "iu":
            raise SpecError(
                f"dataset: own_test has shape {list(own.shape)} and type {own.dtype}: must be an integer for each of "
                f"{len(self.y_test)} test examples"
            )
        wrong = np.flatnonzero((own < NOT_IN_POOL) | (own >= len(self.y)))
        if len(wrong):
            raise SpecError(
                f"dataset: own_test {wrong[0]} is {own[wrong[0]]}: must be a pool example, 0 to {len(self.y) - 1}, or "
                f"{NOT_IN_POOL} for none"
            )
        object.__setattr__(self, "own_test", own.astype(np.int32))

    def spans(self, kind: str) -> tuple[Span, ...]:
        """Return what people see of targets that are parts of texts: one for each target, or none if no target is.

        kind  as for `targets`
        """
        if self.spans_test is None or self.texts_test is None or kind == "train":
            return ()
        whole = list(self.texts or [""] * len(self.y)) if kind == "both" else []
        most = spans.most_letters(len(self.spans_test) + len(whole))
        found = [spans.excerpt(text, *span, most) for text, span in zip(self.texts_test, self.spans_test, strict=True)]
        return (*found, *(spans.excerpt(text, 0, 0, most) for text in whole))

    @property
    def feature_labels(self) -> list[str]:
        """Names of the numbers in a row of x, flattened; x0, x1, ... for numbers without a name."""
        count = int(np.prod(self.x.shape[1:]))
        return [*self.feature_names, *(f"x{i}" for i in range(len(self.feature_names), count))][:count]

    def doubts(self, kind: str) -> list[str]:
        """Return what is likely wrong with inputs and labels, a sentence each; see `labels.doubts`.

        kind  as for `targets`
        """
        doubted = (
            [f"{self.missing}. Models of a trainer that cannot read it fail, if it is in their subset"]
            if self.missing
            else []
        )
        return doubted + labels.doubts(self.y, self.targets(kind).y, self.label_names)

    @functools.cached_property
    def missing(self) -> str:
        """Say where x, or x_test, has what is no finite number among its numbers, and how much; "" if nowhere."""
        for name in ("x", "x_test"):
            if fault := inputs.missing(getattr(self, name), self.feature_names):
                return f"{name} has {fault}"
        return ""

    def targets(self, kind: str) -> Targets:
        """Return the targets of a run.

        kind  test, train, or both, with the test examples first

        Raises SpecError if there are none.
        """
        own = np.full(len(self.y_test), NOT_IN_POOL) if self.own_test is None else self.own_test
        test = Targets(self.x_test, self.y_test, np.asarray(own, dtype=np.int32))
        train = Targets(self.x, self.y, np.arange(len(self.y), dtype=np.int32))
        if kind == "both":
            chosen = Targets(*(np.concatenate([getattr(t, part) for t in (test, train)]) for part in ("x", "y", "own")))
        else:
            chosen = {"test": test, "train": train}[kind]
        if not len(chosen):
            raise SpecError(f"targets = {kind!r}: the data set has no such examples")
        return chosen


def split(
    x: np.ndarray,
    y: np.ndarray,
    *,
    train: int,
    test: int | None = None,
    seed: int,
    texts: Sequence[str] | None = None,
    **display: Any,
) -> Dataset:
    """Shuffle examples and split them into a pool and test examples.

    x, y     [examples, ...] and [examples]
    train    examples of the pool
    test     test examples; None for all others
    seed     of the shuffle
    texts    text of each example, for display
    display  further fields of Dataset

    Raises SpecError if there are fewer examples.
    """
    if not 1 <= train < len(y):
        raise SpecError(f"dataset.options.train = {train}: must be 1 to {len(y) - 1}")
    if test is not None and not 1 <= test <= len(y) - train:
        raise SpecError(f"dataset.options.test = {test}: must be 1 to {len(y) - train}, or left out")
    order = np.random.default_rng(seed).permutation(len(y))
    pool, tests = order[:train], order[train:][:test]
    if texts is not None:
        display |= {"texts": [texts[i] for i in pool], "texts_test": [texts[i] for i in tests]}
    return Dataset(x=x[pool], y=y[pool], x_test=x[tests], y_test=y[tests], **display)


def classes(dataset: Dataset, targets: Targets) -> int:
    """Return the number of classes of a data set, at least 2. Raises SpecError if y is not a class 0, 1, ..."""
    for name, y in (("y", dataset.y), ("y of the targets", targets.y)):
        if y.dtype.kind not in "iu" or y.ndim != 1:
            raise SpecError(
                f"dataset: {name} is {y.dtype}{list(y.shape)}: this trainer needs classes 0, 1, ...; number them with "
                "np.unique(y, return_inverse=True)[1]"
            )
        if len(y) and y.min() < 0:
            raise SpecError(f"dataset: {name} has a label {y.min()}: this trainer needs classes 0, 1, ...")
    classes = max(int(dataset.y.max()), int(targets.y.max())) + 1
    most = len(dataset.label_names) or len(dataset.y) + len(targets.y)
    if classes > most:
        raise SpecError(
            f"dataset: has a label {classes - 1}: must be 0 to {most - 1}, because there are {most} "
            f"{'label_names' if dataset.label_names else 'examples'}; number the classes without gaps"
        )
    return max(2, classes)
