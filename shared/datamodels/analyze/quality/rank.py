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
        values = np.ascontiguousarray(values.T)  # so that sums run along memory
        columns, rows = values.shape
        self._order = np.argsort(values, axis=1, kind="stable")
        ordered = np.take_along_axis(values, self._order, axis=1)
        new_group = np.ones((columns, rows + 1), dtype=bool)
        new_group[:, 1:rows] = ordered[:, 1:] != ordered[:, :-1]
        position = np.arange(rows + 1)
        following = np.where(new_group, position, rows)[:, ::-1]
        self._end = self._places(np.minimum.accumulate(following, axis=1)[:, ::-1][:, 1:])
        self._start = None
        if not new_group.all():
            start = np.maximum.accumulate(np.where(new_group, position, 0), axis=1)
            self._start = self._places(start[:, :rows])

    def _places(self, ordered: np.ndarray) -> np.ndarray:
        """Return places in sums [columns, rows + 1] for the rows as they were given, from those in ascending order."""
        found = np.empty_like(self._order)
        np.put_along_axis(found, self._order, ordered, axis=1)
        columns, rows = found.shape
        return found + (rows + 1) * np.arange(columns)[:, None]

    def __call__(self, weights: np.ndarray) -> np.ndarray:
        """Return float64[rows, columns]: midranks, counted from 1, in a resample int[rows] or int[rows, columns].

        Of many resamples, int[rows, 1 or columns, resamples], return float64[rows, columns, resamples].
        """
        found = self.of(_each(weights)).swapaxes(0, 1)
        return found if weights.ndim == 3 else found[..., 0]

    def of(self, weights: np.ndarray) -> np.ndarray:
        """Return midranks, float64[columns, rows, resamples], in resamples int[1 or columns, rows, resamples]."""
        columns, rows = self._order.shape
        if len(weights) == 1:
            drawn = weights[0].take(self._order, axis=0)
        else:
            drawn = np.take_along_axis(weights, self._order[:, :, None], axis=1)
        total = np.zeros((columns, rows + 1, weights.shape[2]))
        np.cumsum(drawn, axis=1, out=total[:, 1:])
        sums = total.reshape(-1, weights.shape[2])
        through = sums.take(self._end, axis=0)
        before = through - weights if self._start is None else sums.take(self._start, axis=0)
        before += through
        before += 1
        before /= 2
        return before


def _each(weights: np.ndarray) -> np.ndarray:
    """Return resamples in the order of memory that ranks have: int[1 or columns, rows, resamples]."""
    if weights.ndim < 3:
        weights = weights.reshape(len(weights), -1, 1)
    return np.ascontiguousarray(weights.swapaxes(0, 1))


def spearman(a: Ranks, b: Ranks, weights: np.ndarray) -> np.ndarray:
    """Return float64[columns]: Spearman's correlation between the columns of a and b in a resample, as for `Ranks`.

    Of many resamples, return float64[columns, resamples]. It is 0 if one of the two is constant.
    """
    each = _each(weights)
    count = each.sum(axis=1, keepdims=True)
    x, y, w = a.of(each), b.of(each), each / np.maximum(count, 1)
    x -= (count + 1) / 2  # the mean of midranks, whatever is equal
    y -= (count + 1) / 2
    weighted = w * x
    covariance, scale = np.einsum("crk,crk->ck", weighted, y), np.einsum("crk,crk->ck", weighted, x)
    np.multiply(w, y, out=weighted)
    scale = np.sqrt(scale * np.einsum("crk,crk->ck", weighted, y))
    found = np.divide(covariance, scale, out=np.zeros_like(covariance), where=scale > 1e-12)
    return found if weights.ndim == 3 else found[:, 0]


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
