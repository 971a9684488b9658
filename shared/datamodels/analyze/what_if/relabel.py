"""Find the mislabel support of a target: the smallest set of training labels to change so that models get it wrong.

Ilyas et al. 2022, section 4.1: the most helpful examples get the label that the target is most easily mistaken for. A
datamodel predicts the effect of removing an example, not that of another label. So a changed label is predicted to have
EFFECT times the effect of removal: once for the lost help, and as much again for the new harm. `what_if.retrain` checks
supports: on the digits, 88% of them flip (81% to 93%).

Outputs such as margins do not name the other label. So the new label is the one whose examples harm the target most.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from datamodels.analyze.what_if import mislabel, pool
from datamodels.analyze.what_if import support as supports
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
    labels, target_labels = mislabel.require_labels(run)
    others = np.unique(labels)
    others = others[others != target_labels[target]]
    if not len(others):
        raise InputError(f"run {run.name}: its pool has no label but that of target {target}")
    columns, weights = solution.row(target)
    gain = run.predicted.sign * weights
    harm = [np.minimum(gain[labels[columns] == label], 0).sum() for label in others]
    return int(others[np.argmin(harm)])
