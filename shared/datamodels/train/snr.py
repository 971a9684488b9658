"""Compute the signal-to-noise ratio of outputs: their variance between subsets over their variance between seeds.

Outputs of r models on each of s subsets are a one-way layout. MSB and MSW are the mean squares between and within
subsets, averaged over targets. The variance between seeds is MSW, and the variance between subsets is (MSB - MSW) / r,
so

    SNR = (F - 1) / r,   F = MSB / MSW

The SNR decides how many models a fit needs. At an SNR of 0.2, the noise of one model has five times the variance that a
datamodel could explain at best.
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
