"""The loops of `compiled` but for coordinate descent, as array operations: for a GPU, and for NumPy as their twin."""

from __future__ import annotations

from types import ModuleType

import numpy as np


class Batched:
    """`working_set_sizes`, `proximal` and `measure` as in `compiled`, for arrays of the module numpy or cupy.

    [a, d] arrays are the module's, [a] and [p] arrays NumPy's, taken and given.
    """

    def __init__(self, xp: ModuleType):
        self.xp = xp

    def host(self, array) -> np.ndarray:
        """An array of the module as NumPy's."""
        return np.asarray(array) if self.xp is np else self.xp.asnumpy(array)

    def working_set_sizes(self, theta, pull, screen: np.ndarray, factor=None) -> np.ndarray:
        bar = _times(self.xp.asarray(screen)[:, None], factor)
        return self.host(((theta != 0) | (abs(pull) >= bar)).sum(axis=1))

    def proximal(
        self, places, theta, pull, lambda_, step, ahead, past_theta, past_pull, remember, factor=None
    ) -> np.ndarray:
        xp = self.xp
        chosen = slice(None) if len(places) == len(theta) else xp.asarray(places)
        threshold, beyond = (xp.asarray(array[places])[:, None] for array in (step * lambda_, ahead))
        threshold = _times(threshold, None if factor is None else factor[chosen])
        now, slope = theta[chosen], pull[chosen]
        start = now + beyond * (now - past_theta[chosen])
        target = start + step * (slope + beyond * (slope - past_pull[chosen]))
        fresh = xp.maximum(target - threshold, 0) + xp.minimum(target + threshold, 0)
        uphill = np.zeros(len(theta))
        uphill[places] = self.host(((start - fresh) * (fresh - now)).sum(axis=1, dtype=np.float64))
        kept = xp.asarray(places[remember[places]])
        past_theta[kept], past_pull[kept] = theta[kept], pull[kept]
        theta[chosen] = fresh
        return uphill

    def measure(self, theta, pull, products, factor=None) -> np.ndarray:
        found = (
            _times(abs(theta), factor).sum(axis=1, dtype=np.float64),
            (theta * pull).sum(axis=1, dtype=np.float64),
            (abs(pull) if factor is None else abs(pull) / factor).max(axis=1),
            (theta * (products + pull)).sum(axis=1, dtype=np.float64),
        )
        return np.array([self.host(row) for row in found], dtype=np.float64)


def _times(array, factor):
    return array if factor is None else array * factor
