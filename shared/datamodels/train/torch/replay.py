"""Repeat the training of a network step by step, for PyTorch to differentiate; see `train.gradients.replay`."""

from __future__ import annotations

import numpy as np
import torch

from datamodels.errors import InputError
from datamodels.train.gradients.replay import Replay
from datamodels.train.torch.descent import Randomness, Setting, drawn, functional
from datamodels.train.torch.recipe import Recipe, rates
from datamodels.train.torch.weights import Model, tensors

State = tuple[torch.Tensor, ...]

BETAS, EPSILON = (0.9, 0.999), 1e-8
"""Of AdamW, as PyTorch sets them."""


class NetworkReplay(Replay):
    """The training of one model on a subset, int[k].

    Raises InputError for trainings that cannot be differentiated: with an optimiser of the user's own, in mixed
    precision, or of networks that keep running statistics. Training must draw no random numbers.
    """

    def __init__(self, setting: Setting, subset: np.ndarray, seed: int):
        if not isinstance(setting.optimiser, str):
            raise InputError("trainer.options.optimiser: only the steps of adamw and sgd can be differentiated")
        if setting.precision.compute_dtype != setting.precision.dtype:
            raise InputError("trainer.options.precision: must be float32; steps in mixed precision are not smooth")
        self._setting = setting
        network, examples = drawn(setting, Randomness(setting.device), subset, seed)
        self._network = network.to(device=setting.device, dtype=setting.precision.dtype).train()
        self._examples = examples.to(setting.device)
        self._rates = rates(setting.recipe, len(examples)).tolist()
        self._trained = {name: p.detach() for name, p in network.named_parameters() if p.requires_grad}
        self._others = {name: t for name, t in tensors(network).items() if name not in self._trained}
        self._losses = functional(self._network, setting.problem.losses)
        self.steps = len(examples)
        self._check_statistics()

    def start(self) -> State:
        weights = torch.cat([tensor.reshape(-1) for tensor in self._trained.values()])
        moments = 1 if self._setting.optimiser == "sgd" else 2
        return (weights, *(torch.zeros_like(weights) for _ in range(moments)))

    def minibatch(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        examples = self._examples[step]
        return examples, torch.full((len(examples),), 1 / len(examples)).to(self._setting.precision.dtype).to(
            examples.device
        )

    def losses(self, weights: torch.Tensor, examples: torch.Tensor) -> torch.Tensor:
        x, y = self._setting.pool.batch(examples)
        augment = self._setting.augment
        return self._losses(self._others | self._named(weights), augment(x) if augment else x, y)

    def update(self, step: int, state: State, gradient: torch.Tensor) -> State:
        recipe, rate = self._setting.recipe, self._rates[step]
        if recipe.clip is not None:
            gradient = gradient * (recipe.clip / (gradient.norm() + 1e-6)).clamp_max(1)
        return sgd(recipe, rate, state, gradient) if len(state) == 2 else adamw(recipe, rate, step, state, gradient)

    def model(self, state: State) -> Model:
        return self._others | {name: tensor.clone() for name, tensor in self._named(state[0]).items()}

    def _named(self, weights: torch.Tensor) -> Model:
        parts = weights.split([tensor.numel() for tensor in self._trained.values()])
        named = zip(self._trained.items(), parts, strict=True)
        return {name: part.view(tensor.shape) for (name, tensor), part in named}

    @torch.no_grad()
    def _check_statistics(self) -> None:
        """Raise InputError if a forward pass changes a buffer, as batch normalisation does."""
        buffers = {name: tensor.clone() for name, tensor in self._network.named_buffers()}
        x, y = self._setting.pool.batch(self._examples[0])
        self._setting.problem.losses(self._network, x, y)
        changed = [name for name, tensor in self._network.named_buffers() if not torch.equal(tensor, buffers[name])]
        if changed:
            raise InputError(
                f"trainer.options.build: training changes {changed[0]!r} without a derivative, as batch normalisation "
                "does; networks with GroupNorm or LayerNorm can be differentiated"
            )


def sgd(recipe: Recipe, rate: float, state: State, gradient: torch.Tensor) -> State:
    """Return (weights, velocity) after a step of `images.optimisers.Nesterov`."""
    weights, velocity = state
    gradient = gradient + recipe.weight_decay * weights
    velocity = recipe.momentum * velocity + gradient
    return weights - rate * (gradient + recipe.momentum * velocity), velocity


def adamw(recipe: Recipe, rate: float, step: int, state: State, gradient: torch.Tensor) -> State:
    """Return (weights, first moment, second moment) after a step of `torch.optim.AdamW`."""
    weights, first, second = state
    (slow, slower), done = BETAS, step + 1
    first = slow * first + (1 - slow) * gradient
    second = slower * second + (1 - slower) * gradient.square()
    # A weight that has had no gradient does not move, and the derivative of the square root at 0 would be infinite.
    moved = second > 0
    root = torch.where(moved, torch.where(moved, second, 1).sqrt(), 0)
    scale = root / (1 - slower**done) ** 0.5 + EPSILON
    return weights * (1 - rate * recipe.weight_decay) - rate / (1 - slow**done) * first / scale, first, second
