"""Compute outputs: the number that is recorded for each model and target.

Outputs of classifiers are computed from logits, outputs of regressors from predictions.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from datamodels.errors import SpecError
from datamodels.outputs import KNOWN, Output


def correct_class_margin(logits: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the logit of the right class less the largest other one, float[..., n] (Ilyas et al. 2022, section 2).

    logits  float[..., n, classes], classes >= 2
    y       int[n]
    """
    right = np.expand_dims(y, -1) == np.arange(logits.shape[-1])
    others = np.where(right, -np.inf, logits).max(axis=-1)
    return _of_class(logits, y) - others


def loss(logits: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the cross-entropy of logits float[..., n, classes] against y int[n], float[..., n], in nats."""
    top = logits.max(axis=-1, keepdims=True)
    total = np.log(np.exp(logits - top).sum(axis=-1)) + top[..., 0]
    return total - _of_class(logits, y)


def squared_error(predictions: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the square of predictions float[..., n] less y float[n], float[..., n]."""
    with np.errstate(over="ignore"):  # a model with such an output counts as failed
        return np.square(predictions - y)


def prediction(predictions: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the predictions, float[..., n], as they are."""
    return predictions


def pinball(predictions: np.ndarray, y: np.ndarray, *, quantile: float) -> np.ndarray:
    """Return the pinball loss of predicted quantiles float[..., n] of y float[n], float[..., n].

    Predictions that are too low cost `quantile` for each unit, and those that are too high 1 - quantile (Koenker and
    Bassett 1978).
    """
    short = y - predictions
    return np.maximum(quantile * short, (quantile - 1) * short)


def margin_slope(logits: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the gradient of `correct_class_margin` by the logits, float[..., n, classes].

    If several other classes share the largest logit, the first of them counts.
    """
    right = np.expand_dims(y, -1) == np.arange(logits.shape[-1])
    others = np.where(right, -np.inf, logits).argmax(axis=-1)
    return right.astype(logits.dtype) - (np.expand_dims(others, -1) == np.arange(logits.shape[-1]))


def loss_slope(logits: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the gradient of `loss` by the logits, float[..., n, classes]."""
    return softmax(logits) - (np.expand_dims(y, -1) == np.arange(logits.shape[-1]))


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return probabilities, float[..., classes], of logits."""
    grown = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return grown / grown.sum(axis=-1, keepdims=True)


def _of_class(logits: np.ndarray, y: np.ndarray) -> np.ndarray:
    return logits[..., np.arange(len(y)), y]


OF_LOGITS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {"margin": correct_class_margin, "loss": loss}
"""Outputs of classifiers, by their names in `trainer.options.output`."""

SLOPES: dict[Callable, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    correct_class_margin: margin_slope,
    loss: loss_slope,
}
"""Gradients of those outputs by the logits."""

OF_PREDICTIONS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "squared_error": squared_error,
    "prediction": prediction,
}
"""Outputs of regressors, by their names in `trainer.options.output`."""


def meaning(name: str, allowed: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]]) -> Output:
    """Return what the output of that name means. Raises SpecError as `choose` does."""
    choose(name, allowed)
    return KNOWN[name]


def choose(name: str, allowed: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]]):
    """Return the output of that name. Raises SpecError listing the allowed ones."""
    if name not in allowed:
        raise SpecError(f"trainer.options.output = {name!r}: must be {' or '.join(sorted(allowed))} for this trainer")
    return allowed[name]
