"""Define what a trainer offers to methods that differentiate through a whole training.

A trainer whose trainings PyTorch can differentiate has one method more than a `GradientTrainer`::

    def replay(self, subset, seed): ...     # the Replay of the training that `train` does for that subset and seed

It raises InputError, with the reason, if its options do not allow that. `datamodels.train.torch:TorchTrainer` has the
method, and so have `workloads.mlp:MLP` and `:Softmax`.
"""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from datamodels.train.contract import OneByOne
from datamodels.train.gradients.base import GradientTrainer

if TYPE_CHECKING:
    import torch

    State = tuple[torch.Tensor, ...]


class Replay(abc.ABC):
    """The training of one model, as a sequence of steps.

    A state is a tuple of floating-point tensors. The first has the weights that the next step takes its gradient at,
    [parameters], in the order in which the trainer's `Gradients` has them. The others are the optimiser's, such as a
    momentum. A step takes the gradient of

        sum over the rows of a minibatch of shares * losses

    and makes the next state of it. The same step and state must always give the same numbers.

    steps  number of steps
    """

    steps: int

    @abc.abstractmethod
    def start(self) -> State:
        """Return the state before the first step."""

    @abc.abstractmethod
    def minibatch(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (int64[rows]: the examples of a step, [rows]: their shares). Shares are 1 / rows for the mean loss."""

    @abc.abstractmethod
    def losses(self, weights: torch.Tensor, examples: torch.Tensor) -> torch.Tensor:
        """Return the loss of each example of the pool, [rows], in the mode for training.

        Each depends on its own example alone. PyTorch differentiates it twice by the weights, [parameters].
        """

    @abc.abstractmethod
    def update(self, step: int, state: State, gradient: torch.Tensor) -> State:
        """Return the state after a step. PyTorch differentiates it by the state and by the gradient, [parameters]."""

    @abc.abstractmethod
    def model(self, state: State) -> Any:
        """Return the model that a state is. That of the last state is what the trainer makes of the subset and seed."""


class ReplayTrainer(GradientTrainer, Protocol):
    """A trainer whose trainings PyTorch can differentiate."""

    def replay(self, subset: np.ndarray, seed: int) -> Replay: ...


def replayable(trainer: Any) -> ReplayTrainer | None:
    """Return a trainer, or that of single models inside it, if it has replays and gradients; otherwise None."""
    found = trainer.trainer if isinstance(trainer, OneByOne) else trainer
    return found if all(callable(getattr(found, name, None)) for name in ("replay", "gradients")) else None
