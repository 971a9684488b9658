"""Walk down the lambda path of a block: each target takes its own grid of lambdas until its held-out error rises.

A target moves on to its next lambda as soon as it has converged, independently of the others, and starts there from its
last weights. When its path has ended (`contract.choice`), it is dropped.
"""

from __future__ import annotations

import numpy as np

from datamodels.fit.contract.choice import Choice
from datamodels.fit.lasso.base import AnyIteration, Measure, Resumable, State, drop_done
from datamodels.run.specs import FitSpec

PATH_SLACK = 5
"""Largest gap on the path, as a multiple of the tolerance. Held-out errors of lambdas differ well before gaps reach the
tolerance, so only the last fit keeps it."""


def grid(settings: FitSpec) -> np.ndarray:
    """Return float64[k]: lambdas as fractions of lambda_max, from 1 down to lambda_ratio by equal ratios; never 0."""
    k = settings.lambdas
    return np.geomspace(1, settings.lambda_ratio, k) if k > 1 else np.array([settings.lambda_ratio])


class Path:
    """The paths of t targets. Call `epoch` until `choice.active` is 0.

    choice   the best lambda of each target so far
    weights  [t, d] of the array module; the weights at the best lambda
    state    the targets whose paths have not ended, and some whose paths have
    epochs   number of epochs so far
    """

    def __init__(self, iteration: AnyIteration, settings: FitSpec):
        self._iteration, self._settings = iteration, settings
        self.state: State
        self.state, top = iteration.start()
        every, rows = np.arange(len(self.state)), iteration.rows
        self.choice = Choice(grid(settings), top, settings.patience)
        self.weights = rows.xp.zeros((len(every), rows.problem.columns), dtype=rows.dtype)
        self.epochs = 0
        self._spent = np.zeros(len(every), dtype=np.int64)  # epochs of each target at its current lambda
        iteration.set_lambda(self.state, every, self.choice.current(every))
        self._advance(iteration.measure(self.state))

    def epoch(self) -> None:
        """Improve all targets once, and move those that have converged to their next lambdas."""
        goal = np.full(len(self.state), PATH_SLACK * self._settings.tolerance)
        measure = self._iteration.epoch(self.state, self.epochs, goal)
        self.epochs += 1
        self._spent[self.state.target] += 1
        self._advance(measure)

    def walk(self) -> None:
        """Do epochs until all paths have ended."""
        while self.choice.active:
            self.epoch()

    def _advance(self, measure: Measure) -> None:
        """Move targets that have converged on to their next lambdas, and drop those whose paths have ended."""
        choice, state, here = self.choice, self.state, self.state.target
        while True:
            converged = measure.gap(state.lambda_) <= PATH_SLACK * self._settings.tolerance
            converged |= (self._spent[here] >= self._settings.max_epochs) | (choice.top[here] == 0)
            places = np.flatnonzero(converged & ~choice.done[here])
            if not len(places):
                break
            self._next_lambda(places)
            if not self._iteration.skips:
                break
        self.state = drop_done(state, choice.done)

    def _next_lambda(self, places: np.ndarray) -> None:
        """Compute held-out errors of targets by their places in the state; move them to their next lambdas."""
        iteration, state, here = self._iteration, self.state, self.state.target[places]
        better = self.choice.record_error(here, iteration.heldout_error(state, places))
        self.weights[iteration.rows.xp.asarray(here[better])] = iteration.weights(state, places[better])
        self._spent[here] = 0
        iteration.set_lambda(state, places, self.choice.current(here))

    def arrays(self) -> dict[str, np.ndarray]:
        """Return all that `restore` needs to go on from here; nothing if the iteration is not resumable."""
        if not isinstance(self._iteration, Resumable):
            return {}
        weights = self._iteration.rows.host(self.weights)
        own = {"weights": weights, "epochs": np.array(self.epochs), "spent": self._spent}
        return own | self.choice.arrays() | self._iteration.arrays(self.state)

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Set everything as `arrays` had it; the problem and the settings must be the same."""
        self.choice.restore(arrays)
        self.epochs, self._spent = int(arrays["epochs"]), arrays["spent"]
        self.weights = self._iteration.rows.xp.asarray(arrays["weights"])
        if isinstance(self._iteration, Resumable):
            self.state = self._iteration.restored(self.state, arrays)
