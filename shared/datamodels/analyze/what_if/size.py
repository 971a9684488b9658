"""Bound the part of a prediction that comes from the size of a set, which subsets of one size cannot show.

All subsets of a run have the same number of columns of a stratum. A number that is added to all weights, and subtracted
from the intercept as often as a subset has columns, changes no prediction for a subset. So the outputs of a run do not
tell how outputs change with the number of examples, and the weights hold what the solver prefers: for a LASSO, small
weights. For a set that has the share f of the columns of a stratum, of which subsets have the share p, the
prediction includes

    effect  =  sum over columns (f - p) theta

The truth is often nearer to no effect, as learning curves flatten, and sometimes beyond, as a LASSO shrinks weights. If
weights had random signs, this sum would have the standard error

    error  =  sqrt(sum over columns (f - p)^2 theta^2)

So an interval reaches from the prediction without the effect to the one with it, and Z errors beyond either. For the
mean output of 20 models of the whole pool it covers the truth for 100% of 397 targets of the digits, 100% of 200 texts,
99% of 142 targets of diabetes and 96% of 169 of breast cancer. The prediction alone is too high for 97%, 79%, 44% and
16% of them (`benchmarks/analyses/whole_pool.py`). Nothing in a run says how far the truth can be: if all examples have
the same large effect, it lies outside. Models of the whole pool (`support --verify`, `evaluate --alpha 1`) measure it.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from datamodels.analyze.quality.interval import Z
from datamodels.run.runs import Run

if TYPE_CHECKING:
    from scipy import sparse


@dataclasses.dataclass(frozen=True, eq=False)
class SizeEffect:
    """Part of predictions for a set that comes from its size. float64[t] each.

    effect  included in the predictions; 0 for a set of the size of the subsets
    error   standard error of it
    """

    effect: np.ndarray
    error: np.ndarray

    def interval(self, predicted: np.ndarray, error: np.ndarray) -> np.ndarray:
        """Return float64[t, 2]: the interval of outputs, from predictions with the effect and their other errors."""
        half = Z * np.hypot(self.error, error)
        low, high = np.minimum(self.effect, 0), np.maximum(self.effect, 0)
        return np.stack([predicted - high - half, predicted - low + half], axis=-1)


def size_effect(run: Run, theta: sparse.csr_array, members: np.ndarray) -> SizeEffect:
    """Return the effect of the size of a set, bool[d], on targets with weights float[t, d]."""
    stratum, inclusion = run.design.stratum, run.design.inclusion.astype(np.float64)
    free = stratum >= 0
    columns = np.bincount(stratum[free])
    share = np.bincount(stratum[free], members[free]) / np.maximum(columns, 1)
    beyond = np.zeros(len(stratum))
    beyond[free] = share[stratum[free]] - inclusion[free]
    weights = theta.astype(np.float64)
    return SizeEffect(weights @ beyond, np.sqrt(weights.power(2) @ beyond**2))


def spread(run: Run, theta: sparse.csr_array) -> np.ndarray:
    """Return float64[t]: the standard deviation of predictions over subsets, of targets with weights float[t, d]."""
    inclusion = run.design.inclusion.astype(np.float64)
    return np.sqrt(theta.astype(np.float64).power(2) @ (inclusion * (1 - inclusion)))
