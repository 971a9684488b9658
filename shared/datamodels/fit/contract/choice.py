"""The choice of lambda: for each target the one with the smallest error on held-out rows, on a grid that goes down.

A target starts at its largest lambda. Each time that it has been solved at one, `reached` is told the held-out error
there, and the target moves on to the next. Its path ends with the grid, or once the error has risen `patience` times in
a row. Ilyas et al. (2022) choose lambda on held-out rows too; patience spares the dense end of the path.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

_ARRAYS = ("top", "position", "rises", "error", "best", "best_error", "done")


class Choice:
    """How far t targets are on their paths, and which lambda has been best for each so far.

    top         float64[t]; the largest lambda of each target, which may be set as late as it starts. 0 if nothing tells
                anything about its outputs: then lambda = 0 is all of its path
    position    int64[t]; place on the grid of the lambda that a target is at
    rises       int64[t]; how often in a row the error has risen
    error       float64[t]; held-out mean squared error at the lambda before; infinite before the first
    best        int64[t]; place on the grid of the smallest error
    best_error  float64[t]
    done        bool[t]; whether the path has ended
    """

    def __init__(self, grid: np.ndarray, top: np.ndarray, patience: int):
        """Start t targets at the beginning of the grid, float64[k], whose values are fractions of `top`."""
        t = len(top)
        self.grid, self.top, self._patience = grid, top, patience
        self.position, self.rises, self.best = (np.zeros(t, dtype=np.int64) for _ in range(3))
        self.error, self.best_error = np.full(t, np.inf), np.full(t, np.inf)
        self.done = np.zeros(t, dtype=bool)

    @property
    def active(self) -> int:
        """Number of targets whose paths have not ended."""
        return int(np.count_nonzero(~self.done))

    @property
    def fraction(self) -> float:
        """Mean fraction of their paths that targets have behind them."""
        return float(np.where(self.done, 1, self.position / len(self.grid)).mean()) if len(self.done) else 1.0

    @property
    def mean_position(self) -> float:
        return float(self.position.mean()) if len(self.position) else 0.0

    def current(self, targets: np.ndarray | int) -> Any:
        """Return the lambdas float64[p] that targets int64[p] are at, or the lambda of one."""
        return self.top[targets] * self.grid[self.position[targets]]

    @property
    def chosen(self) -> np.ndarray:
        """float64[t]: the lambdas with the smallest errors so far."""
        return self.top * self.grid[self.best]

    def reached(self, targets: np.ndarray | int, error: np.ndarray | float) -> Any:
        """Move targets, solved at their current lambdas, on to their next, or end their paths.

        targets  int64[p]; none of them done, none twice; or one target
        error    float64[p]; held-out mean squared errors, or the error of one

        Returns bool[p], or whether it is so for the one: which targets have not had an error as small before. Their
        weights are the ones to keep.
        """
        position, best, least = self.position[targets], self.best[targets], self.best_error[targets]
        better = error < least
        rises = (self.rises[targets] + 1) * (error > self.error[targets])
        done = (position + 1 == len(self.grid)) | (rises >= self._patience) | (self.top[targets] == 0)
        self.best[targets], self.best_error[targets] = best + (position - best) * better, np.fmin(error, least)
        self.rises[targets], self.error[targets] = rises, error
        self.done[targets], self.position[targets] = done, position + ~done
        return better

    def arrays(self) -> dict[str, np.ndarray]:
        """Return all that `restore` needs to go on from here."""
        return {name: getattr(self, name) for name in _ARRAYS}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Set everything as `arrays` had it; the grid and the patience must be the same."""
        for name in _ARRAYS:
            setattr(self, name, arrays[name])
