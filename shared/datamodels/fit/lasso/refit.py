"""The last fit: each target on all its rows at its chosen lambda, certified."""

from __future__ import annotations

import numpy as np

from datamodels.fit.data.rows import Rows, columns
from datamodels.fit.lasso import gap
from datamodels.fit.lasso.method import MakeMethod, Measure, State
from datamodels.fit.lasso.path import CLOSE_RANKS, REFRESH, ROUNDING
from datamodels.fit.lasso.saga import Saga
from datamodels.run.specs import FitSpec


class Refit:
    """The final fit of one block of targets. Call `epoch` until `active` is 0; the results are by target of the block.

    weights    float32[d, n], raw
    intercept  float64[n], raw
    lambda_    float64[n], raw
    gap        float64[n], of just these weights, certified in float64
    """

    def __init__(
        self,
        rows: Rows,
        settings: FitSpec,
        outputs: np.ndarray,
        keep: np.ndarray | None,
        target: np.ndarray,
        lambda_: np.ndarray,
        weights: np.ndarray,
        *,
        seed: list[int],
        method: MakeMethod = Saga,
    ):
        """`outputs` and `keep` are of the whole block; `target` int64[t] of it are fitted, from raw weights [d, t].

        lambda_  float64[t], raw; where it is 0, it becomes the smallest that leaves no weight
        """
        n = outputs.shape[1]
        self._rows, self._settings, self._outputs, self._keep = rows, settings, outputs, keep
        self._method = method(rows, rows.whole, batch=settings.batch, seed=seed)
        self.state: State = self._method.start(columns(outputs, target), columns(keep, target), target)
        spread = np.where(self.state.spread > 0, self.state.spread, 1)
        top = self._method.measure(self.state).dual_norm + ROUNDING
        self._method.aim(self.state, np.where(lambda_ > 0, lambda_ / spread, top))
        self._method.warm(self.state, weights)
        self.weights = np.zeros((rows.problem.columns, n), dtype=np.float32)
        self.intercept, self.lambda_, self.gap = np.zeros((3, n))
        self.lambda_[target] = self.state.lambda_ * spread
        self.done = ~np.isin(np.arange(n), target)
        self._trust = np.ones(n)
        self.epochs = 0
        self._settle(self._method.measure(self.state))

    @property
    def active(self) -> int:
        """Targets not certified yet."""
        return int(np.count_nonzero(~self.done))

    def epoch(self) -> None:
        self._method.epoch(self.state, self.epochs)
        self.epochs += 1
        if self.epochs % REFRESH == 0:
            self._method.refresh(self.state)
        self._settle(self._method.calm(self.state))

    def _settle(self, measure: Measure) -> None:
        """Certifies the targets that look converged and retires those that are, or that are out of epochs."""
        state, out_of_epochs = self.state, self.epochs >= self._settings.max_epochs
        here = state.target
        near = measure.gap(state.lambda_) <= self._settings.tolerance * self._trust[here]
        places = np.flatnonzero((near | out_of_epochs) & ~self.done[here])
        if not len(places):
            return
        mine = here[places]
        self._certify(places, mine)
        certified = (self.gap[mine] <= self._settings.tolerance) | out_of_epochs
        self.done[mine] = certified
        # The table was too old to tell: look again when it promises more.
        self._trust[mine[~certified]] /= 2
        retired = self.done[here]
        if retired.all() or retired.mean() > CLOSE_RANKS:
            self.state = state.take(np.flatnonzero(~retired))

    def _certify(self, places: np.ndarray, mine: np.ndarray) -> None:
        rows = self._rows
        # SAGA gives a weight to a column that never varies until the intercept has converged, which makes up for it.
        varies = columns(self.state.varies, places)
        weights = (self._method.weights(self.state, places) * varies).astype(np.float32)
        self.gap[mine], self.intercept[mine] = gap.certify(
            rows,
            rows.whole,
            columns(self._outputs, mine),
            columns(self._keep, mine),
            weights,
            self.lambda_[mine],
        )
        self.weights[:, mine] = rows.host(weights)

    _OWN = ("weights", "intercept", "lambda_", "gap", "done", "_trust")

    def arrays(self) -> dict[str, np.ndarray]:
        """All that `restore` needs to go on from here."""
        own = {name: getattr(self, name) for name in self._OWN}
        return {"epochs": np.array(self.epochs)} | own | self._method.arrays(self.state)

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Sets everything as `arrays` had it; the rows, outputs and settings must be the same."""
        self.epochs = int(arrays["epochs"])
        for name in self._OWN:
            setattr(self, name, arrays[name])
        self.state = self._method.restored(self.state, arrays)
