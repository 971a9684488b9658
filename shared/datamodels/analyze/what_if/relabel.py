"""Mislabel support: the smallest set of training labels to change so that models get a target wrong.

Ilyas et al. 2022, section 4.1: the examples of largest positive weight get the label that the target is most easily
taken for. A datamodel knows what it is worth that an example is there, and not what another label would be: a changed
label is foretold to cost EFFECT times what taking the example out does, once for the help that is gone and as much
again for the harm that comes. `what_if.retrain` checks it: on the digits 88% of the supports flip (81% to 93%).

Outputs are margins, which do not say of which other label. The label that a target is most easily taken for is that
whose examples harm it most.
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
NO_LABEL = -1


@dataclasses.dataclass(frozen=True, eq=False)
class Relabelling:
    """
    support  as of `what_if.support`, but that the columns get another label, and are not taken out
    label    which; NO_LABEL where the target has no weights
    """

    support: Support
    label: int


def relabelling(
    run: Run, solution: Solution, target: int, *, limit: int = 0, safety: float = 0.0, threshold: float = 0.0
) -> Relabelling:
    """The mislabel support of a target in the whole pool, without the target itself; asked for as in `support`.

    Raises TargetRangeError, InputError; that too where the pool has no labels or a single one.
    """
    supports.check(run, limit, safety, threshold)
    labels, _ = mislabel.require_labels(run)
    solution.row(target)
    if solution.status[target] in problem.UNFITTED:
        return Relabelling(Support(target, NO_WEIGHTS, pool.NO_COLUMNS, np.zeros(0)), NO_LABEL)
    label = most_harmful_label(run, solution, target)
    columns, curve = supports.removal(run, solution, target, limit or supports.default_limit(run))
    worth, other = -np.diff(curve), labels[columns] != label
    curve = curve[0] - EFFECT * np.concatenate([[0.0], np.cumsum(worth[other])])
    return Relabelling(supports.shortest(target, columns[other], curve, safety, threshold), label)


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
    harm = [np.minimum(weights[labels[columns] == label], 0).sum() for label in others]
    return int(others[np.argmin(harm)])
