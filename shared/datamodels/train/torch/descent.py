"""Train networks of one kind: one at a time, or r at a time by `torch.func`.

The step (look-up, augmentation, forward, backward, update) is that of `images.graph_step`: what differs between steps
is read through a counter on the device, so a GPU can capture it once and replay it for all steps of all models.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from datamodels.errors import SpecError, one_line
from datamodels.train.device import out_of_memory
from datamodels.train.images.precision import Precision
from datamodels.train.images.recipe import steps
from datamodels.train.images.stream import Stream
from datamodels.train.torch import optimisers
from datamodels.train.torch.optimisers import Own, OwnOptimiser
from datamodels.train.torch.problem import Problem
from datamodels.train.torch.recipe import Recipe, rates
from datamodels.train.torch.tensors import Examples, Tree
from datamodels.train.torch.weights import Model, Weights, tensors


@dataclasses.dataclass(frozen=True)
class Setting:
    """What trainings share.

    build      returns a new network on the CPU, drawn from PyTorch's generator
    problem    losses and outputs
    recipe     the numbers
    optimiser  a name of `optimisers.FLAT`, or a function that makes a model's own optimiser
    augment    changes the x of a minibatch, by PyTorch's generator of the device; None for no augmentation
    pool       the training pool, on the device
    """

    build: Callable[[], nn.Module]
    problem: Problem
    recipe: Recipe
    optimiser: str | Own
    augment: Callable[[Tree], Tree] | None
    pool: Examples
    precision: Precision
    device: torch.device


class Randomness:
    """The state of PyTorch's generators for one training, apart from everything else that draws from them."""

    def __init__(self, device: torch.device):
        self._device = device
        self._state: tuple[torch.Tensor, ...] | None = None

    @contextlib.contextmanager
    def seeded(self, seed: int | None = None) -> Iterator[None]:
        """Let the body draw from a new seed, or from where the body of the last call stopped."""
        cuda = self._device.type == "cuda"
        with torch.random.fork_rng(devices=[torch.cuda.current_device()] if cuda else []):
            if seed is not None:
                torch.manual_seed(seed)
            elif self._state is not None:
                torch.set_rng_state(self._state[0])
                if cuda:
                    torch.cuda.set_rng_state(self._state[1])
            yield
            self._state = (torch.get_rng_state(), *([torch.cuda.get_rng_state()] if cuda else []))


def drawn(setting: Setting, random: Randomness, subset: np.ndarray, seed: int) -> tuple[nn.Module, torch.Tensor]:
    """Draw what a seed decides for one model: (the new network on the CPU, int64[steps, rows]: its minibatches)."""
    recipe, members = setting.recipe, len(subset)
    count, rows = steps(recipe, members)
    with random.seeded(seed):
        network = setting.build()
        order = torch.rand((recipe.epochs, members)).argsort(dim=1, stable=True)
    chosen = torch.from_numpy(np.asarray(subset, dtype=np.int64))[order]
    return network, chosen.reshape(-1)[: count * rows].reshape(count, rows)


