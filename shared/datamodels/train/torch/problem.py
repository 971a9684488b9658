"""Define losses and outputs: what a network is trained for, and the one number that is recorded of a model on a target.

All functions here are differentiable, and work under the transforms of `torch.func`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from datamodels.errors import InputError, SpecError
from datamodels.train.gradients.autograd import class_margin, class_odds
from datamodels.train.texts import IGNORED
from datamodels.train.torch import lightning
from datamodels.train.torch.tensors import Tree, call, row

Function = Callable[[Any, torch.Tensor], torch.Tensor]
"""Takes what the network returns for a minibatch, and y [rows, ...]. Returns one number per example, [rows]. A loss may
also return the mean of them, [], as the losses of PyTorch do."""


def predictions(returned: Any) -> torch.Tensor:
    """Return the logits or predictions in what a network returns: its attribute `logits`, its first part, or itself."""
    if isinstance(returned, torch.Tensor):
        return returned
    found = getattr(returned, "logits", None)
    if found is None and isinstance(returned, tuple | list) and returned:
        found = returned[0]
    if not isinstance(found, torch.Tensor):
        raise SpecError(
            f"trainer.options.build: the network returns a {type(returned).__name__} without logits; return a tensor, "
            "or give your own loss and output"
        )
    return found


def cross_entropy(returned: Any, y: torch.Tensor) -> torch.Tensor:
    """Return the cross-entropy [rows], in nats; if there are several positions, the mean over those with a label.

    returned  logits [rows, classes] or [rows, ..., classes]
    y         int64[rows] or [rows, ...]; positions of class -100 are left out
    """
    logits = predictions(returned)
    if y.dtype.is_floating_point:
        raise SpecError("trainer.options.loss = 'cross_entropy': y is not a class; for numbers use squared_error")
    if logits.shape[:-1] != y.shape:
        must = f"must be [{', '.join(['rows', *map(str, y.shape[1:]), 'classes'])}]"
        raise SpecError(
            f"trainer.options.loss = 'cross_entropy': logits are {list(logits.shape)} for y {list(y.shape)}: {must}"
            + _other_layout(logits, y)
        )
    found = functional.cross_entropy(logits.movedim(-1, 1), y, reduction="none", ignore_index=IGNORED)
    if found.ndim == 1:
        return found
    return found.flatten(1).sum(dim=1) / (y != IGNORED).flatten(1).sum(dim=1).clamp_min(1)


def log_likelihood(returned: Any, y: torch.Tensor) -> torch.Tensor:
    """Return the log probability of y [rows], in nats; of several positions, the mean over those with a label.

    Takes what `cross_entropy` takes. If y has the tokens of a span, and -100 elsewhere, it is that of the span.
    """
    return -cross_entropy(returned, y)


def binary_cross_entropy(returned: Any, y: torch.Tensor) -> torch.Tensor:
    """Return the cross-entropy [rows] of the logit of class 1, in nats; the mean over labels if there are several.

    returned  logits [rows], [rows, 1] or, with several labels per example, [rows, labels]
    y         [rows] or [rows, labels]; 0 or 1
    """
    logits = _like(predictions(returned), y, "binary_cross_entropy")
    found = functional.binary_cross_entropy_with_logits(logits, y.to(logits.dtype), reduction="none")
    return found.reshape(len(y), -1).mean(dim=1)


def squared_error(returned: Any, y: torch.Tensor) -> torch.Tensor:
    """Return the squared error [rows] of predictions with as many numbers as y; the mean if there are several."""
    predicted = _like(predictions(returned), y, "squared_error")
    return (predicted - y.to(predicted.dtype)).square().reshape(len(y), -1).mean(dim=1)


def margin(returned: Any, y: torch.Tensor) -> torch.Tensor:
    """Return the logit of the right class less the largest other one, [rows]; see `outputs.correct_class_margin`.

    returned  logits [rows, classes], or [rows] or [rows, 1] of class 1 against class 0
    y         int64[rows]
    """
    logits = predictions(returned)
    if logits.numel() == y.numel():
        return logits.reshape(y.shape) * (2 * y - 1)
    if logits.ndim != 2 or y.ndim != 1:
        raise SpecError(
            f"trainer.options.output = 'margin': logits are {list(logits.shape)} for y {list(y.shape)}: must be "
            "[rows, classes] for a class per example; choose the output loss, or your own"
        )
    return class_margin(logits, y)


def log_odds(returned: Any, y: torch.Tensor) -> torch.Tensor:
    """Return log(p / (1 - p)) for the probability p of y, [rows]. Of several positions, p is the geometric mean.

    returned  logits as of `margin`, or with several positions or labels
    """
    logits = predictions(returned)
    if logits.numel() == y.numel() and y.numel() == len(y):
        return logits.reshape(-1) * (2 * y.reshape(-1) - 1)
    if logits.ndim == 2 and y.ndim == 1:
        return class_odds(logits, y)
    several = binary_cross_entropy if logits.shape == y.shape else cross_entropy
    loss = several(logits, y).clamp_min(1e-6)
    return -loss - torch.log(-torch.expm1(-loss))


def only_prediction(returned: Any, y: torch.Tensor) -> torch.Tensor:
    """Return the one prediction of each example, [rows]. Raises InputError if there are several."""
    predicted = predictions(returned)
    if predicted.numel() != len(y):
        raise InputError("trainer.options.build: the network predicts several numbers per example; TRAK needs one")
    return predicted.reshape(-1)


LOSSES: dict[str, Function] = {
    "cross_entropy": cross_entropy,
    "binary_cross_entropy": binary_cross_entropy,
    "squared_error": squared_error,
}
"""Losses by their names in `trainer.options.loss`."""
OUTPUTS: dict[str, Function] = {
    "margin": margin,
    "squared_error": squared_error,
    "log_likelihood": log_likelihood,
}
"""Outputs by their names in `trainer.options.output`, beside `loss`."""
OF_CLASSES = (cross_entropy, binary_cross_entropy)
"""Losses of classifiers, whose default output is the margin."""


def _other_layout(logits: torch.Tensor, y: torch.Tensor) -> str:
    """Say what to do about logits of another shape than `cross_entropy` takes; empty if nothing is known."""
    if logits.ndim > 2 and logits.shape[:1] + logits.shape[2:] == y.shape:  # as the losses of PyTorch take them
        return "; put the classes last: logits.movedim(1, -1)"
    if logits.shape in (y.shape, (*y.shape, 1)) and y.ndim == 1:
        return " for a class per example; for a single logit use binary_cross_entropy"
    if y.ndim > 1:
        return "; for several labels of 0 and 1 per example use binary_cross_entropy" if logits.shape == y.shape else ""
    return ""


def _like(predicted: torch.Tensor, y: torch.Tensor, name: str) -> torch.Tensor:
    """Return predictions in the shape of y. PyTorch would broadcast [rows, 1] and [rows] to [rows, rows]."""
    if predicted.numel() != y.numel():
        raise SpecError(
            f"trainer.options.loss = {name!r}: the network gives {list(predicted.shape)} for y {list(y.shape)}: "
            "must have as many numbers"
        )
    # Of the half precisions, the differences would keep few digits.
    return predicted.reshape(y.shape).to(torch.promote_types(predicted.dtype, torch.float32))


class Problem:
    """The loss and the output of networks on minibatches.

    loss    a Function; None if networks have a `training_step`, as Lightning modules do
    output  a Function; None for the loss
    """

    def __init__(self, loss: Function | None, output: Function | None):
        self._loss, self._output = loss, output

    def loss(self, network: nn.Module, x: Tree, y: torch.Tensor) -> torch.Tensor:
        """Return the mean loss of a minibatch, []."""
        return self.of(network, x, y).mean()

    def losses(self, network: nn.Module, x: Tree, y: torch.Tensor) -> torch.Tensor:
        """Return the loss of each example of a minibatch, [rows].

        If the user's loss is a mean, it is computed for one example at a time.
        """
        found = self.of(network, x, y)
        if found.ndim or len(y) == 1:
            return found.reshape(len(y))
        return torch.cat([self.losses(network, *row(number, x, y)) for number in range(len(y))])

    def outputs(self, network: nn.Module, x: Tree, y: torch.Tensor) -> torch.Tensor:
        """Return the output of each example of a minibatch, [rows]."""
        if self._output is None:
            return self.losses(network, x, y)
        return self._output(call(network, x), y)

    def predictions(self, network: nn.Module, x: Tree) -> torch.Tensor:
        """Return the logits or predictions for a minibatch, [rows, ...]."""
        return predictions(call(network, x))

    @property
    def of_predictions(self) -> Function | None:
        """The loss as a function of logits or predictions and y; None if networks compute it themselves."""
        return self._loss

    @property
    def odds(self) -> Function | None:
        """The function `log_odds` of a classifier, `predictions` of a regression; None of other losses."""
        if self._loss in OF_CLASSES or self._output is margin:
            return log_odds
        return only_prediction if self._loss is squared_error else None

    def labelled(self, y: torch.Tensor) -> torch.Tensor | None:
        """Return which positions of each example have a label, bool[rows, ...]; None if there are no positions."""
        return y != IGNORED if self._loss is cross_entropy and y.ndim > 1 else None

    def factors(self, predicted: torch.Tensor, y: torch.Tensor, count: int) -> torch.Tensor | None:
        """Return random factors of the curvature of each loss, [rows, predictions, count]; None if its loss is no sum.

        The expectation of their outer products' sum is the second derivatives of the cross-entropy by the logits of
        all positions: diag(p) - p p' for the probabilities p of a labelled position, divided by their number. If z is
        standard normal, sqrt(p) z - p (sqrt(p) . z) has that covariance.
        """
        there = self.labelled(y)
        if there is None:
            return None
        p = predicted.float().softmax(dim=-1)
        generator = torch.Generator().manual_seed(0)
        z = torch.randn((count, *p.shape), generator=generator).to(p.device)
        z *= p.sqrt()
        mixed = z - p * z.sum(dim=-1, keepdim=True)
        share = there / there.flatten(1).sum(dim=1).clamp_min(1).view(-1, *(1 for _ in y.shape[1:]))
        return (mixed * (share / count).sqrt()[..., None]).flatten(2).permute(1, 2, 0)

    def slopes(self, predicted: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Return by how much the loss falls as the values of `odds` rise, [rows]."""
        if self.odds is log_odds:
            return torch.sigmoid(-log_odds(predicted, y))
        return 2 * (y.reshape(-1).to(predicted.dtype) - only_prediction(predicted, y))

    @property
    def records_loss(self) -> bool:
        """Whether the output is the loss, and the loss is the user's own."""
        return self._output is None and self._loss not in LOSSES.values()

    @property
    def takes_logits(self) -> str:
        """The option, `loss` or `output`, whose function makes probabilities of logits; empty if neither does."""
        if self._loss in OF_CLASSES:
            return "loss"
        return "output" if self._output in (margin, log_likelihood) else ""

    @property
    def records_margin(self) -> bool:
        """Whether the output is the margin."""
        return self._output is margin

    def ignores(self, label: int) -> bool:
        """Return whether positions with this label are left out."""
        return label == IGNORED and self._loss not in (binary_cross_entropy, squared_error)

    def fault_of(self, y: torch.Tensor) -> str:
        """Return what is wrong with labels that are floating-point numbers, and should be classes; empty if nothing."""
        if self._loss is cross_entropy:
            return "is no class, as cross_entropy needs; for numbers use squared_error, and for classes integers"
        odd = y[(y != 0) & (y != 1)]
        if self._output is not margin:  # probabilities, as labels that several people gave
            odd = odd[~((odd > 0) & (odd < 1))]
        if not len(odd):
            return ""
        must = (
            "must be 0 or 1, for margins; for probabilities use the output loss"
            if self._output is margin
            else "must be 0 to 1"
        )
        return f"has {odd[0].item():g}: {must}; for other numbers use the loss squared_error"

    def classes(self, network: nn.Module, x: Tree) -> int | None:
        """Return the number of classes that y may have: 2 for a single logit, None if y need not be a class."""
        if self._loss not in OF_CLASSES and self._output is not margin:
            return None
        logits = predictions(call(network, x))
        several = self._loss is cross_entropy or (logits.ndim == 2 and logits.shape[1] > 1)
        return logits.shape[-1] if several else 2

    def of(self, network: nn.Module, x: Tree, y: torch.Tensor) -> torch.Tensor:
        """Return the losses [rows] or the mean loss [], whichever the user's loss gives."""
        if self._loss is None:
            return lightning.loss_of(network, x, y)
        return self._loss(call(network, x), y)
