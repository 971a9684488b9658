"""Watch the layers of a network during a forward pass, and split the gradients of dense and convolutional ones."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from datamodels.errors import InputError


@contextlib.contextmanager
def transformable() -> Iterator[None]:
    """Let attention use kernels that `torch.func` transforms; others run example by example, with a warning."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


class hooked:
    """Calls functions after the forward passes of modules, inside a with statement."""

    def __init__(self, hooks: Iterable[tuple[nn.Module, Callable[..., Any]]]):
        self._hooks = list(hooks)

    def __enter__(self) -> None:
        self._handles = [module.register_forward_hook(hook) for module, hook in self._hooks]

    def __exit__(self, *error: object) -> None:
        for handle in self._handles:
            handle.remove()


def is_transposed(module: nn.Module) -> bool:
    """Return whether a layer is the dense layer of GPT-2 in transformers, whose weight is [inputs, outputs]."""
    return isinstance(module, getattr(sys.modules.get("transformers.pytorch_utils"), "Conv1D", ()))


def is_dense(module: nn.Module) -> bool:
    """Return whether a layer maps the last dimension of its input."""
    return isinstance(module, nn.Linear) or is_transposed(module)


def is_product(module: nn.Module) -> bool:
    """Return whether the gradient of a layer is a product of its inputs and its signals; grouped ones have none."""
    if isinstance(module, nn.Conv2d):
        return module.groups == 1 and module.padding_mode == "zeros" and not isinstance(module.padding, str)
    return is_dense(module)


def inputs(module: nn.Module, given: torch.Tensor, rows: int) -> torch.Tensor:
    """Return the inputs of a layer at each position, [rows, t, a]."""
    if isinstance(module, nn.Conv2d):
        assert not isinstance(module.padding, str), "`is_product` says so"
        found = functional.unfold(given, module.kernel_size, module.dilation, module.padding, module.stride).mT
    else:
        found = _by_row(given, rows)
    return torch.cat([found, torch.ones_like(found[..., :1])], dim=2) if module.bias is not None else found


def signals(module: nn.Module, signal: torch.Tensor, rows: int) -> torch.Tensor:
    """Return the signals of a layer at each position, [rows, t, b]."""
    return signal.flatten(2).mT if isinstance(module, nn.Conv2d) else _by_row(signal, rows)


def _by_row(tensor: torch.Tensor, rows: int) -> torch.Tensor:
    if len(tensor) != rows:
        raise InputError("EK-FAC needs layers whose inputs have the examples as their first dimension")
    return tensor.reshape(rows, -1, tensor.shape[-1])
