"""Train a small convolutional network for small images: 3 x 3 convolution, 2 x 2 max pooling, one hidden layer.

`sgd` trains many such networks at once by matrix products. The patches of each image are cut out once, for all models.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch

from datamodels.errors import SpecError
from datamodels.run.dataset import Dataset, Targets
from datamodels.train.options import check_counts
from datamodels.train.workloads.mlp import Classifier
from datamodels.train.workloads.sgd import SgdRecipe

KERNEL, POOL = 3, 2
MAX_PATCH_BYTES = 2**30
"""The most memory of the patches of all images; they take 9 times the memory of the images."""


def patches(x: np.ndarray) -> np.ndarray:
    """Return the patches of images [examples, h, w, channels], float32[examples, 4 * cells * (9 * channels + 1)].

    A cell is one of the 2 x 2 squares that max pooling reduces. For each of its 4 positions, and for each cell, row by
    row, there is the patch and a 1. Rows and columns that do not fill a cell are left out.
    """
    rows, columns = ((side - KERNEL + 1) // POOL for side in x.shape[1:3])
    cut = x[:, : rows * POOL + KERNEL - 1, : columns * POOL + KERNEL - 1]
    views = np.lib.stride_tricks.sliding_window_view(cut, (KERNEL, KERNEL), axis=(1, 2))
    cells = views.reshape(len(x), rows, POOL, columns, POOL, -1).transpose(0, 2, 4, 1, 3, 5)
    flat = cells.reshape(len(x), POOL * POOL * rows * columns, -1)
    return np.concatenate([flat, np.ones((*flat.shape[:2], 1), flat.dtype)], axis=2).reshape(len(x), -1)


class Convolution:
    """The network, on patches; an `sgd.Network`.

    Its matrices are [patch + 1, filters], [cells * filters + 1, hidden] and [classes, hidden + 1].
    """

    def __init__(self, cells: int, patch: int, filters: int, hidden: int, classes: int):
        self.cells, self.filters = cells, filters
        self.shapes = ((patch + 1, filters), (cells * filters + 1, hidden), (classes, hidden + 1))
        self.fan_in = (patch, cells * filters, hidden)
        self._kept: tuple = ()

    def forward(self, weights: Sequence[np.ndarray], x: np.ndarray) -> np.ndarray:
        first, second, third = weights
        models, rows, width = len(first), x.shape[-2], self.cells * self.filters
        cut = x.reshape(len(x), rows * POOL * POOL * self.cells, -1)
        found = torch.from_numpy(np.matmul(cut, first)).view(models, rows, POOL * POOL, width)
        largest, which = found.max(dim=2)
        pooled, hidden = (np.ones((models, rows, size + 1), dtype=x.dtype) for size in (width, second.shape[2]))
        torch.from_numpy(pooled)[..., :-1] = largest.relu_()
        np.matmul(pooled, second, out=hidden[..., :-1])
        torch.from_numpy(hidden).relu_()
        self._kept = cut, which, pooled, hidden
        return np.ascontiguousarray(np.matmul(third, hidden.transpose(0, 2, 1)))

    def backward(self, weights, x, dz, gradients) -> None:
        cut, which, pooled, hidden = self._kept
        np.matmul(dz, hidden, out=gradients[2])
        back = np.matmul(dz.transpose(0, 2, 1), weights[2][:, :, :-1])
        back *= hidden[..., :-1] > 0
        np.matmul(pooled.transpose(0, 2, 1), back, out=gradients[1])
        back = np.matmul(back, weights[1][:, :-1].transpose(0, 2, 1))
        back *= pooled[..., :-1] > 0
        spread = torch.zeros((*back.shape[:2], POOL * POOL, back.shape[2]), dtype=torch.from_numpy(back).dtype)
        spread.scatter_(2, which[:, :, None], torch.from_numpy(back)[:, :, None])
        np.matmul(cut.transpose(0, 2, 1), spread.numpy().reshape(len(back), -1, self.filters), out=gradients[0])


class CNN(Classifier):
    """Trains small convolutional networks on data sets with an `image_shape`.

    Options besides those of Classifier:

    filters  filters of the convolution
    hidden   units of the hidden layer

    A CNN takes 16 times the work of an MLP and has noisier outputs, so it is rarely worth it;
    services/trainer/README.md has the figures.
    """

    def __init__(
        self,
        dataset: Dataset,
        targets: Targets,
        *,
        output: str = "margin",
        filters: int = 16,
        hidden: int = 64,
        models_at_once: int = 25,
        epochs: int = SgdRecipe.epochs,
        batch_size: int = SgdRecipe.batch_size,
        learning_rate: float = SgdRecipe.learning_rate,
        momentum: float = SgdRecipe.momentum,
        weight_decay: float = SgdRecipe.weight_decay,
    ):
        check_counts(filters=filters, hidden=hidden)
        shape = dataset.image_shape or ()
        if len(shape) not in (2, 3) or min(shape[:2]) < KERNEL + POOL - 1:
            raise SpecError(
                f"dataset: image_shape is {dataset.image_shape}: this trainer needs images of 4 x 4 pixels or more"
            )
        height, width, channels = (*shape, 1)[:3]
        cells = ((height - KERNEL + 1) // POOL) * ((width - KERNEL + 1) // POOL)
        patch = KERNEL * KERNEL * channels
        size = (len(dataset.x) + len(targets.x)) * POOL * POOL * cells * (patch + 1) * 4
        if size > MAX_PATCH_BYTES:
            raise SpecError(
                f"dataset: its patches take {size / 2**30:.1f} GiB, at most 1 allowed; this trainer is for small data"
            )

        def cut(x: np.ndarray) -> np.ndarray:
            pictures = np.asarray(x, dtype=np.float32).reshape(-1, height, width, channels)
            return patches(pictures)[:, :-1]  # without the last column, of ones: `sgd.with_bias` adds it

        def network(features: int, classes: int) -> Convolution:
            return Convolution(cells, patch, filters, hidden, classes)

        super().__init__(
            dataclasses.replace(dataset, x=cut(dataset.x), x_test=cut(dataset.x_test)),
            dataclasses.replace(targets, x=cut(targets.x)),
            network=network,
            output=output,
            models_at_once=models_at_once,
            recipe=SgdRecipe(epochs, batch_size, learning_rate, momentum, weight_decay),
        )
