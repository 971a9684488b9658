"""Compute the signal-to-noise ratio of outputs: their variance between subsets over their variance between seeds.

Outputs of r models on each of s subsets are a one-way layout. MSB and MSW are the mean squares between and within
subsets, averaged over targets. The variance between seeds is MSW, and the variance between subsets is (MSB - MSW) / r,
so

    SNR = (F - 1) / r,   F = MSB / MSW

The SNR decides how many models a fit needs. At an SNR of 0.2, the noise of one model has five times the variance that a
datamodel could explain at best.

Nor can a datamodel, which adds up the effects of single examples, explain all of the variance between subsets. Outputs
are a sum of effects of single examples, of pairs, and so on (the Fourier expansion, O'Donnell 2014, section 2.4, where
outputs of two subsets whose masks correlate by c have the covariance sum_k c^k V_k). V_k is the variance by groups of k
examples, and V_1 is what a datamodel explains. So models on subsets near by, at c = 1/2, give R = covariance / (c V) =
(V_1 + V_2 / 2 + V_3 / 4 + ...) / V, and V_1 / V is between 2 R - 1, if only pairs work together, and R, if only large
groups do.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from datamodels.errors import InputError

LEVEL = 0.95


@dataclasses.dataclass(frozen=True)
class SignalToNoise:
    """A signal-to-noise ratio and its uncertainty.

    ratio     infinite if the seed changes nothing, 0 if the subset changes nothing either
    interval  confidence interval at LEVEL, by a jackknife of log F over subsets
    subsets   number of subsets
    seeds     models on each subset
    """

    ratio: float
    interval: tuple[float, float]
    subsets: int
    seeds: int


@dataclasses.dataclass(frozen=True)
class Additive:
    """The fraction of the variance between subsets that effects of single examples add up to.

    share     0 to 1; the middle of what is possible
    interval  all that is possible, and confidence at LEVEL by a jackknife over subsets
    """

    share: float
    interval: tuple[float, float]


NEAR = 0.5
"""Correlation of the masks of two subsets that are near each other."""


def signal_to_noise(outputs: np.ndarray) -> SignalToNoise:
    """Return the SNR of outputs float[s, r, n] of s >= 3 subsets and r >= 2 seeds. Raises InputError for fewer."""
    if outputs.ndim != 3 or outputs.shape[0] < 3 or outputs.shape[1] < 2 or not outputs.shape[2]:
        raise InputError(f"outputs {outputs.shape}: must be [s, r, n] with s >= 3 subsets, r >= 2 seeds and a target")
    from scipy import stats

    outputs = outputs.astype(np.float64)
    subsets, seeds, _ = outputs.shape
    means = outputs.mean(axis=1)
    within = np.square(outputs - means[:, None]).sum(axis=(1, 2)) / (seeds - 1)
    if not within.any():
        ratio = math.inf if (means != means[0]).any() else 0.0
        return SignalToNoise(ratio, (ratio, ratio), subsets, seeds)
    whole = _log_f(means, within, seeds)
    without = [_log_f(np.delete(means, i, axis=0), np.delete(within, i), seeds) for i in range(subsets)]
    error = math.sqrt((subsets - 1) * float(np.var(without)))
    spread = float(stats.t.ppf((1 + LEVEL) / 2, subsets - 1)) * error
    ratio, low, high = (max(0.0, (math.exp(f) - 1) / seeds) for f in (whole, whole - spread, whole + spread))
    return SignalToNoise(ratio, (low, high), subsets, seeds)


def _log_f(means: np.ndarray, within: np.ndarray, seeds: int) -> float:
    """Return log F of means over seeds, float64[s, n], and variances between seeds summed over targets, float64[s]."""
    between = seeds * np.square(means - means.mean(axis=0)).sum() / (len(means) - 1)
    return math.log(max(between, np.finfo(np.float64).tiny) / max(float(within.mean()), np.finfo(np.float64).tiny))


def additive(outputs: np.ndarray, near: np.ndarray) -> Additive:
    """Return how far the effects of examples add up.

    outputs  float[s, r, n] of r >= 2 seeds on each of s >= 3 subsets
    near     float[s, q, n] of q seeds on a subset near to each of these, whose masks correlate by NEAR
    """
    from scipy import stats

    subsets, seeds, _ = outputs.shape
    means, others = outputs.mean(axis=1, dtype=np.float64), near.mean(axis=1, dtype=np.float64)
    within = outputs.astype(np.float64).var(axis=1, ddof=1).sum(axis=1)
    noise = (1 / seeds + 1 / near.shape[1]) / 2

    def ratio(rows: np.ndarray) -> float:
        """Return R of some subsets."""
        one, other = (found[rows] - found[rows].mean(axis=0) for found in (means, others))
        between = (np.square(one).sum() + np.square(other).sum()) / 2 / (len(rows) - 1) - noise * within[rows].mean()
        return float((one * other).sum() / (len(rows) - 1) / NEAR / between) if between > 0 else 1.0

    rows = np.arange(subsets)
    found = ratio(rows)
    error = math.sqrt((subsets - 1) * float(np.var([ratio(np.delete(rows, i)) for i in rows])))
    spread = float(stats.t.ppf((1 + LEVEL) / 2, subsets - 1)) * error
    low, value, high = (
        min(1.0, max(0.0, at)) for at in (2 * (found - spread) - 1, (3 * found - 1) / 2, found + spread)
    )
    return Additive(value, (low, high))
