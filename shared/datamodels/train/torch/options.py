"""Look up options of TorchTrainer that are functions, or the names of functions."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from datamodels.errors import SpecError
from datamodels.outputs import KNOWN, SQUARED_ERROR, Output
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
    found = None if loss is None else _instance(function("loss", loss, LOSSES))
    output = _default(found, y) if output is None else output
    return Problem(found, None if output == LOSS else function("output", output, OUTPUTS | {LOSS: problem.predictions}))


def _instance(given: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function; of a class of losses, such as `torch.nn:BCEWithLogitsLoss`, an instance."""
    return given() if isinstance(given, type) and issubclass(given, nn.Module) else given


def _default(loss: problem.Function | None, y: np.ndarray) -> str:
    """Return the name of the output if none is given; `loss` is None for that of the network."""
    classes = loss in problem.OF_CLASSES or (loss is None and y.dtype.kind in "iub")
    return "margin" if classes and y.ndim == 1 else LOSS


def meaning(loss: str | problem.Function | None, output: str | problem.Function | None, y: np.ndarray) -> Output | None:
    """Return what outputs mean, by the options of that name; None for a function of the user. Raises SpecError."""
    found = None if loss is None else function("loss", loss, LOSSES)
    output = _default(found, y) if output is None else output
    if not isinstance(output, str) or ":" in output:
        return None
    if output == LOSS and found not in problem.OF_CLASSES:
        return SQUARED_ERROR if found is problem.squared_error else Output("loss", higher_is_better=False)
    return KNOWN.get(output)


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
