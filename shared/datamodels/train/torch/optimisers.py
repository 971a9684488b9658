"""Define optimisers of networks whose weights are one vector, and of networks that bring their own optimiser."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import torch
from torch import nn

from datamodels.errors import SpecError
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


class OfLightning:
    """The optimiser and the schedule that a Lightning module's `configure_optimizers` gives.

    Raises SpecError if the module wants several optimisers, or steps them itself.
    """

    def __init__(self, network: Any):
        if not getattr(network, "automatic_optimization", True):
            raise SpecError("trainer.options.build: the module sets automatic_optimization = False: not supported")
        self._inner, self._schedules = _configured(network.configure_optimizers())

    def step(self, rate: float) -> float:
        used = float(self._inner.param_groups[0]["lr"])
        self._inner.step()
        self._advance("step")
        return used

    def epoch_done(self) -> None:
        self._advance("epoch")

    def _advance(self, interval: str) -> None:
        for schedule in self._schedules:
            if schedule.get("interval", "epoch") == interval:
                schedule["scheduler"].step()


def _configured(found: Any) -> tuple[torch.optim.Optimizer, list[dict[str, Any]]]:
    """Return the optimiser and the schedules in what `configure_optimizers` returned, in any of its forms."""
    schedules: Any = []
    if isinstance(found, tuple) and len(found) == 2:
        found, schedules = found
    if isinstance(found, list | tuple) and len(found) == 1:
        found = found[0]
    if isinstance(found, dict):
        schedules = [found["lr_scheduler"]] if "lr_scheduler" in found else []
        found = found["optimizer"]
    if not isinstance(found, torch.optim.Optimizer):
        raise SpecError(
            f"trainer.options.build: configure_optimizers returned {type(found).__name__}: must be one optimiser, "
            "with its schedule or without"
        )
    return found, [schedule if isinstance(schedule, dict) else {"scheduler": schedule} for schedule in schedules]


Own = Callable[[nn.Module], OwnOptimiser]
"""Makes the OwnOptimiser of a network."""