class Descent:
    """Trains models: `begin`, then `run` through all steps, then `end`.

    models  None for one network at a time, which runs as ordinary code and may draw random numbers; otherwise r
            networks at a time, which may not
    """

    def __init__(self, setting: Setting, stream: Stream, models: int | None = None):
        self._setting, self._stream, self._models = setting, stream, models
        self._random = Randomness(setting.device)
        self._weights: Weights | None = None
        self._network: nn.Module = nn.Identity()
        self._flat_optimiser: optimisers.Optimiser | None = None
        self._own_optimiser: OwnOptimiser | None = None
        self._replay: Callable[[], None] | None = None
        self._step_index = torch.zeros(1, dtype=torch.int64, device=setting.device)
        self._examples = torch.empty(0, dtype=torch.int64, device=setting.device)
        self._rates = torch.empty(0, dtype=torch.float32, device=setting.device)
        self._host_rates: np.ndarray = np.empty(0, dtype=np.float32)
        self._epoch_ends: frozenset[int] = frozenset()
        self.rates: list[float] = []
        """The learning rate of each step that was done."""

    def begin(self, subsets: Sequence[np.ndarray], seeds: Sequence[int]) -> int:
        """Begin to train models on subsets of one size, and return the number of steps.

        subsets  r arrays of indices into the pool, int[k], k >= 1
        seeds    of the initial weights, the order of examples, and all that networks and augmentation draw
        """
        recipe, members = self._setting.recipe, len(subsets[0])
        count, rows = steps(recipe, members)
        self._stream.wait_for_current()
        with self._context():
            examples = torch.empty((count, len(seeds), rows), dtype=torch.int64)
            for at, (subset, seed) in enumerate(zip(subsets, seeds, strict=True)):
                network, examples[:, at] = drawn(self._setting, self._random, subset, seed)
                self._take(network, at)
            self._allocate(count, examples.shape[1:])
            self._capture()
            self._examples[:count].copy_(examples)
            self._host_rates = rates(recipe, count)
            self._rates[:count].copy_(torch.from_numpy(self._host_rates))
            self._step_index.zero_()
        self._epoch_ends = frozenset(count * (epoch + 1) // recipe.epochs - 1 for epoch in range(recipe.epochs))
        self.rates = []
        return count

    def run(self, first: int, last: int) -> None:
        """Queue the steps `first <= step < last`. On a GPU it returns before they are done."""
        with self._random.seeded(), self._context():
            for step in range(first, last):
                (self._replay or self._step)()
                rate = float(self._host_rates[step])
                if self._own_optimiser is not None:
                    rate = self._own_optimiser.step(rate)
                    if step in self._epoch_ends:
                        self._own_optimiser.epoch_done()
                self.rates.append(rate)

    def wait(self) -> None:
        """Wait until the device has done all that is queued."""
        if self._setting.device.type == "cuda":
            torch.cuda.synchronize(self._setting.device)

    def end(self) -> list[Model]:
        """Return copies of the models as they are now."""
        assert self._weights is not None, "begin comes first"
        with self._stream.context():
            models = self._weights.copies()
        self._stream.make_current_wait()
        return models

    @contextlib.contextmanager
    def _context(self) -> Iterator[None]:
        """Run operations on the stream. On a GPU, let sums have a fixed order where PyTorch knows of one."""
        with self._stream.context():
            if self._setting.device.type != "cuda":
                yield
                return
            cudnn = torch.backends.cudnn
            before = cudnn.benchmark, cudnn.deterministic
            strict = torch.are_deterministic_algorithms_enabled()
            warns = torch.is_deterministic_algorithms_warn_only_enabled()
            torch.use_deterministic_algorithms(True, warn_only=True)
            cudnn.benchmark, cudnn.deterministic = True, True  # shapes never change, so trying algorithms once pays
            try:
                yield
            finally:
                cudnn.benchmark, cudnn.deterministic = before
                torch.use_deterministic_algorithms(strict, warn_only=warns)

    def _take(self, network: nn.Module, at: int) -> None:
        """Make a new network the one that is trained, or one of them."""
        setting = self._setting
        if self._weights is None:
            self._weights = Weights(network, self._models, setting.device, setting.precision.dtype)
        self._weights.load(tensors(network), None if self._models is None else at)
        if self._replay is not None:
            return  # it replays the steps of the network that was captured
        self._network = network.to(device=setting.device, dtype=setting.precision.dtype).train()
        if self._models is None:
            self._weights.attach(network)
        if isinstance(setting.optimiser, str):
            weights = self._weights
            if self._flat_optimiser is None:
                self._flat_optimiser = optimisers.flat(
                    setting.optimiser, setting.recipe, weights.flat, weights.gradient
                )
        else:
            self._own_optimiser = setting.optimiser(network)

    def _allocate(self, count: int, shape: torch.Size) -> None:
        """Make room for the examples of `count` steps. If that moves them, the step is captured again."""
        if self._examples.shape[1:] != shape or len(self._examples) < count:
            self._examples = torch.zeros((count, *shape), dtype=torch.int64, device=self._setting.device)
            self._rates = torch.zeros(count, dtype=torch.float32, device=self._setting.device)
            self._replay = None

    def _capture(self) -> None:
        """Capture the step if it is not, and forget what warming up has done to the models."""
        assert self._weights is not None
        if self._replay is None and self._own_optimiser is None and self._stream.captures:
            models = self._weights.copies()
            with torch.random.fork_rng(devices=[torch.cuda.current_device()]):
                self._replay = self._stream.capture(self._step, self._warm_up)
            for at, model in enumerate(models):
                self._weights.load(model, None if self._models is None else at)
        if self._flat_optimiser is not None:
            self._flat_optimiser.start()

    def _step(self) -> None:
        """Do the step that the counter says, and advance the counter. Nothing is read back to the host."""
        setting, weights = self._setting, self._weights
        assert weights is not None
        index = self._examples.index_select(0, self._step_index)[0]
        weights.gradient.zero_()
        scale = setting.precision.loss_scale
        with setting.precision.autocast(setting.device):
            loss = self._loss_of_one(index[0]) if self._models is None else self._loss_of_many(index)
        (loss * scale).backward()
        with torch.no_grad():
            if scale != 1:
                weights.gradient.div_(scale)
            if setting.recipe.clip is not None:
                weights.clip(setting.recipe.clip)
            if self._flat_optimiser is not None:
                self._flat_optimiser.step(self._rates.index_select(0, self._step_index))
            self._step_index.add_(1)

    def _loss_of_one(self, index: torch.Tensor) -> torch.Tensor:
        """Return the mean loss of the minibatch int64[rows]."""
        setting = self._setting
        x, y = setting.pool.batch(index)
        return setting.problem.loss(self._network, setting.augment(x) if setting.augment else x, y)

    def _loss_of_many(self, index: torch.Tensor) -> torch.Tensor:
        """Return the sum over models of the mean loss of the minibatches int64[r, rows]."""
        assert self._weights is not None
        x, y = self._setting.pool.batch(index)
        loss = functional(self._network, self._setting.problem.loss)
        try:
            return torch.vmap(loss, randomness="error")(self._weights.all, x, y).sum()
        except RuntimeError as error:
            if out_of_memory(error):
                raise
            raise SpecError(
                f"trainer.options.models_at_once = {self._models}: torch.func cannot train several of these networks "
                f"at once: {one_line(error)}; set it to 1"
            ) from error

    def _warm_up(self) -> None:
        """Do a step whose result does not matter."""
        self._step_index.zero_()
        self._step()
        self._step_index.zero_()


class _Calls(nn.Module):
    """Calls a function of a network, so that `functional_call` can give it other numbers."""

    def __init__(self, network: nn.Module, function: Callable[..., torch.Tensor]):
        super().__init__()
        self.network, self._function = network, function

    def forward(self, *batch: Any) -> torch.Tensor:
        return self._function(self.network, *batch)


def functional(network: nn.Module, function: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """Return `function` of a network and a minibatch with a model's numbers as its first argument in their place."""
    calls = _Calls(network, function)

    def of(model: Model, *batch: Any) -> torch.Tensor:
        named = {f"network.{name}": tensor for name, tensor in model.items()}
        return torch.func.functional_call(calls, named, batch)

    return of
