"""Try a new network on a few examples, so that mistakes are found before the first training."""

from __future__ import annotations

import warnings

import torch
from torch import nn

from datamodels.errors import SpecError
from datamodels.train.torch.descent import Setting
from datamodels.train.torch.tensors import Examples, Tree, ranges, row

ROWS = 4
"""Examples that a network is tried on."""


def probe(setting: Setting, network: nn.Module, targets: Examples) -> bool:
    """Return whether a network on its device, or the augmentation, draws random numbers in training.

    Raises SpecError if losses or outputs have the wrong shape or y is no class of the network, and what the user's
    functions raise.
    """
    cuda = [torch.cuda.current_device()] if setting.device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda), torch.no_grad(), warnings.catch_warnings():
        # The losses of PyTorch broadcast [rows, 1] and [rows] to [rows, rows], and only warn.
        warnings.filterwarnings("error", message="Using a target size")
        x, y = setting.pool.batch(slice(0, ROWS))
        _check_classes(_classes(setting, network.eval(), x), setting.pool, targets)
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


def _classes(setting: Setting, network: nn.Module, x: Tree) -> int | None:
    try:
        return setting.problem.classes(network, x)
    except IndexError as error:  # PyTorch says no more than "index out of range in self"
        raise SpecError(
            f"trainer.options.build: an embedding of the network has too few rows for the numbers in x, or for its "
            f"positions: {ranges(setting.pool.x)}"
        ) from error


def _check_classes(classes: int | None, pool: Examples, targets: Examples) -> None:
    if classes is None:
        return
    for name, examples in (("y", pool), ("y of the targets", targets)):
        if int(examples.y.max()) >= classes:
            raise SpecError(
                f"trainer.options.build: the network has {classes} classes, and {name} has a class "
                f"{int(examples.y.max())}"
            )
        if examples.y.ndim == 1 and int(examples.y.min()) < 0:
            raise SpecError(
                f"dataset: {name} has a class {int(examples.y.min())}: this trainer needs classes 0, 1, ..."
            )


def _generators(device: torch.device) -> list[torch.Tensor]:
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state()] if device.type == "cuda" else [])]


def _shown(found: object) -> str:
    return f"a tensor {list(found.shape)}" if isinstance(found, torch.Tensor) else f"a {type(found).__name__}"
