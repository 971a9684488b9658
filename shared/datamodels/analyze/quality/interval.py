"""Compute intervals at LEVEL: of shares, means and correlations of a few values, and from a bootstrap."""

from __future__ import annotations

import dataclasses
import math
import statistics

import numpy as np

LEVEL = 0.95
TAILS = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)
"""Quantiles between which an interval at LEVEL lies."""
Z = statistics.NormalDist().inv_cdf(TAILS[1])
"""Standard errors on each side of an estimate."""
RESAMPLES = 1000
"""Resamples of a bootstrap."""


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A value with the ends of its interval at LEVEL."""

    value: float
    low: float
    high: float


def share(successes: float, trials: int) -> tuple[float, float]:
    """Return the interval of a probability by Wilson's score. trials >= 1.

    It stays inside 0 to 1, and is not empty at either end.
    """
    p, spread = successes / trials, Z * Z / trials
    middle = (p + spread / 2) / (1 + spread)
    half = math.sqrt(p * (1 - p) * spread + spread * spread / 4) / (1 + spread)
    return max(0.0, middle - half), min(1.0, middle + half)


def mean(values: np.ndarray) -> tuple[float, float]:
    """Return the interval of the mean of float[r] values by Student's t; infinite for fewer than two values."""
    if len(values) < 2:
        return -math.inf, math.inf
    from scipy import special  # `datamodels status` shows intervals that were recorded, and need not wait for SciPy

    middle, error = float(values.mean()), float(values.std(ddof=1)) / math.sqrt(len(values))
    half = float(special.stdtrit(len(values) - 1, (1 + LEVEL) / 2)) * error
    return middle - half, middle + half


def correlation(r: float, count: int) -> tuple[float, float]:
    """Return the interval of Spearman's correlation of `count` pairs; -1 to 1 for fewer than 4 pairs.

    By Fisher's transform (Bonett and Wright 2000).
    """
    if count < 4:
        return -1.0, 1.0
    r = min(max(r, -1 + 1e-9), 1 - 1e-9)
    half = Z * math.sqrt((1 + r * r / 2) / (count - 3))
    return math.tanh(math.atanh(r) - half), math.tanh(math.atanh(r) + half)


def draws(count: int, seed: int, resamples: int = RESAMPLES) -> np.ndarray:
    """Return int64[resamples, count]: how often each resample of a bootstrap draws each of `count` values."""
    return np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples)


def around(value: float, deviations: np.ndarray, most: float = math.inf) -> tuple[float, float]:
    """Return the interval of a value whose resamples deviate from their mean by float[resamples]; at most `most`.

    This is the centred bootstrap: resamples of a rank correlation or an R^2 are worse on average than the value itself.
    """
    below, above = np.quantile(deviations, TAILS).tolist()
    return value + below, min(value + above, most)
