"""Try a new network on a few examples, so that mistakes are found before the first training."""

from __future__ import annotations

import warnings

import torch
from torch import nn

from datamodels.errors import SpecError
from datamodels.train.torch.descent import Setting
from datamodels.train.torch.problem import Problem
from datamodels.train.torch.tensors import Examples, Tree, ranges, row

ROWS = 4
"""Examples that a network is tried on."""
NOTHING = 1e-6
"""A loss of one example that is smaller than this, as a fraction of that of several, is 0 but for rounding."""
PROBABILITIES = ("Sigmoid", "Hardsigmoid", "Softmax")
"""Operations of PyTorch's graph that make probabilities."""
LOGARITHMS = ("LogSigmoid", "LogSoftmax")
"""Operations that make their logarithms. Those of all classes are logits, too."""
OF_SHAPE = (
    *("View", "UnsafeView", "ReshapeAlias", "Squeeze", "Unsqueeze", "Transpose", "T", "Permute", "Select", "Slice"),
    *("Clone", "Alias", "Expand", "ToCopy", "Stack", "Cat", "Clamp"),
)
"""Operations that leave numbers what they are: shapes, copies, and bounds of probabilities."""


def probe(setting: Setting, network: nn.Module, targets: Examples) -> bool:
    """Return whether a network on its device, or the augmentation, draws random numbers in training.

    Raises SpecError if losses or outputs have the wrong shape or y is no class of the network, and what the user's
    functions raise.
    """
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise SpecError(
            "trainer.options.build: no parameter of the network has requires_grad = True, so there is nothing to train"
        )
    cuda = [torch.cuda.current_device()] if setting.device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda), torch.no_grad(), warnings.catch_warnings():
        # The losses of PyTorch broadcast [rows, 1] and [rows] to [rows, rows], and only warn.
        warnings.filterwarnings("error", message="Using a target size")
        x, y = setting.pool.batch(slice(0, ROWS))
        _check_classes(setting.problem, _classes(setting, network.eval(), x), setting.pool, targets)
        _check_logits(setting.problem, network, x, y)
        before = _generators(setting.device)
        network.train()
        loss = setting.problem.of(network, setting.augment(x) if setting.augment else x, y)
        draws = any(not torch.equal(a, b) for a, b in zip(before, _generators(setting.device), strict=True))
        if not isinstance(loss, torch.Tensor) or tuple(loss.shape) not in ((), (len(y),)):
            raise SpecError(
                f"trainer.options.loss: returned {_shown(loss)} for {len(y)} examples: must be a number for each, or "
                "the mean of them"
            )
        network.eval()
        _check_alone(setting, network, x, y)
        _check_one(setting, network, x, y)
        x, y = targets.batch(slice(0, ROWS))
        outputs = setting.problem.outputs(network, x, y)
        if not isinstance(outputs, torch.Tensor) or tuple(outputs.shape) != (len(y),):
            raise SpecError(
                f"trainer.options.output: returned {_shown(outputs)} for {len(y)} targets: must be a number for each"
            )
    return draws


def _check_alone(setting: Setting, network: nn.Module, x: Tree, y: torch.Tensor) -> None:
    """Raise SpecError if a loss of the user's own broadcasts predictions [rows, 1] and y [rows] to [rows, rows].

    Then it is another one for a minibatch than for its examples alone, and the same if y is a column, too.
    """
    if y.ndim != 1 or len(y) < 2:
        return
    try:
        whole = setting.problem.of(network, x, y)
        rows = [setting.problem.of(network, *row(number, x, y)).reshape(()) for number in range(len(y))]
        alone = torch.stack(rows) if whole.ndim else torch.stack(rows).mean()
        if torch.allclose(whole, alone, rtol=1e-3):
            return
        column = setting.problem.of(network, x, y[:, None]).reshape(whole.shape)
    except (RuntimeError, ValueError, TypeError, IndexError, SpecError):  # it takes no single example, or no column
        return
    if torch.allclose(column, alone, rtol=1e-3):
        raise SpecError(
            f"trainer.options.loss: compares each prediction with the y of all examples, because predictions are "
            f"[{len(y)}, 1] and y is [{len(y)}]; take network(x).squeeze(-1)"
        )


