"""Find the mislabel support of a target: the smallest set of training labels to change so that models get it wrong.

Ilyas et al. 2022, section 4.1: the most helpful examples get the label that the target is most easily mistaken for. A
datamodel predicts the effect of removing an example, not that of another label. So a changed label is predicted to have
EFFECT times the effect of removal: once for the lost help, and as much again for the new harm. `what_if.retrain` checks
supports: on the digits, 88% of them flip (81% to 93%).

Outputs such as margins do not name the other label. So the new label is the one whose examples harm the target most.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from datamodels.analyze.what_if import mislabel, pool
from datamodels.analyze.what_if import support as supports
from datamodels.analyze.what_if.mislabel import Suspects
from datamodels.analyze.what_if.support import NO_WEIGHTS, Support
from datamodels.errors import InputError
from datamodels.fit.data import problem
from datamodels.fit.data.problem import Solution
from datamodels.run.runs import Run

EFFECT = 2.0
"""Predicted effect of another label, as a multiple of that of removal."""
NO_LABEL = -1


@dataclasses.dataclass(frozen=True, eq=False)
class Relabelling:
    """A mislabel support.

    support  as of `what_if.support`, but the columns get another label instead of being removed
    label    the new label; NO_LABEL if the target has no weights
    """

    support: Support
    label: int


def relabelling(
    run: Run, solution: Solution, target: int, *, limit: int = 0, safety: float = 0.0, threshold: float | None = None
) -> Relabelling:
    """Find the mislabel support of a target in the whole pool without the target itself; arguments as for `support`.

    Raises TargetRangeError, and InputError, also if the pool has no labels or only one.
    """
    labels, _ = mislabel.require_labels(run)
    output = supports.check(run, limit, safety, threshold)
    solution.row(target)
    if solution.status[target] in problem.UNFITTED:
        return Relabelling(Support(target, NO_WEIGHTS, pool.NO_COLUMNS, np.zeros(0)), NO_LABEL)
    label = most_harmful_label(run, solution, target)
    columns, curve = supports.removal(run, solution, target, limit or supports.default_limit(run))
    worth, other = -np.diff(curve), labels[columns] != label
    curve = curve[0] - EFFECT * np.concatenate([[0.0], np.cumsum(worth[other])])
    return Relabelling(supports.shortest(target, columns[other], curve, output, safety), label)


def most_harmful_label(run: Run, solution: Solution, target: int) -> int:
    """Return the label, other than the target's own, whose examples harm the target most; the smallest if none does.

    Raises InputError if the pool has no other label.
    """
    others, harm = _harm_by_label(run, solution, target)
    if not len(others):
        raise InputError(f"run {run.name}: its pool has no label but that of target {target}")
    return int(others[np.argmin(harm)])


def _harm_by_label(run: Run, solution: Solution, target: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the labels of the pool other than the target's own, and the harm of the examples of each, 0 or below."""
    labels, target_labels = mislabel.require_labels(run)
    others = np.unique(labels)
    others = others[others != target_labels[target]]
    columns, weights = solution.row(target)
    gain = run.predicted.sign * weights
    return others, np.array([np.minimum(gain[labels[columns] == label], 0).sum() for label in others])


def suggested(run: Run, solution: Solution, suspects: Suspects) -> list[int | None]:
    """Return the label that the weights suggest for each suspect; None for those that they suggest none for.

    For suspects by OWN, it is the label whose examples harm the suspect most; by HARM, the label whose targets it helps
    most.
    """
    if suspects.by == mislabel.OWN:
        target_of = {int(own): target for target, own in enumerate(run.own.tolist()) if own >= 0}
        return [_label_that_harms(run, solution, target_of[example]) for example in suspects.example.tolist()]
    by_column = solution.theta.tocsc()
    return [_label_that_it_helps(run, by_column, example) for example in suspects.example.tolist()]


def _label_that_harms(run: Run, solution: Solution, target: int) -> int | None:
    others, harm = _harm_by_label(run, solution, target)
    return int(others[np.argmin(harm)]) if harm.any() else None


def _label_that_it_helps(run: Run, by_column: Any, example: int) -> int | None:
    """Return the class, other than its own, whose targets an example helps most; None if it helps none of another."""
    labels, target_labels = mislabel.require_labels(run)
    entries = slice(by_column.indptr[example], by_column.indptr[example + 1])
    theirs, gain = target_labels[by_column.indices[entries]], run.predicted.sign * by_column.data[entries]
    helped = (gain > 0) & (theirs != labels[example]) & (theirs >= 0)
    return int(np.bincount(theirs[helped], gain[helped]).argmax()) if helped.any() else None
