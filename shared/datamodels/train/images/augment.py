"""Images varied at random, on the device where they are: mirrored, moved, a square blanked.

Whatever is random is drawn for a whole training before its first step. A step then only looks up: no draw, and no
word to the host, is inside of it.
"""

from __future__ import annotations

import dataclasses

import torch

from datamodels.train.images.recipe import Recipe


@dataclasses.dataclass(frozen=True)
class Draws:
    """What is done to the images of each step; all of [steps, rows], on one device.

    position  int64; which member of the subset, 0 to k-1
    flip      int64; 1 where the image is mirrored
    down, right      int64; pixels it is moved by, may be negative
    top, left        int64; where the blank square begins, may be outside by half of its side
    """

    position: torch.Tensor
    flip: torch.Tensor
    down: torch.Tensor
    right: torch.Tensor
    top: torch.Tensor
    left: torch.Tensor


def draw(
    recipe: Recipe, members: int, steps: int, rows: int, size: tuple[int, int], generator: torch.Generator
) -> Draws:
    """Draws for a training on so many members, images of `size` pixels (height, width), on the generator's device."""
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
    """[rows, h, w, channels] of x [examples, h, w, channels]: chosen, mirrored and moved, by a single look-up.

    index, flip, down, right  int64[rows]. What is moved in at a border is the image reflected there.
    """
    _, height, width, _ = x.shape
    lines = _reflected(torch.arange(height, device=x.device) - down[:, None], height)
    columns = _reflected(torch.arange(width, device=x.device) - right[:, None], width)
    columns = torch.where(flip[:, None] == 1, width - 1 - columns, columns)
    return x[index[:, None, None], lines[:, :, None], columns[:, None, :]]


def kept(top: torch.Tensor, left: torch.Tensor, side: int, size: tuple[int, int]) -> torch.Tensor:
    """bool[rows, h, w, 1]: false inside the square of `side` pixels at (top, left) int64[rows]."""
    line = torch.arange(size[0], device=top.device) - top[:, None]
    column = torch.arange(size[1], device=left.device) - left[:, None]
    inside = ((line >= 0) & (line < side))[:, :, None] & ((column >= 0) & (column < side))[:, None, :]
    return ~inside[..., None]


def _reflected(place: torch.Tensor, size: int) -> torch.Tensor:
    """Places beyond a border, mirrored at the outermost pixel, which is not repeated."""
    place = place.abs()
    return torch.where(place >= size, 2 * (size - 1) - place, place)
