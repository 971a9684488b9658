"""Define what a trainer offers to methods that need gradients, such as TracIn, TRAK and influence functions.

A trainer that has gradients has two methods more than the contract asks for::

    def checkpoints(self, subset, seed): ...       # yields (mean learning rate, model) after each epoch of a training
    def gradients(self, model, layers=()): ...     # the Gradients of a model, by all weights or those of some layers

`datamodels.train.torch:TorchTrainer` and the trainers of `images.trainer` have them for any network, by automatic
differentiation, and `workloads.mlp:MLP` and `:Softmax` by hand. A trainer of your own may return a subclass of
`Gradients` that has only some of its methods: methods that need the others are left out.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from datamodels.errors import InputError
from datamodels.train.contract import OneByOne

BYTES_AT_ONCE = 64 * 2**20
"""Bytes of gradients that are computed at once, which bounds memory."""
ROWS_AT_ONCE = 256
"""The most examples whose gradients are computed at once."""


class GradientTrainer(Protocol):
    """A trainer that has gradients, beside the methods of Trainer or BatchTrainer."""

    def checkpoints(self, subset: np.ndarray, seed: int) -> Iterator[tuple[float, Any]]: ...

    def gradients(self, model: Any, layers: Sequence[str] = ()) -> Gradients: ...


@dataclasses.dataclass(frozen=True, eq=False)
class LayerFactors:
    """Inputs and signals of a dense or convolutional layer for e examples; its matrix of weights is [b, a].

    The gradient of r functions of each example is the sum over t positions of the products of signals and inputs.

    columns  int64[b * a]; places of the matrix in the vector of all weights
    inputs   float32[e, t, a]; with a last column of ones if the layer has a bias
    signals  float32[r, e, t, b]
    """

    columns: np.ndarray
    inputs: np.ndarray
    signals: np.ndarray


class Gradients(abc.ABC):
    """Gradients of a trained model, of the pool's examples and of targets, by the chosen weights as one vector.

    All are those of the model as it is evaluated: without dropout and augmentation. `rows` is a slice of the pool's
    examples or of the targets.

    parameters    number of weights
    examples      number of examples in the pool
    targets       number of targets
    weight_decay  what training adds to the curvature of the loss; 0 if nothing
    """

    parameters: int
    examples: int
    targets: int
    weight_decay: float = 0.0

    @abc.abstractmethod
    def of_losses(self, rows: slice) -> np.ndarray:
        """Return the gradient of the loss of each example of the pool, float32[rows, parameters]."""

    @abc.abstractmethod
    def of_outputs(self, rows: slice) -> np.ndarray:
        """Return the gradient of the output of each target, float32[rows, parameters]."""

    def of_target_losses(self, rows: slice) -> np.ndarray:
        """Return the gradient of the loss of each target, float32[rows, parameters]; TracIn needs it."""
        raise self._lacks("losses of targets")

    def of_odds(self, rows: slice) -> np.ndarray:
        """Return the gradient of each example's log(p / (1 - p)), float32[rows, parameters]; TRAK needs it.

        p is the probability of the right label. If the loss is a squared error, it is the gradient of the prediction.
        """
        raise self._lacks("log odds")

    def odds_slopes(self) -> np.ndarray:
        """Return by how much each example's loss falls as that of `of_odds` rises, float32[examples]: 1 - p."""
        raise self._lacks("log odds")

    def of_curvature(self, rows: slice) -> np.ndarray:
        """Return factors of the curvature of each example's loss, float32[rows, r, parameters].

        The sum over r of their outer products is the Gauss-Newton matrix of the example: the gradients of predictions,
        with the second derivatives of the loss by predictions between them. Influence functions need it.
        """
        raise self._lacks("curvature")

    def factors(self, rows: slice) -> list[LayerFactors]:
        """Return the same, as inputs and signals of each dense and convolutional layer; EK-FAC needs it."""
        raise self._lacks("inputs and signals of layers")

    def last(self) -> Gradients:
        """Return the gradients by the weights of the last layer alone."""
        raise self._lacks("last layer")

    def representations(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the inputs of the last layer for the pool, float32[examples, f], and targets, float32[targets, f]."""
        raise self._lacks("last layer")

    def _lacks(self, what: str) -> InputError:
        return InputError(f"trainer.class: its {type(self).__name__} does not give the {what}")


def slices(count: int, bytes_each: int) -> Iterator[slice]:
    """Yield slices that cover `count` rows, so small that what is computed for one stays in BYTES_AT_ONCE."""
    rows = max(1, min(ROWS_AT_ONCE, BYTES_AT_ONCE // max(1, bytes_each)))
    return (slice(start, min(start + rows, count)) for start in range(0, count, rows))


def offered(trainer: Any) -> GradientTrainer | None:
    """Return a trainer, or that of single models inside it, if it has gradients; otherwise None."""
    found = trainer.trainer if isinstance(trainer, OneByOne) else trainer
    return found if all(callable(getattr(found, name, None)) for name in ("checkpoints", "gradients")) else None
