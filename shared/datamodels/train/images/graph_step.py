"""Train networks one after another by a step that a GPU captures once as a CUDA graph.

On a GPU, the whole step (look-up, augmentation, forward, backward, update) is captured when the first model begins, and
replayed for every step of all models. What differs between steps is read through a counter on the device, so a replay
copies nothing and does not synchronise with the host. On a CPU the same step runs as ordinary code. The stream decides
which of the two it is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch.nn import functional

from datamodels.train.images import augment
from datamodels.train.images.networks import Network
from datamodels.train.images.optimisers import FlatState, Muon, Nesterov, Optimiser
from datamodels.train.images.precision import Precision
from datamodels.train.images.recipe import ImageRecipe, rates, steps
from datamodels.train.images.stream import Stream


@dataclasses.dataclass(frozen=True)
class Pool:
    """The training pool on the device: x uint8[d, h, w, 3], y int64[d]."""

    x: torch.Tensor
    y: torch.Tensor


Minibatches = Iterator[tuple[torch.Tensor, torch.Tensor]]
"""Pairs of images uint8[rows, h, w, 3] and labels int64[rows]. Asking for the next pair may overwrite the last one."""

Source = Callable[[np.ndarray], Minibatches]
"""Returns the minibatches of examples of the pool, int64[steps, rows], one per step."""


class NetworkTrainer:
    """Trains one model after another: `begin`, then `step` as often as `begin` says, then `end`.

    pool    the pool on the device, or a Source of minibatches if it does not fit there
    size    height and width of images
    stream  runs the steps; by default as on a CPU
    """

    def __init__(
        self,
        network: Network,
        recipe: ImageRecipe,
        pool: Pool | Source,
        size: tuple[int, int],
        precision: Precision,
        device: torch.device,
        stream: Stream | None = None,
    ):
        self.network, self._recipe, self._pool, self._size, self._precision = network, recipe, pool, size, precision
        self._device, self._stream = device, stream or Stream()
        self.flat = FlatState(network, device, precision.dtype)
        self._optimiser: Optimiser = (
            Muon(self.flat, recipe.momentum)
            if recipe.optimiser == "muon"
            else Nesterov(self.flat.weights, self.flat.gradient, recipe.momentum, recipe.weight_decay)
        )
        self._replay: Callable[[], None] | None = None
        """The captured step; None if there is none, or if the tensors that it reads have been replaced since."""
        self._step_index = torch.zeros(1, dtype=torch.int64, device=device)
        self._draws = torch.empty(0, dtype=torch.int64, device=device)
        self._rates = torch.empty(0, dtype=torch.float32, device=device)
        self._images = pool if isinstance(pool, Pool) else Pool(*torch.empty((2, 0), dtype=torch.uint8, device=device))
        """The images that steps read: the pool, or a buffer for one minibatch, which is empty before the first."""
        self._minibatches: Minibatches = iter(())
        """Minibatches that are still to be copied to the buffer, if the pool is a Source."""

    def begin(self, subset: torch.Tensor, seed: int) -> int:
        """Begin to train a model, and return its number of steps.

        subset  int64[k], k >= 1; indices into the pool
        seed    of a generator on the device, from which all randomness comes. All CPUs draw the same, and all GPUs draw
                the same, but CPUs and GPUs differ
        """
        self._stream.wait_for_current()  # the pool must be there, and the previous model's outputs computed
        with self._stream.context():
            count, rows = steps(self._recipe, len(subset))
            generator = torch.Generator(self._device).manual_seed(seed)
            draws = augment.draw(self._recipe, len(subset), count, rows, self._size, generator)
            examples = subset.to(self._device)[draws.position]
            first = self._first_minibatch(examples)
            self._allocate(count, rows)
            self.network.train()
            if self._replay is None:
                self._replay = self._stream.capture(self._step, self._warm_up)
            self.flat.state.zero_()
            self.network.start(first, generator)
            self._write_draws(examples, draws, count)
            self._optimiser.start()
        return count

    def step(self) -> None:
        """Queue the next step of the model. Returns before the device has done it."""
        with self._stream.context():
            (self._replay or self._step)()
            following = next(self._minibatches, None)
            if following is not None:
                self._upload(*following)

    def end(self) -> torch.Tensor:
        """Return the trained model: a copy of the network's numbers, as `FlatState.state`."""
        self._minibatches = iter(())
        return self.copy()

    def copy(self) -> torch.Tensor:
        """Return a copy of the network's numbers as they are now."""
        with self._stream.context():
            model = self.flat.state.clone()
        self._stream.make_current_wait()
        return model

    @torch.no_grad()
    def logits(self, model: torch.Tensor, x: torch.Tensor, *, mirrored: bool) -> torch.Tensor:
        """Return logits float32[rows, classes] of a model on images uint8[rows, h, w, 3].

        mirrored  average them with the logits of the mirrored images
        """
        self.flat.state.copy_(model)
        self.network.eval()
        with self._precision.autocast(self._device):
            found = self.network(x)
            if mirrored:
                found = (found + self.network(x.flip(2))) / 2
        return found.float()

    def _first_minibatch(self, examples: torch.Tensor) -> torch.Tensor:
        """Return the images of the first minibatch of examples int64[steps, rows], before augmentation.

        If the pool is a Source, the minibatch is copied to the buffer, and `examples` is overwritten by positions in
        it.
        """
        if isinstance(self._pool, Pool):
            return self._pool.x[examples[0]]
        minibatches = self._pool(examples.cpu().numpy().copy())
        first = next(minibatches)
        if len(self._images.x) != len(first[0]):
            self._images, self._replay = Pool(*(torch.empty_like(part, device=self._device) for part in first)), None
        self._upload(*first)
        self._minibatches = minibatches
        examples.copy_(torch.arange(examples.shape[1], device=self._device).expand(examples.shape))
        return self._images.x

    def _upload(self, x: torch.Tensor, y: torch.Tensor) -> None:
        self._stream.upload((self._images.x, self._images.y), (x, y))

    def _allocate(self, count: int, rows: int) -> None:
        """Make room for the draws of `count` steps. If that moves them, the step is captured again."""
        if self._draws.shape[2:] != (rows,) or len(self._draws) < count:
            self._draws = torch.zeros((count, 6, rows), dtype=torch.int64, device=self._device)
            self._rates = torch.zeros(count, dtype=torch.float32, device=self._device)
            self._replay = None

    def _write_draws(self, examples: torch.Tensor, draws: augment.Draws, count: int) -> None:
        """Write all that steps look up: examples int64[steps, rows], their augmentation, and learning rates."""
        columns = [examples, draws.flip, draws.down, draws.right, draws.top, draws.left]
        torch.stack(columns, dim=1, out=self._draws[:count])
        self._rates[:count].copy_(torch.from_numpy(rates(self._recipe, count)))
        self._step_index.zero_()

    def _step(self) -> None:
        """Do the step that the counter says, and advance the counter. Nothing is read back to the host."""
        recipe, precision = self._recipe, self._precision
        index, flip, down, right, top, left = self._draws.index_select(0, self._step_index)[0].unbind(0)
        x = augment.gather(self._images.x, index, flip, down, right)
        keep = augment.kept(top, left, recipe.cutout, self._size) if recipe.cutout else None
        self.flat.gradient.zero_()
        with precision.autocast(self._device):
            logits = self.network(x, keep)
        loss = functional.cross_entropy(
            logits.to(precision.dtype), self._images.y[index], label_smoothing=recipe.label_smoothing
        )
        (loss * precision.loss_scale).backward()
        if precision.loss_scale != 1:
            self.flat.gradient.div_(precision.loss_scale)
        with torch.no_grad():
            self._optimiser.step(self._rates.index_select(0, self._step_index))
            self._step_index.add_(1)

    def _warm_up(self) -> None:
        """Do a step whose result does not matter."""
        self._step_index.zero_()
        self._step()
        self._step_index.zero_()
