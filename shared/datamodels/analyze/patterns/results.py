"""Results of the analyses of patterns. This module needs NumPy alone, so that the query client can return them."""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Clusters:
    """Clusters of n vectors, the largest first.

    cluster      int32[n]; 0 is the largest cluster; -1 for a vector that is like no other, see `clusters.NO_CLUSTER`
    sizes        int32[k]
    central      int32[k, c]; of each cluster the vectors most like the rest of it, most first; -1 where it has fewer
    eigenvalues  float64[e]; of the normalised similarity, largest first: the number of clusters shows as a gap
    bandwidth    of the similarity: the median distance of vectors that share a column
    labels       int32[n]; classes to compare with, for display; empty where there are none
    """

    cluster: np.ndarray
    sizes: np.ndarray
    central: np.ndarray
    eigenvalues: np.ndarray
    bandwidth: float
    labels: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, dtype=np.int32))


@dataclasses.dataclass(frozen=True, eq=False)
class Components:
    """Principal components of n vectors of d numbers.

    share      float64[k]; of the variance over vectors that each component explains, descending
    interval   float64[k, 2]; of the share, for other vectors like these: the component kept, a bootstrap over vectors
    high, low  int32[k, e]; the vectors of largest and of smallest score, the most extreme first
    high_score, low_score        float32[k, e]
    high_feature, low_feature    int32[k, e]; the features of largest and of smallest loading: of targets, columns
    scores     float32[n, min(k, 2)]; to draw a map, see `components.MAP`
    labels, feature_labels       int32[n] and int32[d]; classes, for display; empty where there are none
    """

    share: np.ndarray
    interval: np.ndarray
    high: np.ndarray
    low: np.ndarray
    high_score: np.ndarray
    low_score: np.ndarray
    high_feature: np.ndarray
    low_feature: np.ndarray
    scores: np.ndarray
    labels: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, dtype=np.int32))
    feature_labels: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, dtype=np.int32))


@dataclasses.dataclass(frozen=True, eq=False)
class Conflicts:
    """Pairs [p] of groups with negative mean effect, the surest first.

    source, target  int32; the group of columns, and that of targets
    effect          float64; mean over targets of the sum of weights on the group's columns
    interval        float64[p, 2]; at `interval.LEVEL` for all pairs of groups at once, a bootstrap over targets
    harmed          float64; share of the targets on which the effect is negative
    sure            int32; 1 where the interval is below 0
    pairs           pairs of groups that were looked at
    """

    source: np.ndarray
    target: np.ndarray
    effect: np.ndarray
    interval: np.ndarray
    harmed: np.ndarray
    sure: np.ndarray
    pairs: int
