"""Compare clusters with classes: count the classes in each cluster, and measure the agreement."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from datamodels.analyze.quality.interval import RESAMPLES, around
from datamodels.errors import InputError


@dataclasses.dataclass(frozen=True, eq=False)
class Composition:
    """Clusters by class.

    classes          int[c]; the labels
    counts           int64[k, c]; members of each cluster by class, without those in no cluster
    purity           share of the members that are of their cluster's commonest class
    rand             adjusted Rand index (Hubert and Arabie 1985): 1 for the same division, 0 as by chance
    purity_interval, rand_interval   at `interval.LEVEL`, a centred bootstrap over members with fixed clusters
    """

    classes: np.ndarray
    counts: np.ndarray
    purity: float
    purity_interval: tuple[float, float]
    rand: float
    rand_interval: tuple[float, float]


def tally(cluster: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Count the members of each cluster by class.

    cluster  int[n]; below 0 for none
    labels   [n]

    Returns (classes [c], ascending; counts int64[k, c]).
    """
    inside = cluster >= 0
    classes, label = np.unique(labels[inside], return_inverse=True)
    counts = np.zeros((int(cluster.max()) + 1, len(classes)), dtype=np.int64)
    np.add.at(counts, (cluster[inside], label), 1)
    return classes, counts


def composition(cluster: np.ndarray, labels: np.ndarray, *, seed: int = 0) -> Composition:
    """Compare clusters with classes; arguments as for `tally`.

    Raises InputError if their lengths differ, or nothing is in a cluster.
    """
    if len(cluster) != len(labels) or not (cluster >= 0).any():
        raise InputError(f"{len(cluster)} clusters and {len(labels)} labels: must be equally many, some in a cluster")
    classes, counts = tally(cluster, labels)
    total = counts.sum()
    drawn = np.random.default_rng(seed).multinomial(total, counts.ravel() / total, size=RESAMPLES)
    drawn = drawn.reshape(RESAMPLES, *counts.shape)
    found: dict[str, Any] = {}
    for name, of in (("purity", _purity), ("rand", _rand)):
        value, resampled = float(of(counts)), of(drawn)
        found |= {name: value, f"{name}_interval": around(value, resampled - resampled.mean(), most=1.0)}
    return Composition(classes, counts, **found)


def _purity(counts: np.ndarray) -> np.ndarray:
    return counts.max(axis=-1).sum(axis=-1) / counts.sum(axis=(-2, -1))


def _rand(counts: np.ndarray) -> np.ndarray:
    def pairs(of: np.ndarray) -> np.ndarray:
        return of * (of - 1) / 2

    both = pairs(counts).sum(axis=(-2, -1))
    rows, columns = (pairs(counts.sum(axis=axis)).sum(axis=-1) for axis in (-1, -2))
    expected = rows * columns / np.maximum(pairs(counts.sum(axis=(-2, -1))), 1)
    most = (rows + columns) / 2
    return np.where(most > expected, (both - expected) / np.where(most > expected, most - expected, 1), 1.0)
