"""The numbers of one network, or of r networks of one kind, with all trained parameters in one vector."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import torch
from torch import nn

from datamodels.train.images.optimisers import ALIGNMENT, places

Model = dict[str, torch.Tensor]
"""A trained model: its parameters and buffers by their names in the network. Tied parameters have one name."""


def tensors(network: nn.Module) -> Model:
    """Return the parameters and buffers of a network, not copied."""
    named = itertools.chain(network.named_parameters(), network.named_buffers())
    return {name: tensor.detach() for name, tensor in named}


class Weights:
    """Trained parameters as views of one vector, and all other tensors on their own.

    network   an example of the networks; it is not changed
    models    None for one network; otherwise r, and tensors are [r, ...]

    flat      [size]: the trained parameters of all models, parameter by parameter. Gaps between them are zero
    gradient  [size]; backward passes add to it
    trained   the views by name; leaves of the graph, whose `grad` are views of `gradient`
    others    buffers and frozen parameters by name
    """

    def __init__(self, network: nn.Module, models: int | None, device: torch.device, dtype: torch.dtype):
        parameters = {name: p.detach() for name, p in network.named_parameters() if p.requires_grad}
        lead = () if models is None else (models,)
        shapes = {name: torch.empty((*lead, *p.shape), device="meta") for name, p in parameters.items()}
        starts, size = places(list(shapes.values()), ALIGNMENT // dtype.itemsize)
        self.models = models
        self.flat, self.gradient = (torch.zeros(size, device=device, dtype=dtype) for _ in range(2))
        self.trained: Model = {}
        for (name, parameter), start in zip(parameters.items(), starts, strict=True):
            view, slope = (_view(flat, start, parameter, models) for flat in (self.flat, self.gradient))
            view.requires_grad_().grad = slope
            self.trained[name] = view
        self.others: Model = {}
        for name, tensor in tensors(network).items():
            if name not in parameters:
                kind = dtype if tensor.is_floating_point() else tensor.dtype
                self.others[name] = torch.zeros((*lead, *tensor.shape), device=device, dtype=kind)

    @property
    def all(self) -> Model:
        return self.trained | self.others

    @torch.no_grad()
    def load(self, model: Mapping[str, torch.Tensor], at: int | None = None) -> None:
        """Copy a model's numbers; `at` is its index among r."""
        for name, tensor in self.all.items():
            (tensor if at is None else tensor[at]).copy_(model[name])

    def clip(self, largest: float) -> None:
        """Shorten the gradient of each model to the norm `largest`, if it is longer."""
        slopes = [view.grad for view in self.trained.values() if view.grad is not None]
        norms = torch.stack([slope.reshape(self.models or 1, -1).norm(dim=1) for slope in slopes]).norm(dim=0)
        factors = (largest / (norms + 1e-6)).clamp_max(1)
        for slope in slopes:
            slope.mul_(factors[0] if self.models is None else factors.view(-1, *(1 for _ in slope.shape[1:])))

    def copies(self) -> list[Model]:
        """Return a copy of each model, r or one."""
        if self.models is None:
            return [{name: tensor.detach().clone() for name, tensor in self.all.items()}]
        return [{name: tensor.detach()[at].clone() for name, tensor in self.all.items()} for at in range(self.models)]

    def attach(self, network: nn.Module) -> None:
        """Make the tensors of a network those of this object, which have the same device and types."""
        for name, parameter in network.named_parameters():
            if name in self.trained:
                parameter.data, parameter.grad = self.trained[name].detach(), self.trained[name].grad
            else:
                parameter.data = self.others[name]
        for path, module in network.named_modules():
            for name, _ in list(module.named_buffers(recurse=False)):
                module._buffers[name] = self.others.get(f"{path}.{name}" if path else name, module._buffers[name])


def _view(flat: torch.Tensor, start: int, parameter: torch.Tensor, models: int | None) -> torch.Tensor:
    """Return the part of a vector that holds a parameter, or r of them. One keeps its layout in memory."""
    part = flat[start : start + parameter.numel() * (models or 1)]
    if models is not None:
        return part.view(models, *parameter.shape)
    if parameter.ndim == 4 and parameter.is_contiguous(memory_format=torch.channels_last):
        return part.as_strided(parameter.shape, parameter.stride())
    return part.view(parameter.shape)
