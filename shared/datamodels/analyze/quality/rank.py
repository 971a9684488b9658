"""Compute Spearman's correlation of many columns at once, on many bootstrap resamples of their rows."""

from __future__ import annotations

import numpy as np


class Ranks:
    """Sorts each column of values once, and computes ranks in any resample of the rows from that order.

    A resample is given by weights: how often each row was drawn, for all columns or for each column. In the order of
    the whole sample, the midrank of a row is the weight of all smaller values plus half of (the weight of its group of
    equal values plus one). So rows are neither copied nor sorted again.
    """

    def __init__(self, values: np.ndarray):
        """Sort the columns of values, float[rows, columns]."""
        rows, columns = values.shape
        self._order = np.argsort(values, axis=0, kind="stable")
        ordered = np.take_along_axis(values, self._order, axis=0)
        new_group = np.ones((rows + 1, columns), dtype=bool)
        new_group[1:rows] = ordered[1:] != ordered[:-1]
        position = np.arange(rows + 1)[:, None]
        self._start = np.maximum.accumulate(np.where(new_group, position, 0), axis=0)[:rows]
        following = np.where(new_group, position, rows)
        self._end = np.minimum.accumulate(following[::-1], axis=0)[::-1][1:]

    def __call__(self, weights: np.ndarray) -> np.ndarray:
        """Return float64[rows, columns]: midranks, counted from 1, in a resample int[rows] or int[rows, columns]."""
        total = np.zeros((len(self._order) + 1, self._order.shape[1]))
        drawn = weights[self._order] if weights.ndim == 1 else np.take_along_axis(weights, self._order, axis=0)
        np.cumsum(drawn, axis=0, out=total[1:])
        before, through = np.take_along_axis(total, self._start, 0), np.take_along_axis(total, self._end, 0)
        ranks = np.empty_like(before)
        np.put_along_axis(ranks, self._order, (before + through + 1) / 2, axis=0)
        return ranks


def spearman(a: Ranks, b: Ranks, weights: np.ndarray) -> np.ndarray:
    """Return float64[columns]: Spearman's correlation between the columns of a and b in a resample, as for `Ranks`.

    It is 0 if one of the two is constant.
    """
    x, y = a(weights), b(weights)
    w = weights.reshape(len(weights), -1) / np.maximum(weights.sum(axis=0), 1)
    x -= (w * x).sum(axis=0)
    y -= (w * y).sum(axis=0)
    covariance = (w * x * y).sum(axis=0)
    scale = np.sqrt((w * x * x).sum(axis=0) * (w * y * y).sum(axis=0))
    return np.divide(covariance, scale, out=np.zeros_like(covariance), where=scale > 1e-12)
