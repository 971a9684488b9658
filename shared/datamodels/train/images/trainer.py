"""Train ResNet-9 and ResNet-18: each model from scratch on its subset of images."""

from __future__ import annotations

import abc
import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch

from datamodels.errors import InputError, SpecError
from datamodels.outputs import Output
from datamodels.run.dataset import Dataset, Targets, classes
from datamodels.train import outputs
from datamodels.train.device import choose
from datamodels.train.gradients.autograd import Batch, NetworkGradients
from datamodels.train.images import ffcv, gradients, networks
from datamodels.train.images import precision as precisions
from datamodels.train.images.graph_step import NetworkTrainer, Pool, Source
from datamodels.train.images.load import check_images
from datamodels.train.images.recipe import FAST, PAPER, SATELLITE, ImageRecipe, rates
from datamodels.train.images.stream import CudaStream, Stream
from datamodels.train.options import check_counts

TARGETS_AT_ONCE = {"cpu": 128, "cuda": 2048}
"""Targets of one forward pass, which bounds its memory."""


class ImageTrainer(abc.ABC):
    """Trains many models at once on images uint8[examples, h, w, 3]; a BatchTrainer.

    If an option from `epochs` to `cutout` is None, its value is that of the recipe.

    Options of the training:

    recipe           name of a recipe, which says how networks are trained
    epochs           passes over the subset
    batch_size       images in a minibatch
    learning_rate    largest learning rate; it rises from 0 and then falls to 0, both linearly
    weight_decay     weight decay; the recipe fast has none
    label_smoothing  fraction of the label that is spread over all classes, at least 0 and less than 1
    flip             when images are mirrored: none, random (at random in each epoch) or alternate (every other epoch)
    translate        most pixels that an image is moved by, each way; it is reflected at the border
    cutout           side of a square that is blanked at random, in pixels; 0 for none
    width            channels of the first layer; all others are multiples of it
    tta              whether the logits of an image and its mirror image are averaged
    output           what is recorded: margin or loss

    Options of the device:

    device           where models are trained: auto, cpu or cuda; auto takes a GPU if there is one
    precision        numbers that training computes with: auto, bf16, fp16 or float32
    models_at_once   models that are trained side by side
    capture          whether steps on a GPU are recorded as CUDA graphs, which is faster

    Options of the source of images:

    resident         whether all images are kept on the device; false streams them from memory, for larger pools
    ffcv_file        path of a file that FFCV streams images from, written if there is none; empty for no such file
    workers          threads of FFCV

    On a CPU with one thread, the same subset and seed give the same bits, whatever was trained before or at the same
    time. On a GPU they give the same initial weights and the same draws, and within one process the same order of
    summation. Another process may choose other algorithms of cuDNN, and then the last bits differ.
    """

    smallest: ClassVar[int]
    recipes: ClassVar[Mapping[str, ImageRecipe]]

    def __init__(
        self,
        dataset: Dataset,
        targets: Targets,
        *,
        recipe: str = "paper",
        epochs: int | None = None,
        batch_size: int | None = None,
        learning_rate: float | None = None,
        weight_decay: float | None = None,
        label_smoothing: float | None = None,
        flip: str | None = None,
        translate: int | None = None,
        cutout: int | None = None,
        width: int = 64,
        tta: bool = False,
        output: str = "margin",
        device: str = "auto",
        precision: str = "auto",
        models_at_once: int = 1,
        capture: bool = True,
        resident: bool = True,
        ffcv_file: str = "",
        workers: int = 1,
    ):
        check_counts(width=width, models_at_once=models_at_once, workers=workers)
        self.models_at_once = models_at_once
        self.recipe = _with_changes(
            self.recipes,
            recipe,
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            label_smoothing=label_smoothing,
            flip=flip,
            translate=translate,
            cutout=cutout,
        )
        self.device: torch.device = choose(device)
        if self.device.type == "cuda":
            torch.backends.cudnn.benchmark = True  # shapes never change, so trying its algorithms once pays
            # Otherwise sums have no fixed order: last bits differ, and trainings diverge from each other.
            torch.backends.cudnn.deterministic = True
        self.classes = classes(dataset, targets)
        self._output = outputs.choose(output, outputs.OF_LOGITS)
        self._precision = precisions.choose(precision, self.device)
        self._size = check_images(dataset, max(self.smallest, self.recipe.translate + 1))
        self._width, self._tta, self._capture = width, tta, capture
        self._pool = self._source(dataset, resident, ffcv_file, workers)
        self._data = dataset.x, dataset.y
        self._y_targets = targets.y
        self._x_targets = self._on_device(targets.x) if isinstance(self._pool, Pool) else targets.x
        self._trainers: list[NetworkTrainer] = []

    @staticmethod
    def output(dataset: Dataset, *, output: str = "margin", **options: Any) -> Output:
        """Return what outputs mean."""
        return outputs.meaning(output, outputs.OF_LOGITS)

    def train_many(self, subsets: Sequence[np.ndarray], seeds: Sequence[int]) -> list[torch.Tensor]:
        """Train models side by side, step by step in turn; on a GPU, each in a stream of its own.

        Raises InputError for an empty subset.
        """
        for at, subset in enumerate(subsets):
            if not len(subset):
                raise InputError(f"subset {at} of {len(subsets)} is empty: cannot train on no examples")
        with self._discard_trainers_on_error():
            while len(self._trainers) < len(subsets):
                self._trainers.append(self._new_trainer())
            trainers = self._trainers[: len(subsets)]
            left = [
                trainer.begin(torch.from_numpy(np.asarray(subset, dtype=np.int64)), seed)
                for trainer, subset, seed in zip(trainers, subsets, seeds, strict=True)
            ]
            for step in range(max(left)):
                for trainer, count in zip(trainers, left, strict=True):
                    if step < count:
                        trainer.step()
            return [trainer.end() for trainer in trainers]

    def outputs_many(self, models: Sequence[torch.Tensor]) -> np.ndarray:
        """Return outputs, float32[r, n]; those of a model that diverged are not finite."""
        with self._discard_trainers_on_error(), np.errstate(invalid="ignore", over="ignore"):
            return np.stack([self._output(self.logits(model), self._y_targets) for model in models])

    def checkpoints(self, subset: np.ndarray, seed: int) -> Iterator[tuple[float, torch.Tensor]]:
        """Yield (mean learning rate, model) after each epoch of the training of one model; the last is the model."""
        if not len(subset):
            raise InputError("the subset is empty: cannot train on no examples")
        trainer = self._new_trainer()
        count = trainer.begin(torch.from_numpy(np.asarray(subset, dtype=np.int64)), seed)
        each, done = rates(self.recipe, count), 0
        for epoch in range(self.recipe.epochs):
            until = count * (epoch + 1) // self.recipe.epochs
            for _ in range(done, until):
                trainer.step()
            if until > done:
                yield float(each[done:until].mean()), trainer.copy()
            done = until

    def gradients(self, model: torch.Tensor, layers: Sequence[str] = ()) -> NetworkGradients:
        """Return the gradients of a model by all its trained weights, or by those of some layers.

        layers  names of parameters or modules, or patterns such as `body.0.*`. Raises InputError if one matches nothing
        """

        def batches(x: np.ndarray | torch.Tensor, y: np.ndarray) -> tuple[Batch, int]:
            return lambda rows: (self._on_device(x[rows]), self._on_device(y[rows].astype(np.int64))), len(y)

        return gradients.of_network(
            self._new_trainer().network,
            model,
            batches(*self._data),
            batches(self._x_targets, self._y_targets),
            label_smoothing=self.recipe.label_smoothing,
            weight_decay=self.recipe.weight_decay if self.recipe.optimiser == "nesterov" else 0.0,
            mirrored=self._tta,
            margins=self._output is outputs.correct_class_margin,
            layers=layers,
        )

    @contextlib.contextmanager
    def _discard_trainers_on_error(self) -> Iterator[None]:
        """Drop all NetworkTrainers on an error: they may be half trained, half captured, or hold the memory."""
        try:
            yield
        except BaseException:
            self._trainers.clear()
            raise

    def logits(self, model: torch.Tensor) -> np.ndarray:
        """Return the logits of the targets, float32[n, classes]."""
        if not self._trainers:
            self._trainers.append(self._new_trainer())
        at_once = TARGETS_AT_ONCE[self.device.type]
        found = []
        for start in range(0, len(self._y_targets), at_once):
            x = self._x_targets[start : start + at_once]
            found.append(self._trainers[0].logits(model, self._on_device(x), mirrored=self._tta))
        return torch.cat(found).cpu().numpy()

    @abc.abstractmethod
    def _network(self) -> networks.Network: ...

    def _new_trainer(self) -> NetworkTrainer:
        stream = CudaStream(self.device, capture=self._capture) if self.device.type == "cuda" else Stream()
        return NetworkTrainer(
            self._network(), self.recipe, self._pool, self._size, self._precision, self.device, stream
        )

    def _source(self, dataset: Dataset, resident: bool, ffcv_file: str, workers: int) -> Pool | Source:
        if ffcv_file:
            return ffcv.FfcvSource(ffcv_file, dataset, workers)
        if not resident:
            return ArraySource(dataset.x, dataset.y)
        return Pool(self._on_device(dataset.x), self._on_device(dataset.y.astype(np.int64)))

    def _on_device(self, array: np.ndarray | torch.Tensor) -> torch.Tensor:
        """Return an array as a tensor on the device, copied only if it must be."""
        if isinstance(array, np.ndarray):
            array = torch.from_numpy(np.require(array, requirements=["C", "W"]))
        return array.to(self.device)


