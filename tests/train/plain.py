"""The training in its simplest form, to compare with: plain tensors, automatic differentiation, no reused buffers."""

import dataclasses

import torch

from datamodels.train.images import augment
from datamodels.train.images.recipe import rates


def short(recipe, **changes):
    """Return a recipe for a few small images."""
    return dataclasses.replace(
        recipe, **{"epochs": 2, "batch_size": 6, "learning_rate": 0.1, "translate": 2, "cutout": 4} | changes
    )


def on_host(draws):
    return augment.Draws(*(getattr(draws, field.name).cpu() for field in dataclasses.fields(draws)))


def train(network, recipe, pool, subset, draws, size):
    """Train a network in float64 by Nesterov steps on the smoothed cross-entropy of augmented images.

    pool    images and labels on the host
    subset  int64[k], its members
    """
    velocity = [torch.zeros_like(p) for p in network.parameters()]
    count, rows = draws.position.shape
    labels = torch.eye(network.head.out_features, dtype=torch.float64)
    labels = labels * (1 - recipe.label_smoothing) + recipe.label_smoothing / len(labels)
    for step, rate in enumerate(rates(recipe, count).tolist()):
        chosen = subset[draws.position[step]]
        x = augment.gather(pool.x, chosen, draws.flip[step], draws.down[step], draws.right[step])
        keep = augment.kept(draws.top[step], draws.left[step], recipe.cutout, size)
        loss = -(labels[pool.y[chosen]] * network(x, keep).log_softmax(dim=1)).sum() / rows
        gradients = torch.autograd.grad(loss, list(network.parameters()))
        with torch.no_grad():
            for parameter, v, gradient in zip(network.parameters(), velocity, gradients, strict=True):
                full = gradient + recipe.weight_decay * parameter
                v.mul_(recipe.momentum).add_(full)
                parameter -= rate * (full + recipe.momentum * v)
