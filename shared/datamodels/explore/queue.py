"""Make the review queue of a fit: what its weights suspect, the most suspect first, with a suggested label."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator

import numpy as np

from datamodels.analyze.patterns import leakage, review
from datamodels.analyze.what_if import mislabel, relabel
from datamodels.display.looks import POOL
from datamodels.display.stored import Stored
from datamodels.errors import InputError, NotReadyError
from datamodels.explore import verdicts
from datamodels.query.weights import Fitted

SHARE = 0.2
"""Largest support of a fragile target, as a share of the columns: beyond it, weights say little."""
SEARCHED = 2000
"""Most targets whose supports are searched for; of more, a random sample is."""
SAME, SAME_BUT_LABEL = 1.0, 2.0
"""Scores of two examples with the same content: the second if their labels differ, so that one of them is wrong."""


@dataclasses.dataclass(frozen=True)
class Suspect:
    """Something to review.

    kind, index, other  as of `verdicts.Verdict`
    score      of its kind: larger is more suspect. For fragile targets, minus the size of the support; for duplicates,
               SAME or SAME_BUT_LABEL
    suggested  the label that the weights suggest; None if they suggest none
    """

    kind: str
    index: int
    other: int
    score: float
    suggested: int | None = None


@dataclasses.dataclass(frozen=True)
class Queue:
    """What to review of a fit, by kind; `left_out` says why the run cannot have a kind."""

    suspects: list[Suspect]
    left_out: dict[str, str]


def of_fit(fitted: Fitted, looks: Stored | None, k: int) -> Queue:
    """Return at most k suspects of each kind. Raises InputError for k < 1, and as `Stored.tables` does."""
    if k < 1:
        raise InputError(f"k = {k}: must be at least 1")
    found: list[Suspect] = []
    left_out = {}
    makers: dict[str, Callable[[Fitted, int], Iterator[Suspect]]] = {
        verdicts.LABEL: _labels,
        verdicts.LEAK: _leaks,
        verdicts.DUPLICATE: lambda fitted, k: _duplicates(fitted, looks, k),
        verdicts.FRAGILE: _fragile,
    }
    for kind, make in makers.items():
        try:
            found += make(fitted, k)
        except (InputError, NotReadyError) as error:
            left_out[kind] = str(error)
    return Queue(found, left_out)


def _labels(fitted: Fitted, k: int) -> Iterator[Suspect]:
    run, solution = fitted.run, fitted.solution
    suspects = mislabel.suspects(run, solution, k)
    labels = relabel.suggested(run, solution, suspects)
    for example, score, label in zip(suspects.example.tolist(), suspects.score.tolist(), labels, strict=True):
        yield Suspect(verdicts.LABEL, example, verdicts.NO_OTHER, score, label)


def _leaks(fitted: Fitted, k: int) -> Iterator[Suspect]:
    if fitted.run.design.grouped:
        raise InputError(f"run {fitted.run.name}: its columns are groups of examples, none of which is a copy")
    found = leakage.by_weights(fitted.run, fitted.solution, k)
    for target, example, share in zip(*(a.tolist() for a in (found.target, found.example, found.score)), strict=True):
        yield Suspect(verdicts.LEAK, target, example, share)


def _duplicates(fitted: Fitted, looks: Stored | None, k: int) -> Iterator[Suspect]:
    """Yield pairs of the first example with some content and a later one; those with different labels come first."""
    if looks is None:
        raise InputError(f"run {fitted.run.name}: the store has no looks of its examples, so they cannot be compared")
    first: dict[bytes, int] = {}
    pairs = []
    for example, digest in enumerate(_digests(looks)):
        if digest is not None and first.setdefault(digest, example) != example:
            pairs.append((first[digest], example))
    labels = fitted.run.labels
    differ = [labels is not None and labels[one] != labels[other] for one, other in pairs]
    for i in sorted(range(len(pairs)), key=lambda i: not differ[i])[:k]:
        yield Suspect(verdicts.DUPLICATE, *pairs[i], SAME_BUT_LABEL if differ[i] else SAME)


def _digests(looks: Stored) -> Iterator[bytes | None]:
    """Yield a digest of the picture, text or row of each training example; None for one that has none of them."""
    columns = ["picture", "text", "row"]
    for table in looks.tables(POOL, columns):
        for picture, text, row in zip(*(table[name].to_pylist() for name in columns), strict=True):
            content = repr((picture, text, row)).encode(errors="surrogatepass")
            known = picture is not None or text or row is not None
            yield hashlib.blake2b(content, digest_size=16).digest() if known else None


def _fragile(fitted: Fitted, k: int) -> Iterator[Suspect]:
    run, solution = fitted.run, fitted.solution
    if run.n > SEARCHED:
        chosen = np.random.default_rng(run.spec.seed).permutation(run.n)[:SEARCHED].tolist()
        found = review.fragility(run, solution, chosen).fragile
    else:
        found = review.fragile(run, solution, k, SHARE)
    for target, size in list(zip(found.target.tolist(), found.size.tolist(), strict=True))[:k]:
        yield Suspect(verdicts.FRAGILE, target, verdicts.NO_OTHER, float(-size))