class ArraySource:
    """Reads minibatches from an array in memory, or from a memory-mapped file; a `Source`."""

    def __init__(self, x: np.ndarray, y: np.ndarray):
        self._x, self._y = x, y.astype(np.int64)

    def __call__(self, order: np.ndarray):
        for examples in order:
            yield torch.from_numpy(self._x[examples]), torch.from_numpy(self._y[examples])


class ResNet9(ImageTrainer):
    """Trains ResNet-9s on small images, of 16 x 16 pixels or more; width 64 as published.

    Recipes: paper (24 epochs) and fast (10 epochs).
    """

    smallest = 16
    recipes: ClassVar = {"paper": PAPER, "fast": FAST}

    def _network(self) -> networks.Network:
        return networks.resnet9(self.classes, self._width, fast=self.recipe.optimiser == "muon")


class ResNet18(ImageTrainer):
    """Trains ResNet-18s on images of 32 x 32 pixels or more; width 64 as published.

    Recipe: paper (15 epochs, for FMoW).
    """

    smallest = 32
    recipes: ClassVar = {"paper": SATELLITE}

    def _network(self) -> networks.Network:
        return networks.resnet18(self.classes, self._width)


def _with_changes(recipes: Mapping[str, ImageRecipe], name: str, **changes: Any) -> ImageRecipe:
    if name not in recipes:
        raise SpecError(f"trainer.options.recipe = {name!r}: must be {' or '.join(recipes)} for this trainer")
    return dataclasses.replace(recipes[name], **{k: v for k, v in changes.items() if v is not None})
