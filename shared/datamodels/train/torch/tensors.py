"""Convert examples to tensors, and call a network with them.

x is an array of numbers, or a structured array if a network takes several inputs. Fields with names become keyword
arguments, such as `input_ids` and `attention_mask`; fields without names (f0, f1, ...) become positional arguments.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

from datamodels import inputs
from datamodels.errors import SpecError

Tree = Any
"""A tensor, a tuple of tensors, or a dict of tensors."""
TYPES = re.compile(r"\b(dtype|scalar types?|[Ii]nput type)\b")
"""Words of PyTorch's errors about types of numbers."""


@dataclasses.dataclass(frozen=True)
class Examples:
    """Examples on a device.

    x      tensors [examples, ...], of the data's own type
    y      tensor [examples, ...], of the data's own type
    dtype  of the floating-point numbers in minibatches
    """

    x: Tree
    y: torch.Tensor
    dtype: torch.dtype

    def __len__(self) -> int:
        return len(self.y)

    def batch(self, index: torch.Tensor | slice) -> tuple[Tree, torch.Tensor]:
        """Return x and y of some examples. Floating-point numbers have `dtype`; integers become int64."""

        def take(values: torch.Tensor) -> torch.Tensor:
            found = values[index]
            if found.dtype == torch.bool:
                return found
            return found.to(self.dtype if found.dtype.is_floating_point else torch.int64)

        return mapped(take, self.x), take(self.y)


def examples(x: np.ndarray, y: np.ndarray, device: torch.device, dtype: torch.dtype) -> Examples:
    """Return arrays as Examples. Arrays in memory are not copied on a CPU. Raises SpecError if they are not numbers."""

    def tensor(name: str, array: np.ndarray) -> torch.Tensor:
        if array.dtype.kind not in "fiub":
            raise SpecError(f"dataset: {name} {_fault(name, array)}")
        if array.dtype in (np.uint16, np.uint32, np.uint64):
            array = array.astype(np.int64)  # PyTorch can hardly look these up
        if array.dtype == np.float64 or array.dtype.itemsize > 8:
            array = array.astype(np.float32 if dtype != torch.float64 else np.float64, copy=False)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The given NumPy array is not writ")  # it is never written to
            return torch.from_numpy(np.ascontiguousarray(array)).to(device)

    names = x.dtype.names
    if names is None:
        return Examples(tensor("x", x), tensor("y", y), dtype)
    fields = {name: tensor(f"x[{name!r}]", x[name]) for name in names}
    positional = names == tuple(f"f{i}" for i in range(len(names)))
    return Examples(tuple(fields.values()) if positional else fields, tensor("y", y), dtype)


def _fault(name: str, array: np.ndarray) -> str:
    if array.dtype.kind in "US" and name == "y":
        return "holds texts: this trainer needs numbers; number the classes with np.unique(y, return_inverse=True)[1]"
    if found := inputs.missing(array):
        return f"has {found}"
    kind = "texts" if array.dtype.kind in "US" else "objects" if array.dtype.kind == "O" else str(array.dtype)
    return f"holds {kind}: this trainer needs numbers"


def mapped(function: Callable[[torch.Tensor], Any], tree: Tree) -> Tree:
    """Return a tree of the function's values for each tensor of a tree."""
    if isinstance(tree, dict):
        return {name: function(tensor) for name, tensor in tree.items()}
    if isinstance(tree, tuple):
        return tuple(function(tensor) for tensor in tree)
    return function(tree)


@contextlib.contextmanager
def naming_types(examples: Examples) -> Iterator[None]:
    """Let PyTorch's errors about types of numbers say which types the examples have, and what becomes of them."""
    try:
        yield
    except RuntimeError as error:
        if TYPES.search(str(error)):
            held: list[str] = []
            mapped(lambda tensor: held.append(str(tensor.dtype).removeprefix("torch.")), examples.x)
            y = str(examples.y.dtype).removeprefix("torch.")
            error.args = (
                f"{error}; x holds {', '.join(held)} and y {y}, of which networks and losses get integers as int64 and "
                "other numbers as float32; change the type in the data set, such as x.astype(np.float32)",
            )
        raise


def row(number: int, x: Tree, y: torch.Tensor) -> tuple[Tree, torch.Tensor]:
    """Return x and y of one example of a minibatch, [1, ...] each."""
    return mapped(lambda tensor: tensor[number : number + 1], x), y[number : number + 1]


def ranges(tree: Tree) -> str:
    """Say which numbers are in x, and the shape of an example."""
    named = tree if isinstance(tree, dict) else dict(enumerate(tree)) if isinstance(tree, tuple) else {"": tree}
    said = (
        f"x{f'[{name!r}]' if name != '' else ''} has {tensor.min().item():g} to {tensor.max().item():g} in shape "
        f"{list(tensor.shape[1:])}"
        for name, tensor in named.items()
    )
    return ", ".join(said)


def call(network: nn.Module, x: Tree) -> Any:
    """Return what a network makes of a minibatch."""
    if isinstance(x, dict):
        return network(**x)
    return network(*x) if isinstance(x, tuple) else network(x)
