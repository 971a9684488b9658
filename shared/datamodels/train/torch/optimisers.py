"""Define optimisers of networks whose weights are one vector, and those that PyTorch brings."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

import torch
from torch import nn

from datamodels.train.images.optimisers import Nesterov, Optimiser
from datamodels.train.torch.recipe import Recipe

FLAT = ("adamw", "sgd")
"""Optimisers that work on the vector, number by number: for many models at once, and in captured steps."""

Make = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
"""Makes an optimiser of PyTorch for the parameters of a network."""


class AdamW:
    """AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101), by PyTorch's fused kernel on the whole vector."""

    def __init__(self, weights: torch.Tensor, gradient: torch.Tensor, weight_decay: float):
        vector = weights.detach()
        vector.grad = gradient
        self._rate = torch.zeros((), dtype=torch.float32, device=weights.device)
        self._inner = torch.optim.AdamW(
            [vector], lr=self._rate, weight_decay=weight_decay, fused=True, capturable=weights.is_cuda
        )

    def start(self) -> None:
        # In place: a captured step reads these tensors.
        for state in self._inner.state.values():
            for tensor in state.values():
                tensor.zero_()

    def step(self, rate: torch.Tensor) -> None:
        self._rate.copy_(rate[0])
        self._inner.step()


def flat(name: str, recipe: Recipe, weights: torch.Tensor, gradient: torch.Tensor) -> Optimiser:
    """Return an optimiser of FLAT for a vector of weights and its gradient, both [size]."""
    if name == "adamw":
        return AdamW(weights, gradient, recipe.weight_decay)
    return Nesterov(weights, gradient, recipe.momentum, recipe.weight_decay)


class OwnOptimiser(Protocol):
    """An optimiser made for one model, which updates the network's parameters."""

    def step(self, rate: float) -> float:
        """Update the parameters by their gradients, and return the learning rate that was used."""

    def epoch_done(self) -> None:
        """Do what the optimiser does after each epoch."""


class OfPyTorch:
    """An optimiser of PyTorch, with the learning rates of the recipe."""

    def __init__(self, make: Make, network: nn.Module):
        self._inner = make([p for p in network.parameters() if p.requires_grad])

    def step(self, rate: float) -> float:
        for group in self._inner.param_groups:
            group["lr"] = rate
        self._inner.step()
        return rate

    def epoch_done(self) -> None:
        pass


Own = Callable[[nn.Module], OwnOptimiser]
"""Makes the OwnOptimiser of a network."""
