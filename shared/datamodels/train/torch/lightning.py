"""Train Lightning modules by their `training_step` and `configure_optimizers`, without a Trainer of Lightning."""

from __future__ import annotations

import inspect
import types
import warnings
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from datamodels.errors import SpecError

HOOKS = (
    *("setup", "configure_model", "configure_callbacks", "on_fit_start", "on_train_start", "on_train_end"),
    *("on_train_epoch_start", "on_train_epoch_end", "on_train_batch_start", "on_train_batch_end"),
    *("on_before_batch_transfer", "on_after_batch_transfer", "transfer_batch_to_device"),
    *("on_before_backward", "backward", "on_after_backward", "on_before_zero_grad", "optimizer_zero_grad"),
    *("on_before_optimizer_step", "configure_gradient_clipping", "optimizer_step", "lr_scheduler_step"),
)
"""Methods that a Trainer of Lightning calls, and that may change what is trained."""
COUNTERS = ("current_epoch", "global_step")
"""Attributes that stay 0 without a Trainer of Lightning."""
STEPS = ("training_step", "forward", "configure_optimizers")
"""Methods that train a module here."""
PACKAGES = ("lightning", "pytorch_lightning")
"""Names of Lightning's package."""


def is_module(network: nn.Module) -> bool:
    """Return whether a network brings its own loss and optimiser, as Lightning modules do."""
    return hasattr(network, "training_step") and hasattr(network, "configure_optimizers")


def require_supported(network: Any) -> None:
    """Raise SpecError if a module is trained by more than its `training_step` and `configure_optimizers`.

    Its other methods would not be called, so that another model would be trained than the one that its author means.
    """
    name = type(network).__name__
    if not getattr(network, "automatic_optimization", True):
        raise SpecError(
            f"trainer.options.build: {name} sets automatic_optimization = False: not supported; write a trainer class "
            "of your own, which trains it by a Trainer of Lightning"
        )
    ignored = [hook for hook in HOOKS if _is_own(getattr(network, hook, None))]
    if ignored:
        raise SpecError(
            f"trainer.options.build: {name} overrides {', '.join(ignored)}, which only a Trainer of Lightning calls; "
            f"if training is the same without it, return a subclass with {ignored[0]} = None, or else write a trainer "
            "class of your own"
        )
    for step in STEPS:
        names = _names(type(network), step)
        used = [one for one in COUNTERS if one in names and not _is_own(inspect.getattr_static(network, one, None))]
        if used:
            raise SpecError(
                f"trainer.options.build: {step} of {name} uses {used[0]}, which stays 0 without a Trainer of "
                f"Lightning; if training is the same with 0, return a subclass with {used[0]} = 0, or else write a "
                "trainer class of your own"
            )


def _is_own(found: Any) -> bool:
    """Return whether an attribute of a module is the user's: neither one that Lightning defines, nor None."""
    found = found.fget if isinstance(found, property) else found
    return found is not None and (getattr(found, "__module__", None) or "").partition(".")[0] not in PACKAGES


def _names(cls: type, method: str) -> set[str]:
    """Return the names that a method uses, and those of the user's methods among them."""
    names: set[str] = set()
    waiting = [method]
    while waiting:
        found = inspect.getattr_static(cls, waiting.pop(), None)
        codes = [found.__code__] if isinstance(found, types.FunctionType) and _is_own(found) else []
        for code in codes:  # which grows
            codes += [inner for inner in code.co_consts if isinstance(inner, types.CodeType)]
            waiting += sorted(set(code.co_names) - names)
            names.update(code.co_names)
    return names


def loss_of(network: Any, x: Any, y: torch.Tensor) -> torch.Tensor:
    """Return the loss of a minibatch that `training_step` gives. The number of the step, if it takes one, is 0."""
    step = network.training_step
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"You are trying to `self\.log")
        returned = step((x, y)) if len(inspect.signature(step).parameters) == 1 else step((x, y), 0)
    return returned["loss"] if isinstance(returned, dict) else returned


class OfLightning:
    """The optimiser and the schedule that a Lightning module's `configure_optimizers` gives.

    Raises SpecError if the module wants several optimisers.
    """

    def __init__(self, network: Any):
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
    named = [schedule if isinstance(schedule, dict) else {"scheduler": schedule} for schedule in schedules]
    for schedule in named:
        if isinstance(schedule["scheduler"], ReduceLROnPlateau) or schedule.get("frequency", 1) != 1:
            raise SpecError(
                "trainer.options.build: configure_optimizers gives a schedule that follows a validation, or that does "
                "not advance at each step or epoch: not supported; take another one"
            )
    return found, named
