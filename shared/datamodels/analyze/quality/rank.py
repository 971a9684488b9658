"""Compute Spearman's correlation of many columns at once, on many bootstrap resamples of their rows.

Correlations with means of few models are corrected to what means of more would give (Spearman and Brown). Outputs of
two models of the same subset correlate, over subsets, at rho: the reliability of one model. The mean of k models has
the reliability k rho / (1 + (k - 1) rho). A prediction correlates with it by the square root of that, times what it
would correlate by without noise. So two models on each subset tell the LDS with means of twenty: a tenth of the
training. This holds for Pearson's correlation, so Spearman's is converted as for normal values, r = 2 sin(pi / 6 s).
`benchmarks/analyses/few_models.py` checks it on the digits.
"""

from __future__ import annotations

import numpy as np

STANDARD = 20
"""Models whose mean an LDS is about if fewer are trained on each subset; papers train as many or more."""


class Ranks:
    """Sorts each column of values once, and computes ranks in any resample of the rows from that order.

    A resample is given by weights: how often each row was drawn, for all columns or for each column. In the order of
    the whole sample, the midrank of a row is the weight of all smaller values plus half of (the weight of its group of
    equal values plus one). So rows are neither copied nor sorted again.

    Many resamples can be given at once. For few values that takes a tenth of the time of one after another.
    """

    def __init__(self, values: np.ndarray):
        """Sort the columns of values, float[rows, columns]."""
        rows, columns = values.shape
        self._order = np.argsort(values, axis=0, kind="stable")
        self._column = np.arange(columns)
        ordered = values[self._order, self._column]
        new_group = np.ones((rows + 1, columns), dtype=bool)
        new_group[1:rows] = ordered[1:] != ordered[:-1]
        position = np.arange(rows + 1)[:, None]
        self._start = np.maximum.accumulate(np.where(new_group, position, 0), axis=0)[:rows]
        following = np.where(new_group, position, rows)
        self._end = np.minimum.accumulate(following[::-1], axis=0)[::-1][1:]

    def __call__(self, weights: np.ndarray) -> np.ndarray:
        """Return float64[rows, columns]: midranks, counted from 1, in a resample int[rows] or int[rows, columns].

        Of many resamples, int[rows, 1 or columns, resamples], return float64[rows, columns, resamples].
        """
        if weights.ndim == 1:
            drawn = weights[self._order]
        else:
            drawn = weights[self._order, self._column if weights.shape[1] > 1 else 0]
        total = np.zeros((len(drawn) + 1, *drawn.shape[1:]))
        np.cumsum(drawn, axis=0, out=total[1:])
        before, through = total[self._start, self._column], total[self._end, self._column]
        ranks = np.empty_like(before)
        ranks[self._order, self._column] = (before + through + 1) / 2
        return ranks


def spearman(a: Ranks, b: Ranks, weights: np.ndarray) -> np.ndarray:
    """Return float64[columns]: Spearman's correlation between the columns of a and b in a resample, as for `Ranks`.

    Of many resamples, return float64[columns, resamples]. It is 0 if one of the two is constant.
    """
    x, y = a(weights), b(weights)
    w = weights / np.maximum(weights.sum(axis=0), 1)
    if w.ndim == 1:
        w = w[:, None]
    x -= (w * x).sum(axis=0)
    y -= (w * y).sum(axis=0)
    covariance = (w * x * y).sum(axis=0)
    scale = np.sqrt((w * x * x).sum(axis=0) * (w * y * y).sum(axis=0))
    return np.divide(covariance, scale, out=np.zeros_like(covariance), where=scale > 1e-12)


def reliability_of_one(agreement: np.ndarray | float, models: float) -> np.ndarray | float:
    """Return the reliability of one model, 0 to 1, from Spearman's correlation of two means of so many models."""
    given = np.clip(_pearson(agreement), 0.0, 1.0)
    return given / (models - (models - 1) * given)


def agreement(one: np.ndarray | float, models: float) -> float:
    """Return Spearman's correlation of two means of so many models, from the reliability of one."""
    return float(_spearman(models * one / (1 + (models - 1) * one)))


def corrected(correlation: np.ndarray, one: np.ndarray | float, models: float, more: float) -> np.ndarray:
    """Return Spearman's correlations with the mean of more models from those with the mean of some.

    one  the reliability of one model. The factor is at most sqrt(more / models), for models that tell nearly nothing
    """
    gain = more / models * (1 + (models - 1) * one) / (1 + (more - 1) * one)
    return _spearman(_pearson(correlation) * np.sqrt(gain))


def _pearson(spearman: np.ndarray | float) -> np.ndarray:
    """Return Pearson's correlation of normal values with this correlation of their ranks."""
    return 2 * np.sin(np.pi / 6 * np.asarray(spearman))


def _spearman(pearson: np.ndarray | float) -> np.ndarray:
    """Return the inverse of `_pearson`. Corrected correlations may exceed 1 by chance."""
    return 6 / np.pi * np.arcsin(np.clip(pearson, -2, 2) / 2)
