"""Train networks with one hidden layer, or none: so small that thousands are trained in a minute."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from datamodels.errors import SpecError
from datamodels.outputs import Output
from datamodels.run.dataset import Dataset, Targets, classes
from datamodels.train import outputs
from datamodels.train.options import check_counts
from datamodels.train.workloads import sgd
from datamodels.train.workloads.factors import FactoredGradients
from datamodels.train.workloads.replay import DenseReplay
from datamodels.train.workloads.sgd import SgdRecipe

TARGETS_AT_ONCE = 1024
"""Targets of one forward pass, which bounds its memory."""


class OneHidden:
    """The network features -> hidden, ReLU -> classes; an `sgd.Network`.

    Its matrices are [features + 1, hidden] and [classes, hidden + 1]: the layouts whose products ran fastest.

    `factors(weights, x, dz)` returns (inputs [r, rows, a], signals [r, rows, b]) for each layer. The gradient of one
    row's dz . logits by the layer's weights is the outer product of its inputs and its signals.

    `logits(weights, x)` returns the logits of one model, [rows, classes], for PyTorch to differentiate. There, all
    weights are matrices [inputs, outputs].
    """

    def __init__(self, features: int, hidden: int, classes: int):
        self.shapes = ((features + 1, hidden), (classes, hidden + 1))
        self.fan_in = (features, hidden)
        self._buffers: tuple[np.ndarray, ...] = ()

    def forward(self, weights: Sequence[np.ndarray], x: np.ndarray) -> np.ndarray:
        first, second = weights
        h, _, z = self._reserve(x, first, second)
        np.matmul(x, first, out=h[:, :, :-1])
        torch.from_numpy(h).relu_()
        return np.matmul(second, h.transpose(0, 2, 1), out=z)

    def backward(self, weights, x, dz, gradients) -> None:
        h, dh, _ = self._buffers
        np.matmul(dz, h, out=gradients[1])
        np.matmul(dz.transpose(0, 2, 1), weights[1], out=dh)
        back, hidden = torch.from_numpy(dh), torch.from_numpy(h)
        torch.ops.aten.threshold_backward.grad_input(back, hidden, 0, grad_input=back)
        np.matmul(x.transpose(0, 2, 1), dh[:, :, :-1], out=gradients[0])

    def logits(self, weights: Sequence[torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        first, second = weights
        hidden = torch.relu(x @ first)
        return hidden @ second[:-1] + second[-1]

    def factors(self, weights, x, dz) -> list[tuple[np.ndarray, np.ndarray]]:
        first, second = weights
        found = np.matmul(x, first)
        h = np.ones((*found.shape[:-1], found.shape[-1] + 1), dtype=found.dtype)
        np.maximum(found, 0, out=h[..., :-1])
        signals = np.swapaxes(dz, -1, -2)
        return [(x, np.matmul(signals, second[:, :, :-1]) * (found > 0)), (h, signals)]

    def _reserve(self, x, first, second) -> tuple[np.ndarray, ...]:
        """Return buffers h and dh, [r, rows, hidden + 1], the last column of h being 1, and z, [r, classes, rows]."""
        shape = (len(first), x.shape[-2], first.shape[2] + 1)
        if not self._buffers or self._buffers[0].shape != shape or self._buffers[0].dtype != x.dtype:
            h, dh = np.ones(shape, dtype=x.dtype), np.empty(shape, dtype=x.dtype)
            self._buffers = h, dh, np.empty((shape[0], second.shape[1], shape[1]), dtype=x.dtype)
        return self._buffers


class NoHidden:
    """Multinomial logistic regression, features -> classes; an `sgd.Network`. Its matrix is [classes, features + 1].

    `factors` and `logits` are those of OneHidden.
    """

    def __init__(self, features: int, classes: int):
        self.shapes = ((classes, features + 1),)
        self.fan_in = (features,)

    def forward(self, weights: Sequence[np.ndarray], x: np.ndarray) -> np.ndarray:
        return np.matmul(weights[0], np.swapaxes(x, -1, -2))

    def backward(self, weights, x, dz, gradients) -> None:
        np.matmul(dz, x, out=gradients[0])

    def logits(self, weights: Sequence[torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        return x @ weights[0]

    def factors(self, weights, x, dz) -> list[tuple[np.ndarray, np.ndarray]]:
        return [(x, np.swapaxes(dz, -1, -2))]


class Classifier:
    """Trains networks of one kind by `sgd`; a BatchTrainer. Models are their flat weights, float32[r, parameters].

    Its subclasses take these options:

    output          what is recorded: margin or loss
    models_at_once  models that are trained side by side, which is faster than one by one
    epochs          passes over the subset
    batch_size      examples in a minibatch
    learning_rate   learning rate of the first step; it falls linearly to 0
    momentum        Nesterov momentum, at least 0 and less than 1
    weight_decay    half of it times the squared weights is added to the loss; less than 1 / learning_rate
    """

    def __init__(
        self,
        dataset: Dataset,
        targets: Targets,
        *,
        network: Callable[[int, int], sgd.Network],
        output: str,
        models_at_once: int,
        recipe: SgdRecipe,
    ):
        self.models_at_once = models_at_once
        self.recipe = recipe
        self.output_of = outputs.choose(output, outputs.OF_LOGITS)
        self.classes = classes(dataset, targets)
        if dataset.missing:
            raise SpecError(f"dataset: {dataset.missing}; fill such values, or leave the examples out")
        self.x, self.y = sgd.with_bias(dataset.x.astype(np.float32)), dataset.y
        self.x_targets, self.y_targets = sgd.with_bias(targets.x.astype(np.float32)), targets.y
        self.network = network(self.x.shape[1] - 1, self.classes)

    @staticmethod
    def output(dataset: Dataset, *, output: str = "margin", **options: Any) -> Output:
        """Return what outputs mean."""
        return outputs.meaning(output, outputs.OF_LOGITS)

    def train_many(self, subsets: Sequence[np.ndarray], seeds: Sequence[int]) -> np.ndarray:
        return sgd.train(self.network, self.recipe, self.x, self.y, subsets, seeds)

    def checkpoints(self, subset: np.ndarray, seed: int) -> Iterator[tuple[float, np.ndarray]]:
        """Yield (mean learning rate, model) after each epoch of the training of one model; the last is the model."""
        return ((rate, models[0]) for rate, models in self.checkpoints_many(subset, [seed]))

    def checkpoints_many(self, subset: np.ndarray, seeds: Sequence[int]) -> Iterator[tuple[float, np.ndarray]]:
        """Yield (mean learning rate, models) after each epoch on one subset, up to the models of `train_many`."""
        return sgd.checkpoints(self.network, self.recipe, self.x, self.y, subset, seeds)

    def matrices(self, models: np.ndarray) -> list[np.ndarray]:
        """Return the weights of models, layer by layer, in the shapes of the network."""
        return sgd.matrices(self.network, models)

    def logits(self, models: np.ndarray) -> np.ndarray:
        """Return the logits of the targets, float32[r, n, classes]."""
        weights = self.matrices(models)
        logits = np.empty((len(models), len(self.y_targets), self.classes), dtype=models.dtype)
        with np.errstate(over="ignore", invalid="ignore"):
            for start in range(0, len(self.y_targets), TARGETS_AT_ONCE):
                x = self.x_targets[None, start : start + TARGETS_AT_ONCE]
                logits[:, start : start + TARGETS_AT_ONCE] = self.network.forward(weights, x).transpose(0, 2, 1)
        return logits

    def outputs_many(self, models: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
        """Return outputs, float32[r, n]; those of a model that diverged are not finite."""
        models = np.asarray(models)
        with np.errstate(over="ignore", invalid="ignore"):
            return self.output_of(self.logits(models), self.y_targets)


class Dense(Classifier):
    """Trains networks of dense layers, whose gradients are known as products; see `train.gradients`."""

    def gradients(self, model: np.ndarray, layers: Sequence[str] = ()) -> FactoredGradients:
        """Return the gradients of a model by all its weights, or by those of some layers: "0" is the first."""
        return FactoredGradients(self, model, layers)

    def replay(self, subset: np.ndarray, seed: int) -> DenseReplay:
        """Return the training of one model, step by step; see `train.gradients.replay`."""
        return DenseReplay(self.network, self.recipe, self.x, self.y, subset, seed)


class MLP(Dense):
    """Trains networks with one hidden layer.

    Options besides those of Classifier:

    hidden  units of the hidden layer
    """

    def __init__(
        self,
        dataset: Dataset,
        targets: Targets,
        *,
        output: str = "margin",
        hidden: int = 64,
        models_at_once: int = 50,
        epochs: int = SgdRecipe.epochs,
        batch_size: int = SgdRecipe.batch_size,
        learning_rate: float = SgdRecipe.learning_rate,
        momentum: float = SgdRecipe.momentum,
        weight_decay: float = SgdRecipe.weight_decay,
    ):
        check_counts(hidden=hidden)

        def network(features: int, classes: int) -> OneHidden:
            return OneHidden(features, hidden, classes)

        recipe = SgdRecipe(epochs, batch_size, learning_rate, momentum, weight_decay)
        super().__init__(dataset, targets, network=network, output=output, models_at_once=models_at_once, recipe=recipe)


class Softmax(Dense):
    """Trains multinomial logistic regressions."""

    def __init__(
        self,
        dataset: Dataset,
        targets: Targets,
        *,
        output: str = "margin",
        models_at_once: int = 50,
        epochs: int = SgdRecipe.epochs,
        batch_size: int = SgdRecipe.batch_size,
        learning_rate: float = SgdRecipe.learning_rate,
        momentum: float = SgdRecipe.momentum,
        weight_decay: float = SgdRecipe.weight_decay,
    ):
        recipe = SgdRecipe(epochs, batch_size, learning_rate, momentum, weight_decay)
        super().__init__(
            dataset, targets, network=NoHidden, output=output, models_at_once=models_at_once, recipe=recipe
        )