def _check_one(setting: Setting, network: nn.Module, x: Tree, y: torch.Tensor) -> None:
    """Raise SpecError if the recorded output is a loss that compares the examples of a minibatch with each other.

    Such a loss, as Cox's or a contrastive one, is 0 or not defined for one example, so it says nothing of a target.
    """
    if not setting.problem.records_loss or len(y) < 2:
        return
    try:
        whole = setting.problem.of(network, x, y)
        alone = torch.stack([setting.problem.of(network, *row(n, x, y)).reshape(()) for n in range(len(y))])
    except (RuntimeError, ValueError, TypeError, IndexError, SpecError):  # it takes no single example
        return
    empty = ~alone.isfinite() | (alone.abs() < NOTHING * whole.abs().max())
    if not whole.ndim and whole.isfinite() and whole != 0 and empty.all():
        raise SpecError(
            f"trainer.options.loss: is {whole.item():.3g} for {len(y)} examples together, and "
            f"{alone[0].item():z.3g} for one alone, because it compares examples with each other; so it says nothing "
            "of a target: let trainer.options.output name what to record, such as a function that returns predictions"
        )


def _check_logits(problem: Problem, network: nn.Module, x: Tree, y: torch.Tensor) -> None:
    """Raise SpecError if a loss or an output that takes logits gets probabilities: it would take those of them."""
    option = problem.takes_logits
    if not option:
        return
    with torch.enable_grad():
        found = problem.predictions(network, x)
    one_each = found.numel() == y.numel()
    if option == "output" and problem.records_margin and not one_each:  # of classes, above 0 by probabilities, too
        return
    made, logits = last_operation(found), found.detach().float()
    sums = logits.sum(dim=-1)
    shares = logits.shape[-1:] > (1,) and bool((logits >= 0).all()) and torch.allclose(sums, torch.ones_like(sums))
    if shares or made in PROBABILITIES or (one_each and made in LOGARITHMS):
        what = "logarithms of probabilities" if made in LOGARITHMS else "probabilities"
        other = "a loss" if option == "loss" else "the output loss, or an output"
        raise SpecError(
            f"trainer.options.build: the network returns {what}, and the {option} takes logits; leave out its last "
            f"softmax or sigmoid, or give {other} of your own"
        )


def last_operation(found: torch.Tensor) -> str:
    """Return the name of the operation that made a tensor, but for changes of its shape; empty if PyTorch does not say.

    The last module of a network is not it: modules are listed as they were defined, and many call functions.
    """
    node = found.grad_fn
    while node is not None:
        name = node.name().partition("Backward")[0]
        if name not in OF_SHAPE or not node.next_functions:
            return name
        node = node.next_functions[0][0]
    return ""


def _classes(setting: Setting, network: nn.Module, x: Tree) -> int | None:
    try:
        return setting.problem.classes(network, x)
    except IndexError as error:  # PyTorch says no more than "index out of range in self"
        raise SpecError(
            f"trainer.options.build: an embedding of the network has too few rows for the numbers in x, or for its "
            f"positions: {ranges(setting.pool.x)}"
        ) from error


def _check_classes(problem: Problem, classes: int | None, pool: Examples, targets: Examples) -> None:
    if classes is None:
        return
    for name, examples in (("y", pool), ("y of the targets", targets)):
        y = examples.y
        if y.dtype.is_floating_point and (fault := problem.fault_of(y)):
            raise SpecError(f"dataset: {name} {fault}")
        if int(y.max()) >= classes:
            raise SpecError(
                f"trainer.options.build: the network has {classes} {'class' if classes == 1 else 'classes'}, and "
                f"{name} has a class {int(y.max())}"
            )
        if int(y.min()) < 0 and (y.ndim == 1 or not problem.ignores(int(y.min()))):
            raise SpecError(f"dataset: {name} has a class {int(y.min())}: this trainer needs classes 0, 1, ...")


def _generators(device: torch.device) -> list[torch.Tensor]:
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state()] if device.type == "cuda" else [])]


def _shown(found: object) -> str:
    return f"a tensor {list(found.shape)}" if isinstance(found, torch.Tensor) else f"a {type(found).__name__}"
