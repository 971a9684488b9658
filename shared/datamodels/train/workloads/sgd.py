"""Train many small networks at once by stochastic gradient descent.

For each model it minimises

    mean over the subset of the cross-entropy + weight_decay / 2 * ||weights||^2

by minibatches, with Nesterov momentum (Sutskever et al. 2013, equations 3 and 4) and a learning rate that falls
linearly to zero.

Models share only the loop. Each has its own initial weights and its own order of examples, both from its own seed, so a
model does not depend on which models are trained at the same time. NumPy computes the small matrix products: its BLAS
runs them near the peak of a core, 1.6 times as fast as `torch.bmm` in our measurements. PyTorch does the passes over
memory between them, on the same memory: each is one fused loop.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import torch

from datamodels.errors import InputError
from datamodels.train import options


@dataclasses.dataclass(frozen=True)
class SgdRecipe:
    """The numbers of a training. Defaults suit the digits. Raises SpecError with one line per fault."""

    epochs: int = 10
    batch_size: int = 35  # examples in a minibatch
    learning_rate: float = 0.2  # falls linearly to 0
    momentum: float = 0.9
    weight_decay: float = 1e-2  # without it, the SNR of margins is 1.2; with it 3, at the same accuracy

    def __post_init__(self) -> None:
        rules = {
            "epochs": (self.epochs >= 1, "at least 1"),
            "batch_size": (self.batch_size >= 1, "at least 1"),
            "learning_rate": (0 < self.learning_rate < math.inf, "greater than 0"),
            "momentum": (0 <= self.momentum < 1, "at least 0 and less than 1"),
            "weight_decay": (
                self.weight_decay >= 0 and self.weight_decay * self.learning_rate < 1,
                "at least 0 and less than 1 / learning_rate",
            ),
        }
        options.check(vars(self), rules)


class Network(Protocol):
    """One kind of network. The weights of r models are a matrix [r, *shape] for each shape in `shapes`.

    Inputs x are [r, rows, features + 1]. The last feature is 1, so that biases are weights like all others.

    shapes  of the weight matrices
    fan_in  inputs of each layer, which set the scale of its initial weights
    """

    @property
    def shapes(self) -> tuple[tuple[int, int], ...]: ...

    @property
    def fan_in(self) -> tuple[int, ...]: ...

    def forward(self, weights: Sequence[np.ndarray], x: np.ndarray) -> np.ndarray:
        """Return logits [r, classes, rows], in a buffer that the next call reuses."""

    def backward(
        self, weights: Sequence[np.ndarray], x: np.ndarray, dz: np.ndarray, gradients: Sequence[np.ndarray]
    ) -> None:
        """Write the gradients of sum(dz * logits) to `gradients`; x is that of the last `forward`."""


def parameters(network: Network) -> int:
    """Return the number of weights of one model."""
    return sum(a * b for a, b in network.shapes)


def matrices(network: Network, flat: np.ndarray) -> list[np.ndarray]:
    """Return views [r, *shape] of flat weights [r, parameters]."""
    views, start = [], 0
    for a, b in network.shapes:
        views.append(flat[:, start : start + a * b].reshape(len(flat), a, b))
        start += a * b
    return views


def with_bias(x: np.ndarray) -> np.ndarray:
    """Return x, flattened, and a column of ones: float[examples, features + 1]."""
    x = x.reshape(len(x), -1)
    return np.hstack([x, np.ones((len(x), 1), dtype=x.dtype)])


def train(
    network: Network,
    recipe: SgdRecipe,
    x: np.ndarray,
    y: np.ndarray,
    subsets: Sequence[np.ndarray],
    seeds: Sequence[int],
) -> np.ndarray:
    """Train r models and return their weights [r, parameters], of x's dtype.

    x        float32 or float64[examples, features + 1], as by `with_bias`
    y        int[examples]
    subsets  r arrays of example indices; may differ in length
    seeds    r seeds

    The weights of a model that diverges are not finite. Raises InputError for an empty subset.
    """
    weights = np.empty((len(seeds), parameters(network)), dtype=x.dtype)
    steps = np.array([-(-len(subset) // recipe.batch_size) for subset in subsets])
    if not steps.all():
        raise InputError(f"subset {int(np.argmin(steps))} of {len(steps)} is empty: cannot train on no examples")
    for count in np.unique(steps):
        same = np.flatnonzero(steps == count).tolist()
        group = _Descent(network, recipe, x, y, [subsets[i] for i in same], [seeds[i] for i in same])
        weights[same] = group.run()
    return weights


def checkpoints(
    network: Network, recipe: SgdRecipe, x: np.ndarray, y: np.ndarray, subset: np.ndarray, seeds: Sequence[int]
) -> Iterator[tuple[float, np.ndarray]]:
    """Yield (mean learning rate, weights [r, parameters]) after each epoch of `train` on one subset."""
    if not len(subset):
        raise InputError("the subset is empty: cannot train on no examples")
    for rate, weights in _Descent(network, recipe, x, y, [subset] * len(seeds), seeds).epochs():
        yield rate, weights.copy()


@dataclasses.dataclass(frozen=True, eq=False)
class Step:
    """A step of one model's training.

    examples  int64[rows]; the minibatch
    shares    [rows]; their weights in its loss, which sum to 1
    rate      the learning rate
    """

    examples: np.ndarray
    shares: np.ndarray
    rate: float


def schedule(
    network: Network, recipe: SgdRecipe, x: np.ndarray, y: np.ndarray, subset: np.ndarray, seed: int
) -> tuple[np.ndarray, list[Step]]:
    """Return (initial weights [parameters], steps) of the model that `train` trains on a subset with a seed."""
    descent = _Descent(network, recipe, x, y, [subset], [seed])
    steps, found = descent.minibatches.steps, []
    for epoch in range(recipe.epochs):
        for step, rows in enumerate(descent.minibatches.epoch()[:, 0]):
            share = np.broadcast_to(descent.share(step), (1, 1, len(rows)))[0, 0].astype(x.dtype)
            found.append(Step(rows[share > 0], share[share > 0], _rate(recipe, epoch * steps + step, steps)))
    return descent.start[0], found


def _rate(recipe: SgdRecipe, done: int, steps: int) -> float:
    """Return the learning rate after `done` steps, of `steps` per epoch."""
    return recipe.learning_rate * (1 - done / (recipe.epochs * steps))


class _Descent:
    """Trains models whose epochs have the same number of steps."""

    def __init__(self, network, recipe, x, y, subsets, seeds):
        self.network, self.recipe, self.x = network, recipe, x
        streams = [np.random.PCG64(seed) for seed in seeds]
        self.start = _initial(network, streams, x.dtype)
        self.minibatches = Minibatches(subsets, streams, recipe.batch_size)
        self.last_share = torch.from_numpy(self.minibatches.last_share.astype(x.dtype))
        # Position of the logit of each row's class in the flat logits [r, classes, rows]: offset + y * rows.
        self.y_offset = np.asarray(y, dtype=np.int64) * recipe.batch_size
        model, row = np.ogrid[: len(seeds), : recipe.batch_size]
        self.offset = model * (network.shapes[-1][0] * recipe.batch_size) + row

    def run(self) -> np.ndarray:
        *_, (_, weights) = self.epochs()
        return weights

    def share(self, step: int) -> torch.Tensor | float:
        """Return the weights of the rows of a minibatch in its loss, [r, 1, rows], or the weight of each."""
        return self.last_share if step == self.minibatches.steps - 1 else 1 / self.recipe.batch_size

    def epochs(self) -> Iterator[tuple[float, np.ndarray]]:
        """Yield (mean learning rate, weights [r, parameters]) of each epoch; the next epoch overwrites the weights."""
        recipe, network = self.recipe, self.network
        here, ahead = _Weights(network, self.start), _Weights(network, self.start)
        gradient = _Weights(network, np.zeros_like(self.start))
        xb = np.empty((len(self.start), recipe.batch_size, self.x.shape[1]), dtype=self.x.dtype)
        steps = self.minibatches.steps
        for epoch in range(recipe.epochs):
            chosen = self.minibatches.epoch()
            right = self.y_offset[chosen] + self.offset
            with np.errstate(over="ignore", invalid="ignore"):
                for step in range(steps):
                    rate = _rate(recipe, epoch * steps + step, steps)
                    np.take(
                        self.x, chosen[step], axis=0, out=xb, mode="clip"
                    )  # clip avoids a copy; all indices are in range
                    dz = _logit_gradient(network.forward(ahead.matrices, xb), right[step], self.share(step) * -rate)
                    network.backward(ahead.matrices, xb, dz, gradient.matrices)
                    # `gradient` is -rate times the gradient of the cross-entropy. A step is two passes over memory:
                    # here' = ahead - rate * full gradient; ahead' = here' + momentum * (here' - here).
                    torch.add(gradient.flat, ahead.flat, alpha=1 - rate * recipe.weight_decay, out=ahead.flat)
                    here.flat.lerp_(ahead.flat, 1 + recipe.momentum)
                    here, ahead = ahead, here
            yield recipe.learning_rate * (1 - (epoch + 0.5) / recipe.epochs), ahead.flat.numpy()


class _Weights:
    """The weights of r models, in one memory: as flat vectors and as the network's matrices."""

    def __init__(self, network: Network, flat: np.ndarray):
        flat = flat.copy()
        self.flat = torch.from_numpy(flat)
        self.matrices = matrices(network, flat)


