"""Do the last fit of a block: fit each target on all its rows, at its chosen lambda, until its gap is certified."""

from __future__ import annotations

import numpy as np

from datamodels.fit.lasso.base import AnyIteration, Measure, Resumable, State, drop_done
from datamodels.run.specs import FitSpec

_RESULTS = ("weights", "intercept", "lambda_", "gap", "done", "_trust")


class Refit:
    """The last fits of t targets. Call `epoch` until `active` is 0.

    weights    float32[t, d], raw
    intercept  float64[t], raw
    lambda_    float64[t], raw
    gap        float64[t], of exactly these weights
    done       bool[t]; whether a target is certified, or out of epochs
    state      the targets that are not done, and some that are
    epochs     number of epochs so far
    """

    def __init__(self, iteration: AnyIteration, settings: FitSpec, lambda_: np.ndarray, weights: np.ndarray):
        """Start at the choice of the path: lambdas float64[t] and weights [t, d], in the unit of the iteration.

        A lambda of 0 becomes the smallest at which all weights are 0.
        """
        self._iteration, self._settings = iteration, settings
        self.state: State = iteration.restart(lambda_, weights)
        t = len(self.state)
        self.weights = np.zeros((t, iteration.rows.problem.columns), dtype=np.float32)
        self.lambda_ = iteration.raw_lambda(self.state)
        self.intercept, self.gap = np.zeros((2, t))
        self.done = np.zeros(t, dtype=bool)
        self._trust = np.ones(t)  # fraction of the tolerance at which a measured gap is worth a certificate
        self.epochs = 0
        self._certify(iteration.measure(self.state))

    @property
    def active(self) -> int:
        """Number of targets that are not done."""
        return int(np.count_nonzero(~self.done))

    @property
    def fraction(self) -> float:
        """Fraction of the targets that are done."""
        return 1 - self.active / max(len(self.done), 1)

    def epoch(self) -> None:
        """Improve all targets once, and certify those that look converged."""
        goal = self._settings.tolerance * self._trust[self.state.target]
        measure = self._iteration.epoch(self.state, self.epochs, goal)
        self.epochs += 1
        self._certify(measure)

    def _certify(self, measure: Measure) -> None:
        """Certify the targets that look converged; drop those that are, or that are out of epochs."""
        state, here, tolerance = self.state, self.state.target, self._settings.tolerance
        out_of_epochs = self.epochs >= self._settings.max_epochs
        # After many epochs, rounding alone may keep a measured gap large.
        every = self._iteration.certify_every
        held_up = bool(every and self.epochs and self.epochs % every == 0)
        near = measure.gap(state.lambda_) <= tolerance * self._trust[here]
        places = np.flatnonzero((near | out_of_epochs | held_up) & ~self.done[here])
        if not len(places):
            return
        mine = here[places]
        found = self._iteration.certify(state, places, self.lambda_[mine])
        self.weights[mine], self.intercept[mine], self.gap[mine] = found.weights, found.intercept, found.gap
        certified = (found.gap <= tolerance) | out_of_epochs
        self.done[mine] = certified
        # The measured gap was too small. Certify again when it is smaller by half.
        self._trust[mine[~certified]] /= 2
        if found.neg_grad is not None:
            failed = np.flatnonzero(~certified)
            self._iteration.correct(state, places[failed], found.neg_grad.take(failed, axis=0))
        self.state = drop_done(state, self.done)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return all that `restore` needs to go on from here; nothing if the iteration is not resumable."""
        if not isinstance(self._iteration, Resumable):
            return {}
        own = {name: getattr(self, name) for name in _RESULTS}
        return {"epochs": np.array(self.epochs)} | own | self._iteration.arrays(self.state)

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Set everything as `arrays` had it; the problem and the settings must be the same."""
        self.epochs = int(arrays["epochs"])
        for name in _RESULTS:
            setattr(self, name, arrays[name])
        if isinstance(self._iteration, Resumable):
            self.state = self._iteration.restored(self.state, arrays)
