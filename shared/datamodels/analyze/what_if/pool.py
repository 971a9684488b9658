"""Make and check sets of columns that a question asks about, such as the whole pool without some examples."""

from __future__ import annotations

import numpy as np

from datamodels.errors import InputError
from datamodels.run import designs
from datamodels.run.dataset import NOT_IN_POOL
from datamodels.run.runs import Run

NO_COLUMNS = np.zeros(0, dtype=np.int32)


def whole(run: Run) -> np.ndarray:
    """Return bool[d]: all columns that a subset may contain."""
    return run.design.inclusion > 0


def own_column(run: Run, target: int) -> int | None:
    """Return the column that contains the target itself; None if the target is no training example.

    The effect of this column on the target is not modelled.
    """
    example = int(run.own[target])
    return None if example == NOT_IN_POOL else run.design.column_of(example)


def without_own(run: Run, members: np.ndarray, target: int) -> np.ndarray:
    """Return bool[d]: the set without the column that contains the target."""
    column = own_column(run, target)
    if column is None or not members[column]:
        return members
    members = members.copy()
    members[column] = False
    return members


def members_of(run: Run, columns: np.ndarray, name: str) -> np.ndarray:
    """Return bool[d]: the set of columns int[k]. `name` is for errors: MaskError, and InputError for duplicates."""
    if len(np.unique(columns)) != len(columns):
        raise InputError(f"{name}: names a column twice")
    return designs.unpack(designs.mask_of(columns, run.design.columns), run.design.columns)


def changed(run: Run, base: np.ndarray, remove: np.ndarray, add: np.ndarray, *, nothing: bool = False) -> np.ndarray:
    """Return bool[d]: `base` without the columns `remove` and with the columns `add`.

    Raises InputError if nothing changes, unless `nothing` allows that, if a column to remove is not in `base`, if a
    column to add is, if a column is pinned (in all subsets or in none), and if a class is left without examples.
    """
    leaving, coming = members_of(run, remove, "remove"), members_of(run, add, "add")
    if not nothing and not len(remove) and not len(add):
        raise InputError("remove and add: both are empty; name the columns to remove or to add")
    for name, wrong, why in (
        ("remove", leaving & ~base, "is not in the set"),
        ("add", coming & base, "is already in the set"),
    ):
        if wrong.any():
            raise InputError(f"{name}: column {np.flatnonzero(wrong)[0]} {why}")
    fixed = (leaving | coming) & (run.design.stratum < 0)
    if fixed.any():
        raise InputError(
            f"column {np.flatnonzero(fixed)[0]}: is pinned; all subsets have it or none, so its effect is unknown"
        )
    after = (base & ~leaving) | coming
    if not after.any():
        raise InputError("remove: leaves no examples to train on")
    gone = emptied(run, base, after)
    if gone is not None:
        raise InputError(f"remove: leaves no example of class {gone}; keep some, since no model was trained without it")
    return after


def relabelled(run: Run, after: np.ndarray, relabel: np.ndarray) -> np.ndarray:
    """Return bool[d]: the columns int[k] of a set, `after`, that get another label.

    Raises MaskError, and InputError if a column is not in the set or is pinned, if columns have no labels of their own,
    and if a class is left without examples of its own.
    """
    chosen = members_of(run, relabel, "relabel")
    if not chosen.any():
        return chosen
    if column_labels(run) is None:
        raise InputError(f"relabel: the columns of run {run.name} have no class labels of their own")
    for wrong, why in (
        (chosen & ~after, "is not in the changed set"),
        (chosen & (run.design.stratum < 0), "is pinned; all subsets have it or none, so its effect is unknown"),
    ):
        if wrong.any():
            raise InputError(f"relabel: column {np.flatnonzero(wrong)[0]} {why}")
    gone = emptied(run, after, after & ~chosen)
    if gone is not None:
        raise InputError(
            f"relabel: leaves no example of class {gone}; keep some, since no model was trained without it"
        )
    return chosen


def emptied(run: Run, base: np.ndarray, after: np.ndarray) -> int | None:
    """Return the lowest label that has examples in `base` and none in `after`; None if there is no such label."""
    if run.labels is None:
        return None
    gone = np.unique(run.labels[_examples(run, base & ~after)])
    left = gone[~np.isin(gone, run.labels[_examples(run, after)])]
    return int(left[0]) if len(left) else None


def _examples(run: Run, members: np.ndarray) -> np.ndarray:
    """Return bool[examples]: which training examples are in a set of columns, bool[d]."""
    column = run.design.column_of_each
    return members if column is None else members[column]


def column_labels(run: Run) -> np.ndarray | None:
    """Return int32[d]: classes of the columns; None if examples have no classes or columns are groups of examples."""
    return None if run.design.grouped else run.labels
