"""Make the prior of a run: similar examples are expected to have larger weights, before any model is trained.

The similarity of a target and a column is the cosine of their features, minus the mean of the training pool. The
features of a column that is a group of examples are the mean of theirs.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from datamodels.errors import SpecError
from datamodels.run import runs
from datamodels.run.dataset import Dataset, Targets
from datamodels.run.runs import Run
from datamodels.run.user_code import why


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


def of_run(run: Run, dataset: Dataset) -> Prior:
    """Return the prior of a run. Raises SpecError if its features are not valid, or the data set has changed."""
    targets = require_same(run, dataset)
    pool, theirs = (features(run, x) for x in (dataset.x, targets.x))
    if pool.shape[1] != theirs.shape[1]:
        raise SpecError(
            f"fit.features = {run.spec.fit.features!r}: gives {pool.shape[1]} features of x and {theirs.shape[1]} of "
            "x_test"
        )
    center = pool.mean(axis=0)
    groups = run.design.column_of_each
    if groups is not None:
        sizes = np.bincount(groups, minlength=run.design.columns)
        grouped = np.zeros((run.design.columns, pool.shape[1]))
        np.add.at(grouped, groups, pool)
        pool = grouped / sizes[:, None]
    return Prior(*(unit(rows - center).astype(np.float32) for rows in (theirs, pool)))


def require_same(run: Run, dataset: Dataset) -> Targets:
    """Return the targets of a run. Raises SpecError if the size of the data set is not the one it was created with."""
    targets = dataset.targets(run.spec.targets)
    if len(dataset.y) != run.design.examples or len(targets) != run.n:
        raise SpecError(
            f"dataset.load: returned {len(dataset.y)} examples and {len(targets)} targets, run {run.name} was created "
            f"with {run.design.examples} and {run.n}; restore the data"
        )
    return targets


def features(run: Run, x: np.ndarray) -> np.ndarray:
    """Return the features of x that the run's `fit.features` makes, float64[examples, f]. Raises SpecError."""
    name, make = run.spec.fit.features, runs.reference("fit.features", run.spec.fit.features)
    try:
        found = np.asarray(make(x))
    except SpecError:
        raise
    except (Exception, SystemExit) as error:
        raise SpecError(f"fit.features = {name!r}: raised {why(error)}") from error
    if found.ndim != 2 or len(found) != len(x) or found.dtype.kind not in "fiub":
        raise SpecError(
            f"fit.features = {name!r}: gave {found.dtype}{list(found.shape)} of {len(x)} examples; must be numbers "
            "[examples, features]"
        )
    found = found.astype(np.float64)
    if not np.isfinite(found).all():
        raise SpecError(f"fit.features = {name!r}: gave a feature that is NaN or infinite")
    return found


def unit(features: np.ndarray) -> np.ndarray:
    """Return rows of length 1; rows of zeros stay."""
    length = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.where(length > 0, length, 1)
