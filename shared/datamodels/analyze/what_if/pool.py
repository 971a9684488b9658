"""Sets of columns to train on, beside the subsets that were drawn: what a question about them may ask."""

from __future__ import annotations

import numpy as np

from datamodels.errors import InputError
from datamodels.run import designs
from datamodels.run.dataset import NOT_IN_POOL
from datamodels.run.runs import Run

NO_COLUMNS = np.zeros(0, dtype=np.int32)


def whole(run: Run) -> np.ndarray:
    """bool[d]: all columns that any subset may have."""
    return run.design.inclusion > 0


def own_column(run: Run, target: int) -> int | None:
    """The column that the target itself is in, whose effect on it is not modelled; None of most targets."""
    example = int(run.own[target])
    return None if example == NOT_IN_POOL else run.design.column_of(example)


def without_own(run: Run, members: np.ndarray, target: int) -> np.ndarray:
    """bool[d]: the set without the column that the target is in."""
    column = own_column(run, target)
    if column is None or not members[column]:
        return members
    members = members.copy()
    members[column] = False
    return members


def members_of(run: Run, columns: np.ndarray, name: str) -> np.ndarray:
    """bool[d] of int[k] columns. Raises MaskError, InputError for one given twice; `name` is the field."""
    if len(np.unique(columns)) != len(columns):
        raise InputError(f"{name}: names a column twice")
    return designs.unpack(designs.mask_of(columns, run.design.columns), run.design.columns)


def changed(run: Run, base: np.ndarray, remove: np.ndarray, add: np.ndarray) -> np.ndarray:
    """bool[d]: `base` less the columns `remove`, with the columns `add`.

    Raises InputError where nothing changes, where a column is not there to be removed or is there already, where no
    subset or every subset has it, and where a class is left without examples.
    """
    leaving, coming = members_of(run, remove, "remove"), members_of(run, add, "add")
    if not len(remove) and not len(add):
        raise InputError("remove and add are both empty: name the columns to take out or to put in")
    for name, wrong, why in (
        ("remove", leaving & ~base, "is not in the set that it is taken out of"),
        ("add", coming & base, "is in the set already"),
    ):
        if wrong.any():
            raise InputError(f"{name}: column {np.flatnonzero(wrong)[0]} {why}")
    fixed = (leaving | coming) & (run.design.stratum < 0)
    if fixed.any():
        raise InputError(
            f"column {np.flatnonzero(fixed)[0]}: is pinned; every subset has it or none, so that its effect is unknown"
        )
    after = (base & ~leaving) | coming
    if not after.any():
        raise InputError("remove: leaves no examples to train on")
    gone = emptied(run, base, after)
    if gone is not None:
        raise InputError(f"remove: leaves no example of class {gone}; leave some, for no model was trained without it")
    return after


def emptied(run: Run, base: np.ndarray, after: np.ndarray) -> int | None:
    """The first class that `base` has examples of and `after` has not; None where there is none."""
    if run.labels is None:
        return None
    had, has = (set(np.unique(run.labels[run.design.members(np.flatnonzero(part))]).tolist()) for part in (base, after))
    return min(had - has, default=None)


def column_labels(run: Run) -> np.ndarray | None:
    """int32[d]: classes of the columns; None where examples have none, or columns are groups of them."""
    return None if run.design.grouped else run.labels