class Minibatches:
    """Shuffles the examples of each model, epoch by epoch."""

    def __init__(self, subsets: Sequence[np.ndarray], streams: Sequence[np.random.PCG64], batch_size: int):
        self.batch_size, self.streams = batch_size, streams
        self.sizes = [len(subset) for subset in subsets]
        self.steps = -(-self.sizes[0] // batch_size)
        width = self.steps * batch_size
        self.members = np.stack([np.pad(subset, (0, width - len(subset)), mode="edge") for subset in subsets])
        filled = np.array([(size - 1) % batch_size + 1 for size in self.sizes])[:, None]
        self.last_share = ((np.arange(batch_size) < filled) / filled)[:, None, :]
        """[r, 1, rows]: weight of each row in the last minibatch; rows that pad it weigh nothing."""

    def epoch(self) -> np.ndarray:
        """Return the examples of each minibatch of an epoch, int64[steps, r, rows]; the last minibatch is padded."""
        count, width = self.members.shape
        # Sorting random keys is several times as fast as shuffling. The low bits of a key hold its position, so that
        # no two keys are equal. Padding has the largest keys, so that it comes last.
        low = np.uint64(2 ** width.bit_length() - 1)
        keys = np.full((count, width), np.iinfo(np.uint64).max)
        for row, (stream, size) in enumerate(zip(self.streams, self.sizes, strict=True)):
            keys[row, :size] = stream.random_raw(size)
        keys = (keys & ~low) | np.arange(width, dtype=np.uint64)
        keys.sort(axis=1)
        order = np.take_along_axis(self.members, (keys & low).astype(np.int64), axis=1)
        return np.ascontiguousarray(order.reshape(count, self.steps, self.batch_size).swapaxes(0, 1), dtype=np.int64)


def _initial(network: Network, streams: Sequence[np.random.PCG64], dtype) -> np.ndarray:
    """Return initial weights [r, parameters], uniform in +-1/sqrt(fan in) as in PyTorch's linear layers."""
    uniform = np.stack([np.random.Generator(stream).random(parameters(network), dtype=dtype) for stream in streams])
    spread = np.repeat([fan**-0.5 for fan in network.fan_in], [a * b for a, b in network.shapes]).astype(dtype)
    return (2 * uniform - 1) * spread


def _logit_gradient(logits: np.ndarray, right: np.ndarray, scale) -> np.ndarray:
    """Return scale times the gradient of the cross-entropy by the logits, [r, classes, rows].

    right  positions of the logits of y in the flat logits
    """
    dz = torch.softmax(torch.from_numpy(logits), dim=1)
    dz.numpy().reshape(-1)[right] -= 1
    return dz.mul_(scale).numpy()
