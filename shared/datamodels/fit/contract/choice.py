"""Choose lambda for each target: the value with the smallest error on held-out rows, on a descending grid.

A target starts at its largest lambda. When it is solved there, `Choice.record_error` takes its held-out error and moves
the target on to the next lambda. The path of a target ends with the grid, or once the error has risen `patience` times
in a row. Ilyas et al. (2022) choose lambda on held-out rows, too; stopping early saves the end of the path, at which
solutions are dense and slow to compute.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

_ARRAYS = ("top", "position", "rises", "error", "best", "best_error", "done")


class Choice:
    """Keeps the positions of t targets on their paths, and the best lambda of each so far.

    top         float64[t]; largest lambda of each target; may be set when the target starts. 0 if no column is
                correlated with its outputs: then its path is lambda = 0 alone
    position    int64[t]; index on the grid of the current lambda
    rises       int64[t]; how often in a row the error has risen
    error       float64[t]; held-out mean squared error at the previous lambda; infinite at the start
    best        int64[t]; index on the grid of the lambda with the smallest error
    best_error  float64[t]; smallest error
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
        """Mean fraction of the path that is done; 1 for paths that have ended."""
        return float(np.where(self.done, 1, self.position / len(self.grid)).mean()) if len(self.done) else 1.0

    @property
    def mean_position(self) -> float:
        return float(self.position.mean()) if len(self.position) else 0.0

    def current(self, targets: np.ndarray | int) -> Any:
        """Return the current lambdas float64[p] of targets int64[p], or that of one target."""
        return self.top[targets] * self.grid[self.position[targets]]

    @property
    def chosen(self) -> np.ndarray:
        """float64[t]: the lambdas with the smallest errors so far."""
        return self.top * self.grid[self.best]

    def record_error(self, targets: np.ndarray | int, error: np.ndarray | float) -> Any:
        """Record the errors of targets at their current lambdas. Move them to their next lambdas, or end their paths.

        targets  int64[p], distinct, with paths that have not ended; or one target
        error    float64[p]; held-out mean squared errors; or one error

        Returns bool[p], or bool for one target: whether the error is the smallest so far. The caller keeps the weights
        of these targets.
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
