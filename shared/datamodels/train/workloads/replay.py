"""Repeat the training of a network of dense layers step by step, for PyTorch to differentiate; see `sgd`.

Weights are matrices [inputs, outputs], one after the other, as in `factors`. In `sgd`, the last one is transposed.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from datamodels.train.gradients.replay import Replay
from datamodels.train.workloads import sgd

State = tuple[torch.Tensor, ...]


class DenseReplay(Replay):
    """The training of one model on a subset.

    network  an `sgd.Network` whose method `logits` is differentiable
    x, y     the pool, as `sgd.train` takes them
    """

    def __init__(self, network, recipe: sgd.SgdRecipe, x: np.ndarray, y: np.ndarray, subset: np.ndarray, seed: int):
        self._network, self._recipe = network, recipe
        self._x, self._y = torch.from_numpy(x), torch.from_numpy(np.asarray(y, dtype=np.int64))
        initial, self._schedule = sgd.schedule(network, recipe, x, y, subset, seed)
        *others, last = sgd.matrices(network, initial[None])
        matrices = [torch.from_numpy(matrix[0]) for matrix in (*others, last.transpose(0, 2, 1))]
        self._shapes = [matrix.shape for matrix in matrices]
        self._initial = _flat(matrices)
        self.steps = len(self._schedule)

    def start(self) -> State:
        return self._initial, self._initial

    def minibatch(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        chosen = self._schedule[step]
        return torch.from_numpy(chosen.examples), torch.from_numpy(chosen.shares)

    def losses(self, weights: torch.Tensor, examples: torch.Tensor) -> torch.Tensor:
        logits = self._network.logits(self._matrices(weights), self._x[examples])
        return functional.cross_entropy(logits, self._y[examples], reduction="none")

    def update(self, step: int, state: State, gradient: torch.Tensor) -> State:
        """Do a step of Nesterov momentum. The first weights are those ahead, where gradients are taken."""
        (ahead, here), rate = state, self._schedule[step].rate
        after = (1 - rate * self._recipe.weight_decay) * ahead - rate * gradient
        return after + self._recipe.momentum * (after - here), after

    def model(self, state: State) -> np.ndarray:
        *others, last = self._matrices(state[0])
        return _flat([*others, last.T]).numpy()

    def _matrices(self, weights: torch.Tensor) -> list[torch.Tensor]:
        parts = weights.split([shape.numel() for shape in self._shapes])
        return [part.view(shape) for part, shape in zip(parts, self._shapes, strict=True)]


def _flat(matrices: list[torch.Tensor]) -> torch.Tensor:
    return torch.cat([matrix.reshape(-1) for matrix in matrices])
