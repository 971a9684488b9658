"""What the lambda path and the last fit ask of a method: one way, `saga` or `stream`, to solve many LASSOs at once."""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol, Self, TypeVar

import numpy as np

from datamodels.fit.data.rows import Rows
from datamodels.fit.lasso import gap


class State(Protocol):
    """Targets in the making. The last axis is the target. All of these are NumPy's except for the first.

    varies   bool[d, a] of the array module; columns that vary among the rows that count
    target   int64[a]; which target of the block
    location, spread  float64[a]; mean and deviation of the raw outputs over the rows that count
    lambda_  float64[a]; to solve for, for the standardised outputs: raw lambda / spread
    """

    varies: np.ndarray
    target: np.ndarray
    location: np.ndarray
    spread: np.ndarray
    lambda_: np.ndarray

    def take(self, chosen: np.ndarray) -> Self:
        """Only the targets at these places, int[...]."""


S = TypeVar("S", bound=State)


class Method(Protocol[S]):
    """A method over one span of rows, with states of its own kind; `saga.Saga` says what each call does."""

    def start(self, outputs: np.ndarray, keep: np.ndarray | None, target: np.ndarray) -> S: ...

    def warm(self, state: S, theta: np.ndarray) -> None: ...

    def aim(self, state: S, lambda_: np.ndarray) -> None: ...

    def epoch(self, state: S, number: int) -> None: ...

    def refresh(self, state: S) -> None: ...

    def measure(self, state: S) -> Measure: ...

    def calm(self, state: S) -> Measure: ...

    def predictor(self, state: S, places: np.ndarray) -> np.ndarray: ...

    def weights(self, state: S, places: np.ndarray) -> np.ndarray: ...

    def arrays(self, state: S) -> dict[str, np.ndarray]: ...

    def restored(self, start: S, arrays: dict[str, np.ndarray]) -> S: ...


class MakeMethod(Protocol):
    """Makes a method over a span; `batch` rows and a `seed` are for methods that draw rows."""

    def __call__(self, rows: Rows, span: slice, *, batch: int, seed: list[int]) -> Method[Any]: ...


@dataclasses.dataclass(frozen=True)
class Measure:
    """Parts of the objective and the gap of standardised targets, float64[a] each; see `gap.relative`."""

    square: np.ndarray
    aligned: np.ndarray
    dual_norm: np.ndarray
    l1: np.ndarray
    stale: np.ndarray

    def gap(self, lambda_: np.ndarray) -> np.ndarray:
        """float64[a]: relative duality gap; the outputs' variance is 1."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return gap.relative(lambda_=lambda_, zero=np.ones(len(lambda_)), **fields)
