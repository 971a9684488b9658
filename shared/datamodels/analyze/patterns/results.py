"""Define the results of the analyses of patterns. This module needs NumPy alone, for the query client."""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Clusters:
    """Clusters of n vectors, the largest first.

    cluster      int32[n]; 0 is the largest cluster; -1 if a vector is in none, see `clusters.NO_CLUSTER`
    sizes        int32[k]
    central      int32[k, c]; for each cluster, the vectors most similar to its others, most similar first; -1 if it has
                 fewer
    eigenvalues  float64[e]; of the normalised similarity, largest first; a gap shows the number of clusters
    bandwidth    of the similarity: the median distance of vectors that share a column
    labels       int32[n]; classes, for display; empty if there are none
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

    share      float64[k]; share of the variance over vectors that each component explains, descending
    interval   float64[k, 2]; of the share, at `interval.LEVEL`; a bootstrap over vectors with fixed components
    high, low  int32[k, e]; the vectors with the largest and the smallest scores, the most extreme first
    high_score, low_score        float32[k, e]; their scores
    high_feature, low_feature    int32[k, e]; the features with the largest and the smallest loadings. The features of
                                 targets are columns, and those of columns are targets
    scores     float32[n, min(k, 2)]; of all vectors, to draw a map; see `components.MAP`
    labels, feature_labels       int32[n] and int32[d]; classes, for display; empty if there are none
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
    """Pairs [p] of groups whose mean effect worsens the output, those with the strongest evidence first.

    The effect is below 0, or above 0 if lower outputs are better.

    source, target  int32; group of columns and group of targets
    effect          float64; mean over targets of the sum of weights on the group's columns
    interval        float64[p, 2]; at `interval.LEVEL` for all pairs of groups at once, a bootstrap over targets
    harmed          float64; share of the targets for which the effect worsens the output
    sure            int32; 1 if the whole interval worsens the output
    pairs           number of pairs of groups that were compared
    """

    source: np.ndarray
    target: np.ndarray
    effect: np.ndarray
    interval: np.ndarray
    harmed: np.ndarray
    sure: np.ndarray
    pairs: int
