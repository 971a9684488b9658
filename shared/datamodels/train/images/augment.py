"""Augment images on their device: mirror them, move them, blank a square.

Everything random is drawn for a whole training before its first step. So a step only looks values up: it neither draws
nor synchronises with the host, and a GPU can capture it.
"""

from __future__ import annotations

import dataclasses

import torch

from datamodels.train.images.recipe import ImageRecipe


@dataclasses.dataclass(frozen=True)
class Draws:
    """The augmentation of each image of each step. All are int64[steps, rows], on one device.

    position     index of the image in the subset, 0 to k-1
    flip         1 if the image is mirrored, else 0
    down, right  pixels that the image is moved by; may be negative
    top, left    corner of the blank square; may be outside of the image by half of the square's side
    """

    position: torch.Tensor
    flip: torch.Tensor
    down: torch.Tensor
    right: torch.Tensor
    top: torch.Tensor
    left: torch.Tensor


def draw(
    recipe: ImageRecipe, members: int, steps: int, rows: int, size: tuple[int, int], generator: torch.Generator
) -> Draws:
    """Return the draws of a training, on the generator's device.

    members  images in the subset
    steps    of the training
    rows     images in each step
    size     height and width of images, in pixels
    """
    device = generator.device
    epochs = recipe.epochs

    def whole(low: int, high: int) -> torch.Tensor:
        return torch.randint(low, high + 1, (steps, rows), generator=generator, device=device)

    def cut(values: torch.Tensor) -> torch.Tensor:
        return values.reshape(-1)[: steps * rows].reshape(steps, rows)

    order = torch.rand((epochs, members), generator=generator, device=device).argsort(dim=1, stable=True)
    coin = torch.randint(0, 2, (epochs, members), generator=generator, device=device)
    if recipe.flip == "alternate":
        coin = (coin[0][order] + torch.arange(epochs, device=device)[:, None]) % 2
    flip = coin if recipe.flip != "none" else torch.zeros_like(coin)
    move, side = recipe.translate, recipe.cutout
    return Draws(
        cut(order),
        cut(flip),
        whole(-move, move),
        whole(-move, move),
        whole(-(side // 2), size[0] - 1 - side // 2),
        whole(-(side // 2), size[1] - 1 - side // 2),
    )


def gather(
    x: torch.Tensor, index: torch.Tensor, flip: torch.Tensor, down: torch.Tensor, right: torch.Tensor
) -> torch.Tensor:
    """Return chosen images, mirrored and moved, [rows, h, w, channels], by a single look-up.

    x                         [examples, h, w, channels]
    index, flip, down, right  int64[rows]; see Draws. Pixels from beyond a border are those reflected at it
    """
    _, height, width, _ = x.shape
    lines = _reflected(torch.arange(height, device=x.device) - down[:, None], height)
    columns = _reflected(torch.arange(width, device=x.device) - right[:, None], width)
    columns = torch.where(flip[:, None] == 1, width - 1 - columns, columns)
    return x[index[:, None, None], lines[:, :, None], columns[:, None, :]]


def kept(top: torch.Tensor, left: torch.Tensor, side: int, size: tuple[int, int]) -> torch.Tensor:
    """Return a mask bool[rows, h, w, 1] that is false in the square of `side` pixels at (top, left), int64[rows]."""
    line = torch.arange(size[0], device=top.device) - top[:, None]
    column = torch.arange(size[1], device=left.device) - left[:, None]
    inside = ((line >= 0) & (line < side))[:, :, None] & ((column >= 0) & (column < side))[:, None, :]
    return ~inside[..., None]


def _reflected(place: torch.Tensor, size: int) -> torch.Tensor:
    """Reflect positions beyond a border at the outermost pixel, which is not repeated."""
    place = place.abs()
    return torch.where(place >= size, 2 * (size - 1) - place, place)
