"""Make the review queue of a fit: what its weights suspect, the most suspect first, with a suggested label."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np

from datamodels import words
from datamodels.analyze.findings import Findings, FitFindings
from datamodels.analyze.patterns import leakage, review
from datamodels.analyze.patterns.leakage import Pairs
from datamodels.analyze.patterns.review import Fragile
from datamodels.analyze.what_if import mislabel, relabel
from datamodels.analyze.what_if.mislabel import Suspects
from datamodels.display.looks import POOL, Looks
from datamodels.display.stored import Stored
from datamodels.errors import InputError, NotReadyError
from datamodels.explore import verdicts
from datamodels.fit.data.problem import Solution
from datamodels.query.weights import Fitted
from datamodels.run.runs import Run

T = TypeVar("T")

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
    why        the score, in words
    suggested  the label that the weights suggest; None if they suggest none
    """

    kind: str
    index: int
    other: int
    score: float
    why: str
    suggested: int | None = None


@dataclasses.dataclass(frozen=True)
class Queue:
    """What to review of a fit, by kind: how suspects are ranked, and why the run cannot have a kind."""

    suspects: list[Suspect]
    ranked: dict[str, str]
    left_out: dict[str, str]


def of_fit(fitted: Fitted, looks: Looks | None, k: int) -> Queue:
    """Return at most k suspects of each kind. Raises InputError for k < 1, and as `Stored.tables` does."""
    if k < 1:
        raise InputError(f"k = {k}: must be at least 1")
    run, solution = fitted.run, fitted.solution
    return _queue(
        {
            verdicts.LABEL: lambda: _labels(run, solution, mislabel.suspects(run, solution, k)),
            verdicts.LEAK: lambda: _leaks(_copies(run, solution, k)),
            verdicts.DUPLICATE: lambda: _duplicates(fitted, looks, k),
            verdicts.FRAGILE: lambda: _fragile(_fragile_targets(run, solution, k), k),
        }
    )


def of_findings(found: Findings, fit: FitFindings, k: int) -> Queue:
    """Return at most k suspects of each kind, of those that a report has found: it compares inputs, if it can."""

    def known(part: T | None, why: str) -> T:
        if part is None:
            raise InputError(why)
        return part

    return _queue(
        {
            verdicts.LABEL: lambda: _labels(
                found.run, fit.solution, known(fit.suspects, "the run has no labels that weights could doubt")
            ),
            verdicts.LEAK: lambda: _leaks(known(fit.leaks, "the run has no targets that could be copies of examples")),
            verdicts.DUPLICATE: lambda: known(None, "a report does not compare examples; `datamodels explore` does"),
            verdicts.FRAGILE: lambda: _fragile(
                known(fit.fragility, "its output has no threshold, so no model is wrong").fragile, k
            ),
        }
    )


Made = tuple[str, list[Suspect]]
"""How suspects of a kind are ranked, in words, and the suspects."""


def _queue(makers: dict[str, Callable[[], Made]]) -> Queue:
    found: list[Suspect] = []
    ranked, left_out = {}, {}
    for kind, make in makers.items():
        try:
            ranked[kind], suspects = make()
            found += suspects
        except (InputError, NotReadyError) as error:
            left_out[kind] = str(error)
    return Queue(found, ranked, left_out)


def _labels(run: Run, solution: Solution, suspects: Suspects) -> Made:
    by = (
        "how strongly models that have not seen them disagree with their label"
        if suspects.by == mislabel.OWN
        else "how much they move targets of other labels, and how little they help targets of their own"
    )
    labels = relabel.suggested(run, solution, suspects)
    rows = zip(suspects.example.tolist(), suspects.score.tolist(), labels, strict=True)
    return (
        f"Ranked by {by}. Hard examples look the same by this measure, so look at each one.",
        [
            Suspect(verdicts.LABEL, example, verdicts.NO_OTHER, score, f"score {words.number(score)}", label)
            for example, score, label in rows
            if score > 0 or suspects.by == mislabel.OWN  # the other score is above 0 if there is anything to suspect
        ],
    )


def _copies(run: Run, solution: Solution, k: int) -> Pairs:
    if run.design.grouped:
        raise InputError(f"run {run.name}: its columns are groups of examples, none of which is a copy")
    return leakage.by_weights(run, solution, k)


def _leaks(pairs: Pairs) -> Made:
    close = pairs.close
    ranked = (
        "Ranked by the example's share of all weights that help the target, which finds few copies. "
        "`datamodels leakage RUN` compares inputs."
        if close is None
        else f"{close.verdict} Ranked by distance: {close.compared}. It is divided by the distance of the target to "
        "its fifth nearest example: 1 is ordinary, 0 is equal as compared."
    )
    same = [""] * len(pairs.target) if close is None else close.said
    columns = (getattr(pairs, name).tolist() for name in ("target", "example", "score", "weight"))
    found = []
    for target, example, score, weight, equal in zip(*columns, same, strict=True):
        first = f"{score:.0%} of the weight that helps it" if close is None else f"distance {words.number(score)}"
        why = ", ".join(filter(None, [first, equal, f"weight {words.number(weight, signed=True)}"]))
        found.append(Suspect(verdicts.LEAK, target, example, score, why))
    return ranked, found


def _duplicates(fitted: Fitted, looks: Looks | None, k: int) -> Made:
    """Return pairs of the first example with some content and a later one; those with different labels come first."""
    if not isinstance(looks, Stored):
        raise InputError(f"run {fitted.run.name}: the store has no looks of its examples, so they cannot be compared")
    first: dict[bytes, int] = {}
    pairs = []
    for example, digest in enumerate(_digests(looks)):
        if digest is not None and first.setdefault(digest, example) != example:
            pairs.append((first[digest], example))
    labels = fitted.run.labels
    differ = [labels is not None and labels[one] != labels[other] for one, other in pairs]
    chosen = sorted(range(len(pairs)), key=lambda i: not differ[i])[:k]
    return "Those with different labels come first.", [
        Suspect(verdicts.DUPLICATE, *pairs[i], SAME_BUT_LABEL, "the same content, another label")
        if differ[i]
        else Suspect(verdicts.DUPLICATE, *pairs[i], SAME, "the same content")
        for i in chosen
    ]


def _digests(looks: Stored) -> Iterator[bytes | None]:
    """Yield a digest of the picture, text or row of each training example; None for one that has none of them."""
    columns = ["picture", "text", "row"]
    for table in looks.tables(POOL, columns):
        for picture, text, row in zip(*(table[name].to_pylist() for name in columns), strict=True):
            content = repr((picture, text, row)).encode(errors="surrogatepass")
            known = picture is not None or text or row is not None
            yield hashlib.blake2b(content, digest_size=16).digest() if known else None


def _fragile_targets(run: Run, solution: Solution, k: int) -> Fragile:
    if run.n > SEARCHED:
        chosen = np.random.default_rng(run.spec.seed).permutation(run.n)[:SEARCHED].tolist()
        return review.fragility(run, solution, chosen).fragile
    return review.fragile(run, solution, k, SHARE)


def _fragile(found: Fragile, k: int) -> Made:
    rows = list(zip(found.target.tolist(), found.size.tolist(), strict=True))[:k]
    return "Ranked by the fewest examples without which they are predicted to be wrong.", [
        Suspect(verdicts.FRAGILE, target, verdicts.NO_OTHER, float(-size), f"wrong without {size:,}")
        for target, size in rows
    ]
