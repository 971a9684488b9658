"""What is recorded of a model on a target: one float.

Classifiers give logits, regressors give predictions; each output says which of the two it is made from.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from datamodels.errors import SpecError


def correct_class_margin(logits: np.ndarray, y: np.ndarray) -> np.ndarray:
    """float[..., n]: the logit of the right class less the largest other one (Ilyas et al. 2022, section 2).

    logits  float[..., n, classes], classes >= 2
    y       int[n]
    """
    right = np.expand_dims(y, -1) == np.arange(logits.shape[-1])
    others = np.where(right, -np.inf, logits).max(axis=-1)
    return _of_class(logits, y) - others


def loss(logits: np.ndarray, y: np.ndarray) -> np.ndarray:
    """float[..., n]: cross-entropy in nats of the softmax of logits float[..., n, classes] against y int[n]."""
    top = logits.max(axis=-1, keepdims=True)
    total = np.log(np.exp(logits - top).sum(axis=-1)) + top[..., 0]
    return total - _of_class(logits, y)


def squared_error(predictions: np.ndarray, y: np.ndarray) -> np.ndarray:
    """float[..., n]: the square of predictions float[..., n] less y float[n]."""
    return np.square(predictions - y)


def margin_slope(logits: np.ndarray, y: np.ndarray) -> np.ndarray:
    """float[..., n, classes]: gradient of `correct_class_margin` by the logits; where two tie, the first is largest."""
    right = np.expand_dims(y, -1) == np.arange(logits.shape[-1])
    others = np.where(right, -np.inf, logits).argmax(axis=-1)
    return right.astype(logits.dtype) - (np.expand_dims(others, -1) == np.arange(logits.shape[-1]))


def loss_slope(logits: np.ndarray, y: np.ndarray) -> np.ndarray:
    """float[..., n, classes]: gradient of `loss` by the logits."""
    return softmax(logits) - (np.expand_dims(y, -1) == np.arange(logits.shape[-1]))


def softmax(logits: np.ndarray) -> np.ndarray:
    """float[..., classes]: probabilities."""
    grown = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return grown / grown.sum(axis=-1, keepdims=True)


def _of_class(logits: np.ndarray, y: np.ndarray) -> np.ndarray:
    return logits[..., np.arange(len(y)), y]


OF_LOGITS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {"margin": correct_class_margin, "loss": loss}
"""Outputs of classifiers, by their name in `trainer.options.output`."""

SLOPES: dict[Callable, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    correct_class_margin: margin_slope,
    loss: loss_slope,
}
"""Gradients of those by the logits."""

OF_PREDICTIONS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {"squared_error": squared_error}
"""Outputs of regressors, likewise."""


def choose(name: str, allowed: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]]):
    """The output of that name. Raises SpecError listing those allowed."""
    if name not in allowed:
        raise SpecError(f"trainer.options.output = {name!r}: must be {' or '.join(sorted(allowed))} for this trainer")
    return allowed[name]
