"""Load real sentences that every installation has, as counts or sequences of words, and classify them.

The texts are the docstrings of SciPy's functions, and the classes are the subpackages of SciPy. The trainer is an
example of one for many models at once: only NumPy, and a closed form.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from datamodels.errors import SpecError
from datamodels.outputs import Output
from datamodels.run.dataset import Dataset, Targets, split
from datamodels.train import outputs
from datamodels.train.texts import Part, Text, language_dataset

PARTS = ("interpolate", "linalg", "ndimage", "optimize", "signal", "spatial", "special", "stats")
"""Subpackages of SciPy, which are the classes."""
WORD = re.compile(r"[a-z]{2,}")
NAME = re.compile(r"[^\W\d_]\w+")
RARE = "(rare)"
"""Name of the token that stands for all words that are not among the most frequent ones, and for padding."""
TARGETS_AT_ONCE = 256
"""Targets of one matrix product, which bounds its memory."""


def load(train: int = 600, test: int | None = 200, seed: int = 0, least: int = 3) -> Dataset:
    """Return descriptions of SciPy's functions, each once, and the subpackage that each is in.

    train  examples in the pool
    test   test examples; None for all others
    seed   of the order in which examples are shuffled
    least  number of texts that a word must be in to count

    x is float32[examples, words]: how often each word occurs in a text. Words are those in at least `least` texts. y is
    int64, the subpackage. Other versions of SciPy have other texts.
    """
    found = dict(pair for part in range(len(PARTS)) for pair in _descriptions(part))  # each text counts once
    texts = [Counter(WORD.findall(text.lower())) for text in found]
    spread = Counter(word for text in texts for word in text)
    words = {word: column for column, word in enumerate(sorted(w for w, count in spread.items() if count >= least))}
    x = np.zeros((len(texts), len(words)), dtype=np.float32)
    for row, text in enumerate(texts):
        for word in text.keys() & words.keys():
            x[row, words[word]] = text[word]
    y = np.array(list(found.values()))
    return split(
        x, y, train=train, test=test, seed=seed, texts=list(found), label_names=PARTS, feature_names=tuple(words)
    )


def load_tokens(
    train: int = 600, test: int | None = 200, seed: int = 0, words: int = 1000, length: int = 48
) -> Dataset:
    """Return the texts of `load` as sequences of words, for networks.

    train   examples in the pool
    test    test examples; None for all others
    seed    of the order in which examples are shuffled
    words   number of different words, padding and the one for all rare words included
    length  number of words of a text that are kept

    x is a structured array with the arguments of a transformer. `input_ids`, int32[length], are the first words of a
    text by number, and `attention_mask`, int32[length], is 1 for each of them. Number 0 is padding, 2 to `words` - 1
    are the most frequent words, and 1 is any other.
    """
    found = load(train, test, seed)
    split_texts = [[WORD.findall(text.lower()) for text in texts or ()] for texts in (found.texts, found.texts_test)]
    counts = Counter(word for texts in split_texts for text in texts for word in text)
    names = ["(none)", RARE, *(word for word, _ in counts.most_common(max(0, words - 2)))]
    numbers = {word: number for number, word in enumerate(names)}
    fields = [("input_ids", np.int32, (length,)), ("attention_mask", np.int32, (length,))]
    arrays = []
    for texts in split_texts:
        x = np.zeros(len(texts), dtype=fields)
        for row, text in enumerate(texts):
            known = [numbers.get(word, 1) for word in text][:length]
            x["input_ids"][row, : len(known)] = known
            x["attention_mask"][row, : len(known)] = 1
        arrays.append(x)
    return dataclasses.replace(found, x=arrays[0], x_test=arrays[1], feature_names=(), token_names=names)


def load_language(
    train: int = 300, test: int = 150, seed: int = 0, words: int = 300, length: int = 24, span: int = 4
) -> Dataset:
    """Return the texts of `load` for language models: targets are spans of texts that are not in the pool.

    train   examples in the pool
    test    targets, each in another text
    seed    of the order of the texts, and of the places of the spans
    words   number of different tokens
    length  tokens of a text that are kept; it is cut there
    span    tokens of a target

    Tokens are words in lower case. The most frequent ones have numbers; 0 is any other, and padding. Spans have none
    of these.
    """
    found = load(train, None, seed)
    split_texts = [list(NAME.finditer(text)) for text in (*(found.texts or ()), *(found.texts_test or ()))]
    counts = Counter(match[0].lower() for matches in split_texts[:train] for match in matches[:length])
    names = [RARE, *(word for word, _ in counts.most_common(words - 1))]
    numbers = {word: number for number, word in enumerate(names)}
    texts = [
        Text(
            [numbers.get(match[0].lower(), 0) for match in matches[:length]],
            matches[0].string[: matches[:length][-1].end()],
            [match.span() for match in matches[:length]],
        )
        for matches in split_texts
    ]
    rng = np.random.default_rng(seed)
    targets: list[Part] = []
    for text in texts[train:]:
        places = [first for first in range(1, len(text.tokens) - span + 1) if all(text.tokens[first : first + span])]
        if places and len(targets) < test:
            first = int(rng.choice(places))
            targets.append((text, first, first + span))
    if len(targets) < test:
        raise SpecError(
            f"dataset.options.test = {test}: must be at most {len(targets)}, the texts that have such spans"
        )
    return language_dataset(texts[:train], targets, length=length, token_names=names)


def _descriptions(part: int) -> Iterator[tuple[str, int]]:
    """Yield (text, part) of each function; the text is what its docstring says before the parameters."""
    module = importlib.import_module(f"scipy.{PARTS[part]}")
    for name in sorted(module.__all__):
        lines = (inspect.getdoc(getattr(module, name)) or "").splitlines()
        signed = lines and lines[0].startswith(f"{name}(")
        text = " ".join(lines[1 if signed else 0 :]).partition(" Parameters ---")[0]
        if text and not inspect.ismodule(getattr(module, name)):
            yield " ".join(text.split()), part


class NaiveBayes:
    """Trains multinomial naive Bayes on counts of words, many models at once.

    smoothing       number that is added to each count
    output          what is recorded: margin or loss
    models_at_once  models that are trained side by side, which is faster than one by one

    The seed changes nothing.
    """

    def __init__(
        self,
        dataset: Dataset,
        targets: Targets,
        *,
        smoothing: float = 1.0,
        output: str = "margin",
        models_at_once: int = 50,
    ):
        if not smoothing > 0:
            raise SpecError(f"trainer.options.smoothing = {smoothing}: must be greater than 0")
        self.models_at_once = models_at_once
        self._smoothing = smoothing
        self._output = outputs.choose(output, outputs.OF_LOGITS)
        self._x, self._targets, self._y_targets = dataset.x, targets.x, targets.y
        classes = int(max(dataset.y.max(), targets.y.max())) + 1
        self._of_class = [np.flatnonzero(dataset.y == c) for c in range(classes)]

    @staticmethod
    def output(dataset: Dataset, *, output: str = "margin", **options: Any) -> Output:
        """Return what outputs mean."""
        return outputs.meaning(output, outputs.OF_LOGITS)

    def train_many(self, subsets: Sequence[np.ndarray], seeds: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Return log probabilities of classes, [r, classes], and of words in each class, [r, classes, words]."""
        inside = np.zeros((len(subsets), len(self._x)), dtype=np.float32)
        for row, subset in enumerate(subsets):
            inside[row, subset] = 1
        words = np.stack([inside[:, rows] @ self._x[rows] for rows in self._of_class], axis=1) + self._smoothing
        texts = np.stack([inside[:, rows].sum(axis=1) for rows in self._of_class], axis=1) + self._smoothing
        return np.log(texts / texts.sum(axis=1, keepdims=True)), np.log(words / words.sum(axis=2, keepdims=True))

    def outputs_many(self, models: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        """Return outputs, float32[r, n]."""
        priors, words = models
        found = np.empty((len(priors), len(self._targets)), dtype=np.float32)
        for first in range(0, len(self._targets), TARGETS_AT_ONCE):
            some = slice(first, first + TARGETS_AT_ONCE)
            logits = (words @ self._targets[some].T).transpose(0, 2, 1) + priors[:, None]
            found[:, some] = self._output(logits, self._y_targets[some])
        return found
