"""Compute gradients of single examples with respect to the weights of a trained network, kept as factors.

The gradient of an example with respect to a dense layer is an outer product, inputs x signals. Dot products of
gradients follow from dot products of the factors ("ghost" dot products: Goodfellow 2015, arXiv:1510.01799). So full
gradients, which are as long as the network has weights, are rarely needed.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from datamodels.errors import InputError
from datamodels.train.gradients import Gradients
from datamodels.train.outputs import SLOPES, loss_slope, softmax

TARGETS_AT_ONCE = 64
"""Targets in a block of products with vectors, to bound memory."""


@dataclasses.dataclass(frozen=True, eq=False)
class Layer:
    """Gradients with respect to the weights [a, b] of one layer.

    inputs   float32[e, a]
    signals  float32[e, b]; or [c, e, b] for c functions of each example
    """

    inputs: np.ndarray
    signals: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        return self.inputs.shape[-1], self.signals.shape[-1]


class FactoredGradients(Gradients):
    """Gradients of one model of a `workloads.mlp.Classifier`, each computed on first use.

    trainer  a trainer whose network has `factors`
    model    float32[parameters]
    layers   numbers of layers, such as "0"; by default all. Raises InputError for others
    """

    def __init__(self, trainer: Any, model: np.ndarray, layers: Sequence[str] = ()):
        self._trainer, self._model = trainer, model
        self._weights = trainer.matrices(model[None])
        names = [str(number) for number in range(len(self._weights))]
        unknown = [name for name in layers if name not in names]
        if unknown:
            raise InputError(f"layers = {unknown[0]!r}: must be of {', '.join(names)}")
        self._chosen = [number for number, name in enumerate(names) if name in layers or not layers]
        self.parameters = sum(self._weights[number][0].size for number in self._chosen)
        self.examples, self.targets = len(trainer.y), len(trainer.y_targets)
        self.weight_decay = trainer.recipe.weight_decay

    def of_losses(self, rows: slice) -> np.ndarray:
        return dense(self.losses, rows)

    def of_outputs(self, rows: slice) -> np.ndarray:
        return dense(self.outputs, rows)

    def of_target_losses(self, rows: slice) -> np.ndarray:
        return dense(self.target_losses, rows)

    def of_odds(self, rows: slice) -> np.ndarray:
        return dense(self.odds, rows)

    def odds_slopes(self) -> np.ndarray:
        return 1 - self.probabilities[np.arange(len(self._trainer.y)), self._trainer.y]

    def of_curvature(self, rows: slice) -> np.ndarray:
        p = self.probabilities[rows]
        parts = []
        for layer in self.classes:
            signals = layer.signals[:, rows] - np.einsum("ec,ceb->eb", p, layer.signals[:, rows])
            signals *= np.sqrt(p.T)[:, :, None]
            parts.append(np.einsum("ea,ceb->ecab", layer.inputs[rows], signals).reshape(*p.shape, -1))
        return np.concatenate(parts, axis=2)

    def last(self) -> FactoredGradients:
        return FactoredGradients(self._trainer, self._model, [str(len(self._weights) - 1)])

    def representations(self) -> tuple[np.ndarray, np.ndarray]:
        last = self.last()
        return last.losses[-1].inputs, last.outputs[-1].inputs

    @functools.cached_property
    def probabilities(self) -> np.ndarray:
        """Probabilities of the classes for the pool, float32[e, classes]."""
        return softmax(self._logits(self._trainer.x))

    @functools.cached_property
    def losses(self) -> list[Layer]:
        """Gradients of the cross-entropy of each example of the pool."""
        slope = loss_slope(self._logits(self._trainer.x), self._trainer.y)
        return self._layers(self._trainer.x, slope)

    @functools.cached_property
    def outputs(self) -> list[Layer]:
        """Gradients of the output of each target."""
        trainer = self._trainer
        return self._layers(
            trainer.x_targets, SLOPES[trainer.output_of](self._logits(trainer.x_targets), trainer.y_targets)
        )

    @functools.cached_property
    def target_losses(self) -> list[Layer]:
        """Gradients of the cross-entropy of each target."""
        trainer, x = self._trainer, self._trainer.x_targets
        return self._layers(x, loss_slope(self._logits(x), trainer.y_targets))

    @functools.cached_property
    def odds(self) -> list[Layer]:
        """Gradients of log(p / (1 - p)) of the right class, for each example of the pool."""
        y, p = self._trainer.y, self.probabilities
        right = y[:, None] == np.arange(p.shape[1])
        others = np.where(right, 0, p)
        total = np.maximum(others.sum(axis=1, keepdims=True), np.finfo(p.dtype).tiny)
        return self._layers(self._trainer.x, right - others / total)

    @functools.cached_property
    def classes(self) -> list[Layer]:
        """Gradients of the logit of each class, for each example of the pool; signals are [classes, e, b]."""
        count = self.probabilities.shape[1]
        slopes = np.eye(count, dtype=np.float32)[:, :, None].repeat(len(self._trainer.x), axis=2)
        found = self._trainer.network.factors(self._weights, self._trainer.x[None], slopes)
        return [Layer(found[i][0][0], np.ascontiguousarray(found[i][1])) for i in self._chosen]

    def _logits(self, x: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(self._trainer.network.forward(self._weights, x[None])[0].T)

    def _layers(self, x: np.ndarray, slopes: np.ndarray) -> list[Layer]:
        dz = np.ascontiguousarray(slopes.T[None], dtype=np.float32)
        found = self._trainer.network.factors(self._weights, x[None], dz)
        return [Layer(found[i][0][0], found[i][1][0]) for i in self._chosen]


def dots(a: Sequence[Layer], b: Sequence[Layer]) -> np.ndarray:
    """Return float32[e_a, e_b]: dot products of gradients."""
    return sum((x.inputs @ y.inputs.T) * (x.signals @ y.signals.T) for x, y in zip(a, b, strict=True))


def dense(layers: Sequence[Layer], rows: slice = slice(None)) -> np.ndarray:
    """Return float32[rows, parameters]: the full gradients of some examples, layer after layer."""
    parts = [np.einsum("ea,eb->eab", layer.inputs[rows], layer.signals[rows]) for layer in layers]
    return np.hstack([part.reshape(len(part), -1) for part in parts])


def split(vectors: np.ndarray, layers: Sequence[Layer]) -> list[np.ndarray]:
    """Return views [t, a, b] of vectors [t, parameters], one for each layer."""
    views, start = [], 0
    for a, b in (layer.shape for layer in layers):
        views.append(vectors[:, start : start + a * b].reshape(len(vectors), a, b))
        start += a * b
    return views


def products(vectors: np.ndarray, layers: Sequence[Layer]) -> np.ndarray:
    """Return float32[t, e]: dot products of vectors [t, parameters] and gradients; [t, c, e] for c per example."""
    shape = (len(vectors), *layers[0].signals.shape[:-1])
    found = np.empty(shape, dtype=vectors.dtype)
    for start in range(0, len(vectors), TARGETS_AT_ONCE):
        some = slice(start, start + TARGETS_AT_ONCE)
        found[some] = sum(
            np.einsum("teb,...eb->t...e", layer.inputs @ part, layer.signals, optimize=True)
            for layer, part in zip(layers, split(vectors[some], layers), strict=True)
        )
    return found


def combined(scales: np.ndarray, layers: Sequence[Layer]) -> np.ndarray:
    """Return float32[t, parameters]: sums of gradients scaled by [t, e]; or by [t, c, e] for c per example."""
    found = np.empty((len(scales), sum(a * b for a, b in (layer.shape for layer in layers))), dtype=scales.dtype)
    for start in range(0, len(scales), TARGETS_AT_ONCE):
        some = slice(start, start + TARGETS_AT_ONCE)
        for layer, part in zip(layers, split(found[some], layers), strict=True):
            back = np.einsum("t...e,...eb->teb", scales[some], layer.signals, optimize=True)
            np.matmul(layer.inputs.T, back, out=part)
    return found
