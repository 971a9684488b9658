"""Hold all numbers of a network in one vector, and define optimisers that update it.

A training starts by overwriting the vector, a model is a copy of it, and a step is a few passes over it for any number
of layers. Nothing here reads a value back to the host, so that a GPU can capture a step and replay it.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import nn

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Coefficients of the quintic iteration that brings singular values to about 1 (Jordan et al. 2024, Muon)."""
ALIGNMENT = 256
"""Bytes. Each tensor in the vector begins at a multiple of it, as memory from CUDA's allocators does. Kernels rely on
that: in float32 and fp16, cuDNN's batch normalisation fails with "misaligned address" if running statistics are not
aligned."""


class FlatState:
    """The numbers of a network in one vector. The network's parameters and buffers become views of it.

    state     [size]: filters, other parameters, then what is not trained (normalisation, running statistics)
    weights   [trained]: the first part of `state`, which is trained
    gradient  [trained]: backward passes add their gradients to it
    filters   (start, stop, rows) of each filter bank in `weights`; a bank is a matrix of `rows` filters

    Filters are laid out channels last: [outputs, height, width, inputs]. Gaps between tensors are zero.
    """

    def __init__(self, network: nn.Module, device: torch.device, dtype: torch.dtype):
        network.to(device=device, dtype=dtype)
        parameters = sorted(network.parameters(), key=lambda p: p.ndim != 4)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.num_batches_tracked = None
        buffers = [(m, name, b) for m in network.modules() for name, b in m.named_buffers(recurse=False)]
        starts, size = places([*parameters, *(b for _, _, b in buffers)], ALIGNMENT // dtype.itemsize)
        trained = starts[len(parameters)]
        self.state = torch.zeros(size, device=device, dtype=dtype)
        self.weights, self.gradient = self.state[:trained], torch.zeros(trained, device=device, dtype=dtype)
        self.filters: list[tuple[int, int, int]] = []
        for parameter, start in zip(parameters, starts, strict=False):
            stop = start + parameter.numel()
            if parameter.ndim == 4:
                self.filters.append((start, stop, len(parameter)))
            parameter.data = _view(self.state[start:stop], parameter.shape)
            parameter.grad = _view(self.gradient[start:stop], parameter.shape)
        for (module, name, buffer), start in zip(buffers, starts[len(parameters) :], strict=True):
            setattr(module, name, _view(self.state[start : start + buffer.numel()], buffer.shape))


def places(tensors: Sequence[torch.Tensor], step: int) -> tuple[list[int], int]:
    """Return the start of each tensor in one vector, each at a multiple of `step` numbers, and the vector's size."""
    sizes = [-(-tensor.numel() // step) * step for tensor in tensors]
    starts = [0, *itertools.accumulate(sizes)]
    return starts[:-1], starts[-1]


def _view(numbers: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    if len(shape) != 4:
        return numbers.view(shape)
    outputs, inputs, height, width = shape
    return numbers.view(outputs, height, width, inputs).permute(0, 3, 1, 2)


class Optimiser(Protocol):
    """Updates the weights of one training after another."""

    def start(self) -> None:
        """Forget the training before."""

    def step(self, rate: torch.Tensor) -> None:
        """Update the weights by the gradient, and overwrite the gradient. `rate` has one element, on the device."""


class Nesterov:
    """Stochastic gradient descent with Nesterov momentum, as in torch.optim.SGD.

    g' = g + weight_decay w;  v = momentum v + g';  w -= rate (g' + momentum v)
    """

    def __init__(self, weights: torch.Tensor, gradient: torch.Tensor, momentum: float, weight_decay: float):
        self._weights, self._gradient, self._momentum, self._weight_decay = weights, gradient, momentum, weight_decay
        self._velocity = torch.zeros_like(weights)

    def start(self) -> None:
        self._velocity.zero_()

    def step(self, rate: torch.Tensor) -> None:
        self._gradient.add_(self._weights, alpha=self._weight_decay)
        self._velocity.mul_(self._momentum).add_(self._gradient)
        self._gradient.add_(self._velocity, alpha=self._momentum)
        self._weights.addcmul_(self._gradient, rate, value=-1)


class Muon:
    """Updates filter banks by the nearest orthogonal matrix to their momentum (Jordan et al. 2024), others by Nesterov.

    Before each step, a bank of r filters is scaled to the norm sqrt(r), which is that of the update. Batch
    normalisation follows each bank, so its norm does not matter, and a learning rate means the same rotation for every
    layer. Banks of one shape that follow each other, as those of a residual block do, are updated together.
    """

    def __init__(self, flat: FlatState, momentum: float):
        first = flat.filters[-1][1]
        self._others = Nesterov(flat.weights[first:], flat.gradient[first:], momentum=0.85, weight_decay=0.0)
        self._momentum = momentum
        self._gradient = flat.gradient[:first]
        self._velocity = torch.zeros_like(self._gradient)
        self._banks = [(banks(flat.weights, some), banks(flat.gradient, some)) for some in of_one_shape(flat.filters)]

    def start(self) -> None:
        self._velocity.zero_()
        self._others.start()

    def step(self, rate: torch.Tensor) -> None:
        self._velocity.mul_(self._momentum).add_(self._gradient)
        self._gradient.add_(self._velocity, alpha=self._momentum)
        for weights, gradient in self._banks:
            weights.mul_(weights.shape[1] ** 0.5 / torch.linalg.matrix_norm(weights, keepdim=True))
            weights.addcmul_(orthogonal(gradient), rate, value=-1)
        self._others.step(rate)


def of_one_shape(filters: Sequence[tuple[int, int, int]]) -> list[list[tuple[int, int, int]]]:
    """Return the longest runs of banks (start, stop, rows) of one shape whose starts are equally far apart."""
    runs: list[list[tuple[int, int, int]]] = []
    for start, stop, rows in filters:
        run = runs[-1] if runs else []
        alike = bool(run) and (stop - start, rows) == (run[0][1] - run[0][0], run[0][2])
        if alike and (len(run) == 1 or start - run[-1][0] == run[1][0] - run[0][0]):
            run.append((start, stop, rows))
        else:
            runs.append([(start, stop, rows)])
    return runs


def banks(numbers: torch.Tensor, run: Sequence[tuple[int, int, int]]) -> torch.Tensor:
    """Return a view [k, rows, size of a filter] of the k banks of a run, as of `of_one_shape`, in one vector."""
    (start, stop, rows), last = run[0], run[-1][0]
    step, size = (last - start) // max(1, len(run) - 1), (stop - start) // rows
    return numbers.as_strided((len(run), rows, size), (step, size, 1), numbers.storage_offset() + start)


def orthogonal(matrices: torch.Tensor, iterations: int = 5) -> torch.Tensor:
    """Return the matrices [k, a, b] with the singular vectors of `matrices` [k, a, b] and singular values of about 1.

    By the iteration of Newton and Schulz, in bf16 on a GPU.
    """
    a, b, c = NEWTON_SCHULZ
    x = matrices.to(torch.bfloat16) if matrices.is_cuda else matrices
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-7)
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    for _ in range(iterations):
        square = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).to(matrices.dtype)
