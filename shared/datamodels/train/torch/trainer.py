"""Train any PyTorch module."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.parameter import UninitializedParameter

from datamodels.errors import InputError, SpecError
from datamodels.outputs import Output
from datamodels.run.dataset import Dataset, Targets
from datamodels.train.device import choose, out_of_memory
from datamodels.train.gradients.autograd import Functions, NetworkGradients
from datamodels.train.images import precision as precisions
from datamodels.train.images.stream import CudaStream, Stream
from datamodels.train.options import check_counts
from datamodels.train.torch import lightning, options, problem, tensors
from datamodels.train.torch.descent import Descent, Randomness, Setting, functional
from datamodels.train.torch.probe import probe
from datamodels.train.torch.recipe import SCHEDULES, Recipe
from datamodels.train.torch.replay import NetworkReplay
from datamodels.train.torch.tensors import Tree
from datamodels.train.torch.weights import Model

TARGETS_AT_ONCE = {"cpu": 256, "cuda": 2048}
"""Targets of one forward pass, which bounds its memory."""

DESCENTS = 2
"""Numbers of models at once that a trainer is ready for. Batches of a run have two sizes that differ by one."""
AT_ONCE = (1, 4, 16, 64)
"""Numbers of models at once that `paces` tries."""
WARM_UP = 3
"""Steps before those that `paces` measures."""


class TorchTrainer:
    """Trains any `nn.Module`; a BatchTrainer. Models are dicts of tensors by name, as `state_dict` returns.

    Options that are functions are given as `module:function` in a spec, or as functions by a subclass:

    build     returns a new network, whose initial weights are drawn from PyTorch's generator, as usual. A Lightning
              module brings its own loss, optimiser and schedule
    params    keyword arguments of `build`
    loss      what is minimised: cross_entropy, binary_cross_entropy, squared_error, or a function of what the network
              returns and y, such as `torch.nn.functional:l1_loss`
    output    what is recorded: margin, loss, squared_error, log_likelihood (of a class, or the mean over positions), or
              a function of what the network returns and y, which returns [rows]. By default the margin of classifiers,
              and the loss of others
    augment   changes the inputs of a minibatch, by PyTorch's generator
    schedule  course of the learning rate: constant, linear (to 0), cosine, or a function of the fraction of the
              training that is done, which returns a factor of the learning rate

    optimiser         how weights are updated: adamw, sgd (with Nesterov momentum), or a function of the parameters such
                      as `torch.optim:RMSprop`
    optimiser_params  keyword arguments of an optimiser that is a function

    Options that are numbers:

    epochs         passes over the subset
    batch_size     examples in a minibatch
    learning_rate  largest learning rate
    warmup         fraction of the training in which the learning rate rises from 0
    weight_decay   weight decay of adamw and sgd
    momentum       momentum of sgd
    clip           largest norm of a gradient; None for no limit

    Options of the device:

    device          where models are trained: auto, cpu or cuda; auto takes a GPU if there is one
    precision       numbers that training computes with: float32; bf16, fp16 or auto for mixed precision
    capture         whether steps on a GPU are recorded as CUDA graphs, which is faster
    models_at_once  how many models are trained at once by `torch.func.vmap`. `trainer check` says whether that is
                    faster

    Networks that draw random numbers in training, as dropout does, and those with an optimiser of their own are trained
    one by one.

    A minibatch may end one epoch and begin the next, so all have one size. Networks get float32 and int64. If x is a
    structured array, its fields are the arguments of the network; see `tensors`.

    On a CPU with one thread, the same subset and seed give the same bits, whatever was trained before. With another
    `models_at_once`, sums are rounded in another order. CPUs and GPUs draw the same initial weights and the same order
    of examples, but round differently.
    """

    @classmethod
    def output(cls, dataset: Dataset, *, loss: Any = None, output: Any = None, **others: Any) -> Output | None:
        """Return what outputs mean; None if the output is a function, or if a subclass may have chosen it."""
        return options.meaning(loss, output, dataset.y) if cls.__init__ is TorchTrainer.__init__ else None

    def __init__(
        self,
        dataset: Dataset,
        targets: Targets,
        *,
        build: str | Callable[..., nn.Module] = "",
        params: Mapping[str, Any] | None = None,
        loss: str | problem.Function | None = None,
        output: str | problem.Function | None = None,
        epochs: int = 10,
        batch_size: int = 32,
        learning_rate: float = 1e-3,
        schedule: str | Callable[[float], float] = "linear",
        warmup: float = 0.0,
        momentum: float = 0.9,
        weight_decay: float = 0.01,
        clip: float | None = None,
        optimiser: str | Callable[..., torch.optim.Optimizer] = "adamw",
        optimiser_params: Mapping[str, Any] | None = None,
        augment: str | Callable[[Tree], Tree] | None = None,
        device: str = "auto",
        precision: str = "float32",
        models_at_once: int = 1,
        capture: bool = True,
    ):
        check_counts(models_at_once=models_at_once)
        self.models_at_once = models_at_once
        self.device: torch.device = choose(device)
        chosen = precisions.choose(precision, self.device)
        self._make = functools.partial(options.function("build", build), **(params or {}))
        self._capture = capture
        self._pool = tensors.examples(dataset.x, dataset.y, self.device, chosen.dtype)
        self._targets = tensors.examples(targets.x, targets.y, self.device, chosen.dtype)
        with Randomness(self.device).seeded(0), tensors.naming_types(self._pool):
            self.network = self._build()
        """A network whose numbers are of no model, in the mode for outputs: the structure of all models."""
        own = lightning.is_module(self.network)
        if own:
            lightning.require_supported(self.network)
        self._setting = Setting(
            build=self._build,
            problem=options.objectives(loss, output, own, dataset.y),
            recipe=Recipe(
                epochs=epochs,
                batch_size=batch_size,
                learning_rate=learning_rate,
                schedule=options.function("schedule", schedule, SCHEDULES),
                warmup=warmup,
                momentum=momentum,
                weight_decay=weight_decay,
                clip=clip,
            ),
            optimiser=lightning.OfLightning if own else options.optimiser(optimiser, optimiser_params),
            augment=None if augment is None else options.function("augment", augment),
            pool=self._pool,
            precision=chosen,
            device=self.device,
        )
        self.network.to(device=self.device, dtype=chosen.dtype)
        with tensors.naming_types(self._pool):
            draws = probe(self._setting, self.network, self._targets)
        self.network.eval()
        self._draws = draws
        self._one_by_one = draws or not isinstance(self._setting.optimiser, str)
        self._descents: dict[int | None, Descent] = {}

    def train_many(self, subsets: Sequence[np.ndarray], seeds: Sequence[int]) -> list[Model]:
        """Train models, at once if there are several, their subsets are of one size, and they draw no random numbers.

        Raises InputError for an empty subset.
        """
        _check_members(subsets)
        models: dict[int, Model] = {}
        for group in self._groups(subsets):
            chosen, drawn = [subsets[i] for i in group], [seeds[i] for i in group]
            with self._descent(len(group)) as descent:
                descent.run(0, descent.begin(chosen, drawn))
                models |= zip(group, descent.end(), strict=True)
        return [models[i] for i in range(len(subsets))]

    def checkpoints(self, subset: np.ndarray, seed: int) -> Iterator[tuple[float, Model]]:
        """Yield (mean learning rate, model) after each epoch of the training of one model; the last is the model."""
        _check_members([subset])
        epochs = self._setting.recipe.epochs
        descent = Descent(self._setting, self._stream())
        count, done = descent.begin([subset], [seed]), 0
        for epoch in range(epochs):
            until = count * (epoch + 1) // epochs
            if until > done:
                descent.run(done, until)
                yield float(np.mean(descent.rates[done:until])), descent.end()[0]
            done = until

    def replay(self, subset: np.ndarray, seed: int) -> NetworkReplay:
        """Return the training of one model, step by step; see `train.gradients.replay`.

        Raises InputError if it cannot be differentiated; see NetworkReplay.
        """
        _check_members([subset])
        if self._draws:
            raise InputError(
                "trainer.options: the network or the augmentation draws random numbers in training, as dropout does, "
                "so its steps cannot be repeated"
            )
        return NetworkReplay(self._setting, subset, seed)

    def paces(self, subset: np.ndarray, seconds: float) -> dict[int, float]:
        """Return the seconds of one model's training, by the number of models at once.

        Numbers grow until training gets slower, memory runs out, or the network cannot be trained at once. Each is
        timed for about `seconds`.
        """
        found: dict[int, float] = {}
        for models in AT_ONCE[: 1 if self._one_by_one else None]:
            try:
                found[models] = self._pace(subset, models, seconds)
            except Exception as error:
                if models > 1 and (out_of_memory(error) or isinstance(error, SpecError)):
                    break
                raise
            if found[models] > min(found.values()):
                break
        return found

    def _pace(self, subset: np.ndarray, models: int, seconds: float) -> float:
        descent = Descent(self._setting, self._stream(), None if models == 1 else models)
        count = descent.begin([subset] * models, range(models))
        first = min(count - 1, WARM_UP)
        descent.run(0, first)
        descent.wait()
        step, started = first, time.perf_counter()
        while step < count and (step == first or time.perf_counter() - started < seconds):
            descent.run(step, step + 1)
            descent.wait()
            step += 1
        return (time.perf_counter() - started) / (step - first) * count / models

    def outputs_many(self, models: Sequence[Model]) -> np.ndarray:
        """Return outputs, float32[r, n]; those of a model that diverged are not finite."""
        at_once = TARGETS_AT_ONCE[self.device.type]
        found = []
        with torch.no_grad():
            for model in models:
                for start in range(0, len(self._targets), at_once):
                    rows = slice(start, start + at_once)
                    found.append(self.outputs_of(model, *self.targets(rows)).float())
            return torch.cat(found).reshape(len(models), -1).cpu().numpy()

    def pool(self, index: torch.Tensor | slice) -> tuple[Tree, torch.Tensor]:
        """Return x and y of examples of the pool, as the network takes them."""
        return self._pool.batch(index)

    def targets(self, index: torch.Tensor | slice) -> tuple[Tree, torch.Tensor]:
        """Return x and y of targets, as the network takes them."""
        return self._targets.batch(index)

    def losses_of(self, model: Model, x: Tree, y: torch.Tensor) -> torch.Tensor:
        """Return the loss of each example, [rows], as a function of the model's tensors.

        It is that of the trained model, so without dropout and augmentation. It is differentiable, and works under the
        transforms of `torch.func`, if the user's network and loss do.
        """
        return functional(self.network, self._setting.problem.losses)(model, x, y)

    def outputs_of(self, model: Model, x: Tree, y: torch.Tensor) -> torch.Tensor:
        """Return the output for each example, [rows], as a function of the model's tensors; see `losses_of`."""
        return functional(self.network, self._setting.problem.outputs)(model, x, y)

    def trained(self, model: Model) -> Model:
        """Return the tensors of a model that training changes by gradients: neither buffers nor frozen parameters."""
        names = {name for name, parameter in self.network.named_parameters() if parameter.requires_grad}
        return {name: tensor for name, tensor in model.items() if name in names}

    def gradients(self, model: Model, layers: Sequence[str] = ()) -> NetworkGradients:
        """Return the gradients of a model by all its trained weights, or by those of some layers.

        layers  names of parameters or modules, or patterns such as `encoder.*`. Raises InputError if one matches
                nothing
        """
        problem, network = self._setting.problem, self.network
        named = isinstance(self._setting.optimiser, str)
        functions = Functions(
            network=network,
            trained=list(self.trained(model)),
            losses=self.losses_of,
            outputs=self.outputs_of,
            predictions=functional(network, problem.predictions),
            loss_of=problem.of_predictions,
            odds=problem.odds,
            slopes=problem.slopes,
            factors=problem.factors,
            labelled=problem.labelled,
            pool=self.pool,
            targets=self.targets,
            examples=len(self._pool),
            target_count=len(self._targets),
            weight_decay=self._setting.recipe.weight_decay if named else 0.0,
        )
        return NetworkGradients(functions, model, layers)

    def _groups(self, subsets: Sequence[np.ndarray]) -> Iterator[list[int]]:
        """Yield positions of subsets that are trained at once: of one size, and no more than the option allows."""
        most = 1 if self._one_by_one else self.models_at_once
        sizes = np.array([len(subset) for subset in subsets])
        for size in np.unique(sizes):
            same = np.flatnonzero(sizes == size).tolist()
            yield from (same[first : first + most] for first in range(0, len(same), most))

    @contextlib.contextmanager
    def _descent(self, models: int) -> Iterator[Descent]:
        """Give the Descent for that many models. An error drops it: it may be half captured, or too large."""
        key = None if models == 1 else models
        try:
            if key not in self._descents:
                if len(self._descents) == DESCENTS:
                    self._descents.clear()
                self._descents[key] = Descent(self._setting, self._stream(), key)
            yield self._descents[key]
        except BaseException:
            self._descents.clear()
            raise

    def _stream(self) -> Stream:
        return CudaStream(self.device, capture=self._capture) if self.device.type == "cuda" else Stream()

    def _build(self) -> nn.Module:
        """Return a new network. The sizes of lazy layers are those that the first examples need."""
        network = self._make()
        if not isinstance(network, nn.Module):
            raise SpecError(f"trainer.options.build: returned {type(network).__name__}: must be a torch.nn.Module")
        if any(isinstance(p, UninitializedParameter) for p in network.parameters()):
            x, _ = self._pool.batch(slice(0, 2))
            with torch.no_grad():
                tensors.call(network.eval(), tensors.mapped(lambda t: t.cpu(), x))
            network.train()
        return network


def _check_members(subsets: Sequence[np.ndarray]) -> None:
    for at, subset in enumerate(subsets):
        if not len(subset):
            raise InputError(f"subset {at} of {len(subsets)} is empty: cannot train on no examples")
