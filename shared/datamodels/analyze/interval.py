"""Intervals at LEVEL of shares and means of a few independent values."""

from __future__ import annotations

import math
import statistics

import numpy as np
from scipy import special

from datamodels.analyze.evaluate import LEVEL, TAILS

Z = statistics.NormalDist().inv_cdf(TAILS[1])
"""Standard errors to each side of an estimate."""


def share(successes: float, trials: int) -> tuple[float, float]:
    """Of a probability, by Wilson's score: it stays inside 0 to 1, and is not empty at either end. trials >= 1."""
    p, spread = successes / trials, Z * Z / trials
    middle = (p + spread / 2) / (1 + spread)
    half = math.sqrt(p * (1 - p) * spread + spread * spread / 4) / (1 + spread)
    return max(0.0, middle - half), min(1.0, middle + half)


def mean(values: np.ndarray) -> tuple[float, float]:
    """Of the mean of float[r] values, by Student's t; infinite for fewer than two."""
    if len(values) < 2:
        return -math.inf, math.inf
    middle, error = float(values.mean()), float(values.std(ddof=1)) / math.sqrt(len(values))
    half = float(special.stdtrit(len(values) - 1, (1 + LEVEL) / 2)) * error
    return middle - half, middle + half


def correlation(r: float, count: int) -> tuple[float, float]:
    """Of Spearman's correlation of `count` pairs, by Fisher's transform (Bonett and Wright 2000); -1 to 1 below 4."""
    if count < 4:
        return -1.0, 1.0
    r = min(max(r, -1 + 1e-9), 1 - 1e-9)
    half = Z * math.sqrt((1 + r * r / 2) / (count - 3))
    return math.tanh(math.atanh(r) - half), math.tanh(math.atanh(r) + half)
