"""Run the loops of `coordinate_descent`, except coordinate descent itself, as array operations on a GPU."""

from __future__ import annotations

from types import ModuleType

import numpy as np


class Batched:
    """`working_set_sizes`, `proximal` and `measure` of `coordinate_descent` for arrays of the module numpy or cupy.

    Arrays [a, d] are of the module, arrays [a] and [p] of NumPy.
    """

    def __init__(self, xp: ModuleType):
        self.xp = xp

    def host(self, array) -> np.ndarray:
        """Return an array of the module as one of NumPy."""
        return np.asarray(array) if self.xp is np else self.xp.asnumpy(array)

    def working_set_sizes(self, theta, neg_grad, screen: np.ndarray, factor=None) -> np.ndarray:
        bar = _times(self.xp.asarray(screen)[:, None], factor)
        return self.host(((theta != 0) | (abs(neg_grad) >= bar)).sum(axis=1))

    def proximal(
        self, places, theta, neg_grad, lambda_, step, ahead, past_theta, past_neg_grad, remember, factor=None
    ) -> np.ndarray:
        xp = self.xp
        chosen = slice(None) if len(places) == len(theta) else xp.asarray(places)
        threshold, beyond = (xp.asarray(array[places])[:, None] for array in (step * lambda_, ahead))
        threshold = _times(threshold, None if factor is None else factor[chosen])
        now, slope = theta[chosen], neg_grad[chosen]
        start = now + beyond * (now - past_theta[chosen])
        target = start + step * (slope + beyond * (slope - past_neg_grad[chosen]))
        fresh = xp.maximum(target - threshold, 0) + xp.minimum(target + threshold, 0)
        uphill = np.zeros(len(theta))
        uphill[places] = self.host(((start - fresh) * (fresh - now)).sum(axis=1, dtype=np.float64))
        kept = xp.asarray(places[remember[places]])
        past_theta[kept], past_neg_grad[kept] = theta[kept], neg_grad[kept]
        theta[chosen] = fresh
        return uphill

    def measure(self, theta, neg_grad, products, factor=None) -> np.ndarray:
        found = (
            _times(abs(theta), factor).sum(axis=1, dtype=np.float64),
            (theta * neg_grad).sum(axis=1, dtype=np.float64),
            (abs(neg_grad) if factor is None else abs(neg_grad) / factor).max(axis=1),
            (theta * (products + neg_grad)).sum(axis=1, dtype=np.float64),
        )
        return np.array([self.host(row) for row in found], dtype=np.float64)


def _times(array, factor):
    return array if factor is None else array * factor
