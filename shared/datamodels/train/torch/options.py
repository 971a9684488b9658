"""Options of TorchTrainer that are functions, or the names of functions."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from datamodels.errors import SpecError
from datamodels.run.runs import reference
from datamodels.train.torch import problem
from datamodels.train.torch.optimisers import FLAT, OfPyTorch, Own
from datamodels.train.torch.problem import LOSSES, OUTPUTS, Problem

LOSS = "loss"
"""The output that is the loss."""


def function(option: str, given: Any, named: Mapping[str, Callable[..., Any]] = {}) -> Callable[..., Any]:
    """Return a function: itself, one of `named`, or the one that `module:function` refers to. Raises SpecError."""
    if isinstance(given, str) and given in named:
        return named[given]
    if isinstance(given, str) and ":" in given:
        given = reference(f"trainer.options.{option}", given)
    if isinstance(given, str) or not callable(given):
        allowed = f"{', '.join(named)} or module:function" if named else "module:function"
        raise SpecError(f"trainer.options.{option} = {given!r}: must be {allowed}")
    return given


def objectives(
    loss: str | problem.Function | None, output: str | problem.Function | None, own_loss: bool, y: np.ndarray
) -> Problem:
    """Return the loss and the output of the options of that name.

    own_loss  whether the network has a loss of its own, which is taken if `loss` is None
    y         [examples]; labels

    Raises SpecError.
    """
    if loss is None and not own_loss:
        raise SpecError(f"trainer.options.loss: is missing; give {', '.join(LOSSES)} or module:function")
    found = None if loss is None else function("loss", loss, LOSSES)
    if output is None:
        classes = found in problem.OF_CLASSES or (found is None and y.dtype.kind in "iub")
        output = "margin" if classes and y.ndim == 1 else LOSS
    return Problem(found, None if output == LOSS else function("output", output, OUTPUTS | {LOSS: problem.predictions}))


def optimiser(given: str | Callable[..., torch.optim.Optimizer], params: Mapping[str, Any] | None) -> str | Own:
    """Return a name of FLAT, or a function that makes the optimiser of a network. Raises SpecError."""
    if isinstance(given, str) and given in FLAT:
        if params:
            raise SpecError(
                f"trainer.options.optimiser_params = {params!r}: are for your own optimiser, not for {given}"
            )
        return given
    if isinstance(given, str) and ":" not in given:
        raise SpecError(f"trainer.options.optimiser = {given!r}: must be {', '.join(FLAT)} or module:function")
    make = functools.partial(function("optimiser", given), **(params or {}))

    def own(network: nn.Module) -> OfPyTorch:
        return OfPyTorch(make, network)

    return own
