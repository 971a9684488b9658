"""Differentiate the networks for images; see `train.gradients`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional

from datamodels.train.gradients.autograd import Batch, Functions, Model, NetworkGradients, class_margin, class_odds
from datamodels.train.images.networks import Network


def of_network(
    network: Network,
    model: torch.Tensor,
    pool: tuple[Batch, int],
    targets: tuple[Batch, int],
    *,
    label_smoothing: float,
    weight_decay: float,
    mirrored: bool,
    margins: bool,
    layers: Sequence[str],
) -> NetworkGradients:
    """Return the gradients of a model without mixed precision. Images count as they are, without augmentation.

    network   all its tensors are views of one vector
    model     the numbers of such a vector
    pool      (what returns minibatches, number of examples); also `targets`
    mirrored  outputs are those of the mean logits of an image and its mirror image
    margins   whether the output is the margin; otherwise it is the loss
    """
    network.eval()

    def predictions(named: Model, x: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(network, named, (x,))

    def loss_of(logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(logits, y, reduction="none", label_smoothing=label_smoothing)

    def outputs(named: Model, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        logits = predictions(named, x)
        if mirrored:
            logits = (logits + predictions(named, x.flip(2))) / 2
        return class_margin(logits, y) if margins else functional.cross_entropy(logits, y, reduction="none")

    functions = Functions(
        network=network,
        trained=[name for name, _ in network.named_parameters()],
        losses=lambda named, x, y: loss_of(predictions(named, x), y),
        outputs=outputs,
        predictions=predictions,
        loss_of=loss_of,
        odds=class_odds,
        slopes=lambda logits, y: torch.sigmoid(-class_odds(logits, y)),
        pool=pool[0],
        targets=targets[0],
        examples=pool[1],
        target_count=targets[1],
        weight_decay=weight_decay,
    )
    return NetworkGradients(functions, tensors(network, model), layers)


def tensors(network: Network, model: torch.Tensor) -> Model:
    """Return the tensors of a model by name, as views of it."""
    named = [*network.named_parameters(), *network.named_buffers()]
    return {name: model.as_strided(each.shape, each.stride(), each.storage_offset()) for name, each in named}
