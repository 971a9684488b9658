"""Make the prior of a run: similar examples are expected to have larger weights, before any model is trained.

The similarity of a target and a column is the cosine of their features, minus the mean of the training pool. The
features of a column that is a group of examples are the mean of theirs.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from datamodels.errors import SpecError
from datamodels.fit.data.examples import Examples
from datamodels.run.runs import Run


@dataclasses.dataclass(frozen=True, eq=False)
class Prior:
    """Features of unit length.

    targets  float32[n, f]; of each target
    columns  float32[d, f]; of each column
    """

    targets: np.ndarray
    columns: np.ndarray

    def factor(self, targets: np.ndarray, strength: float) -> np.ndarray:
        """Return penalty factors float64[t, d] of targets int64[t]: exp(-strength * z) over its mean.

        z is the similarity, standardised over the columns for each target. The mean of a target's factors is 1; at
        strength 0, all of them are 1.
        """
        similarity = self.targets[targets].astype(np.float64) @ self.columns.T.astype(np.float64)
        similarity -= similarity.mean(axis=1, keepdims=True)
        spread = similarity.std(axis=1, keepdims=True)
        factor = np.exp(-strength * similarity / np.where(spread > 0, spread, 1))
        return factor / factor.mean(axis=1, keepdims=True)


def flat(x: np.ndarray) -> np.ndarray:
    """Return the default features: the numbers of each example as they are, field after field if x has fields.

    Raises SpecError if they are no numbers.
    """
    if x.dtype.names is not None:
        return np.hstack([flat(x[name]) for name in x.dtype.names])
    if x.dtype.kind not in "fiub":
        raise SpecError(
            f"fit.features: x is {x.dtype}, no numbers; name a module:function that turns x[examples, ...] into "
            "features float[examples, f]"
        )
    return x.reshape(len(x), -1)


def made_up(n: int, d: int) -> Prior:
    """Return a prior that says nothing, of n targets and d columns."""
    return Prior(np.ones((n, 1), dtype=np.float32), np.ones((d, 1), dtype=np.float32))


def of_run(run: Run, given: Examples) -> Prior:
    """Return the prior of a run."""
    pool, theirs = (x.astype(np.float64) for x in (given.x, given.x_targets))
    center = pool.mean(axis=0)
    groups = run.design.column_of_each
    if groups is not None:
        sizes = np.bincount(groups, minlength=run.design.columns)
        grouped = np.zeros((run.design.columns, pool.shape[1]))
        np.add.at(grouped, groups, pool)
        pool = grouped / sizes[:, None]
    return Prior(*(unit(rows - center).astype(np.float32) for rows in (theirs, pool)))


def unit(features: np.ndarray) -> np.ndarray:
    """Return rows of length 1; rows of zeros stay."""
    length = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.where(length > 0, length, 1)
