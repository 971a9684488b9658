"""Make data sets for language models: the pool is texts, and targets are parts of other texts. Nothing has a label."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from datamodels import words
from datamodels.errors import SpecError
from datamodels.run.dataset import NOT_IN_POOL, Dataset

IGNORED = -100
"""Label of positions that do not count, as in PyTorch and transformers."""
COLUMNS = 1024
"""Features of `counts`."""


@dataclasses.dataclass(frozen=True)
class Text:
    """A text as the tokens that a model reads.

    tokens   int[t]; numbers of the tokens, at least two
    text     the text itself, for people; by default the numbers
    offsets  (first, last) for each token: it is the letters `first <= letter < last` of the text. A tokenizer of
             Hugging Face gives them as `offset_mapping`, and (0, 0) for special tokens, which are no letters

    Raises SpecError if they do not fit each other.
    """

    tokens: Sequence[int]
    text: str = ""
    offsets: Sequence[tuple[int, int]] = ()

    def __post_init__(self) -> None:
        if len(self.tokens) < 2:
            raise SpecError(
                f"dataset: the text {self.text[:40]!r} has {words.count(len(self.tokens), 'token')}: needs two, one "
                "to predict the other"
            )
        if min(self.tokens) < 0:
            raise SpecError(
                f"dataset: the text {self.text[:40]!r} has the token {min(self.tokens)}: must be at least 0"
            )
        if not self.text and not len(self.offsets):
            spelled = [str(token) for token in self.tokens]
            starts = itertools.accumulate((len(word) + 1 for word in spelled), initial=0)
            object.__setattr__(self, "text", " ".join(spelled))
            object.__setattr__(self, "offsets", [(s, s + len(word)) for s, word in zip(starts, spelled, strict=False)])
        if len(self.offsets) != len(self.tokens):
            raise SpecError(
                f"dataset: the text {self.text[:40]!r} has {len(self.tokens)} tokens and {len(self.offsets)} offsets: "
                "must be equal"
            )
        ordered = [start for start, end in self.offsets if start != end]
        if ordered != sorted(ordered) or any(not 0 <= start <= end <= len(self.text) for start, end in self.offsets):
            raise SpecError(
                f"dataset: offsets of the text {self.text[:40]!r} must be (first, last) letters of it, which has "
                f"{len(self.text)}, in their order"
            )

    def tokens_of(self, first: int, last: int) -> tuple[int, int]:
        """Return (i, j): tokens `i <= token < j` have some of the letters `first <= letter < last`.

        Raises SpecError if no token has.
        """
        found = [i for i, (start, end) in enumerate(self.offsets) if start < last and end > first]
        if not found:
            raise SpecError(f"dataset: no token of the text {self.text[:40]!r} has its letters {first} to {last}")
        return found[0], found[-1] + 1

    def letters_of(self, first: int, last: int) -> tuple[int, int]:
        """Return the letters (first, last) of the tokens `first <= token < last`, which are at least one token.

        If they are special tokens, which are no letters, both ends are where the letters before them end.
        """
        letters = [(start, end) for start, end in self.offsets[first:last] if start != end]
        if letters:
            return int(letters[0][0]), int(letters[-1][1])
        here = max((int(end) for _, end in self.offsets[:first]), default=0)
        return here, here


Part = tuple[Text, int, int]
"""The tokens `first <= token < last` of a text: (text, first, last)."""


def language_dataset(
    pool: Sequence[Text],
    targets: Sequence[Part],
    *,
    leave_out: bool = False,
    length: int | None = None,
    blank: int = 0,
    **display: Any,
) -> Dataset:
    """Return a data set for models that predict the next token.

    pool     the texts that subsets are drawn from
    targets  parts of texts; the output of a model is about the tokens of the part, which it reads after all tokens
             before them. A text may have several parts. If it is in the pool, its own weight says what the model
             remembers of it, unless `leave_out`
    leave_out  for parts of texts of the pool, whether to leave out the subsets with their text, so that weights say
             which other texts matter
    length   tokens that a model reads at once; by default as many as the longest text has
    blank    number of the token that fills up shorter texts, and that LIME puts in place of tokens: one that stands for
             nothing, or for an unknown word
    display  further fields of Dataset, such as `groups`, if texts are parts of the same book, and `token_names`

    x is int32[examples, length], and y the token after each, int32[examples, length]: IGNORED after the end of a text
    and, of targets, outside of the part. So the loss `cross_entropy` is the mean over tokens, and the output
    `log_likelihood` that over the part.

    Raises SpecError for texts that are too long, parts that are not inside their texts, and `leave_out` if no part is
    of a text of the pool.
    """
    texts = [*pool, *(text for text, _, _ in targets)]
    longest = max((len(text.tokens) for text in texts), default=0)
    size = longest if length is None else length
    if longest > size:
        raise SpecError(
            f"dataset: a text has {longest} tokens: at most {size}, the length; cut it into several texts, of which "
            "`groups` says what they are cut from"
        )
    whole = [(text, 1, len(text.tokens)) for text in pool]
    x, y = _rows(whole, size, blank)
    x_test, y_test = _rows(list(_checked(targets)), size, blank)
    return Dataset(
        x,
        y,
        x_test,
        y_test,
        texts=[text.text for text in pool],
        texts_test=[text.text for text, _, _ in targets],
        own_test=_own(pool, targets) if leave_out else None,
        spans_test=[text.letters_of(first, last) for text, first, last in targets],
        blank_token=blank,
        **display,
    )


def _own(pool: Sequence[Text], targets: Sequence[Part]) -> list[int]:
    """Return for each part which text of the pool it is of; the first of several with the same tokens."""
    place = {tuple(text.tokens): row for row, text in reversed(list(enumerate(pool)))}
    own = [place.get(tuple(text.tokens), NOT_IN_POOL) for text, _, _ in targets]
    if all(row == NOT_IN_POOL for row in own):
        raise SpecError("dataset: leave_out: no target is a part of a text of the pool; give it the pool's own texts")
    return own


def _checked(targets: Sequence[Part]) -> Iterator[Part]:
    for row, (text, first, last) in enumerate(targets):
        if not all(isinstance(token, int | np.integer) for token in (first, last)):
            raise SpecError(f"dataset: target {row} is the tokens {first!r} to {last!r}: must be whole numbers")
        if not 1 <= first < last <= len(text.tokens):
            raise SpecError(
                f"dataset: target {row} is the tokens {first} <= token < {last} of a text of {len(text.tokens)}: must "
                "be inside of it, and not have token 0, which nothing predicts"
            )
        yield text, first, last


def _rows(parts: Sequence[Part], length: int, blank: int) -> tuple[np.ndarray, np.ndarray]:
    x = np.full((len(parts), length), blank, dtype=np.int32)
    y = np.full((len(parts), length), IGNORED, dtype=np.int32)
    for row, (text, first, last) in enumerate(parts):
        tokens = np.asarray(text.tokens)
        x[row, : len(tokens)] = tokens
        y[row, first - 1 : last - 1] = tokens[first:last]
    return x, y


def counts(x: np.ndarray) -> np.ndarray:
    """Return features for `fit.features`: how often each token is in an example, float32[examples, COLUMNS].

    x  numbers of tokens, int[examples, positions], or fields of which `input_ids` has them

    Numbers that are equal modulo COLUMNS are counted together, and number 0 is not counted.
    """
    tokens = x if x.dtype.names is None else x["input_ids"]
    row = np.repeat(np.arange(len(tokens)), tokens.shape[1]) * COLUMNS
    found = np.bincount(row + tokens.reshape(-1) % COLUMNS, minlength=len(tokens) * COLUMNS)
    found = found.reshape(len(tokens), COLUMNS).astype(np.float32)
    found[:, 0] = 0
    return found
