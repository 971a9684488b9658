"""Models trained batch by batch by the user's class: its outputs checked, its batches halved when memory runs out."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import numpy as np

from datamodels.errors import ConfigError, ExitCode, StageError, one_line
from datamodels.run.runs import Run
from datamodels.train import device
from datamodels.train.contract import BatchTrainer, model_seed, models_at_once
from datamodels.train.observer import Observer

LARGEST_OUTPUT = float(np.finfo(np.float16).max)
"""Outputs are stored as float16."""


class Stopped(Exception):
    """Raised by `Batches.train` if `stop` is set before all models are trained."""


class Batches:
    """Trains the models of a run.

    models_at_once  what the trainer asks for, and half as many each time that memory runs out
    between         is called after each batch
    """

    def __init__(
        self,
        run: Run,
        trainer: BatchTrainer,
        stop: threading.Event,
        observer: Observer,
        between: Callable[[], None] = lambda: None,
    ):
        self.models_at_once = models_at_once(trainer)
        self._run, self._trainer, self._stop, self._observer, self._between = run, trainer, stop, observer, between

    def train(self, models: Sequence[int], subsets: Sequence[np.ndarray], attempt: int = 0) -> np.ndarray:
        """float32[r, n]: outputs of models trained on subsets.

        Raises ConfigError naming the models where the trainer raised or broke its contract, StageError where there is
        no memory for a single model, Stopped once `stop` is set.
        """
        outputs = np.empty((len(models), self._run.n), dtype=np.float32)
        done = 0
        while done < len(models):
            if self._stop.is_set():
                raise Stopped
            started = time.perf_counter()
            rows = slice(done, done + next_batch(len(models) - done, self.models_at_once))
            found = self._attempt(models[rows], subsets[rows], attempt)
            if found is None:
                self._halve(models[rows])
                continue
            outputs[rows] = found
            done = rows.stop
            self._observer.trained(rows.stop - rows.start, time.perf_counter() - started)
            self._between()
        return outputs

    def _attempt(self, models: Sequence[int], subsets: Sequence[np.ndarray], attempt: int) -> np.ndarray | None:
        """float[r, n] of one batch, or None where memory ran out."""
        seeds = [model_seed(self._run.spec.seed, model, attempt) for model in models]
        cls, who = self._run.spec.trainer.cls, _named(models, seeds)
        try:
            outputs = np.asarray(self._trainer.outputs_many(self._trainer.train_many(subsets, seeds)))
        except (Exception, SystemExit) as error:  # whatever the user's class raises; who calls exit() ends with no word
            if device.out_of_memory(error):
                return None
            raise ConfigError(f"{cls} raised on {who}: {one_line(error)}") from error
        expected = (len(models), self._run.n)
        if outputs.shape != expected or outputs.dtype.kind not in "fiu":
            raise ConfigError(
                f"{cls} gave outputs {outputs.dtype}{list(outputs.shape)} for {who}: "
                f"must be float{list(expected)}, a row for each model and a column for each target"
            )
        return outputs

    def _halve(self, models: Sequence[int]) -> None:
        """After the exception is gone, and with it what it kept alive."""
        if len(models) == 1:
            raise StageError(
                f"model {models[0]}: out of memory with one model at a time; give the trainer more memory, or a "
                "smaller model",
                ExitCode.TRANSIENT,
            )
        device.free()
        self.models_at_once = len(models) // 2
        self._observer.halved(len(models), self.models_at_once)


def next_batch(left: int, most: int) -> int:
    """Models in the next of as few batches of at most `most` as `left` models take, as equal as can be."""
    return left // -(-left // most)


def unusable(models: Sequence[int], outputs: np.ndarray) -> dict[int, str]:
    """The models whose outputs float[r, n] cannot be recorded, and why."""
    with np.errstate(invalid="ignore"):
        bad = np.flatnonzero(~(np.abs(outputs) <= LARGEST_OUTPUT).all(axis=1))
    return {models[i]: _why(outputs[i]) for i in bad.tolist()}


def _why(outputs: np.ndarray) -> str:
    infinite = int(np.count_nonzero(~np.isfinite(outputs)))
    if infinite:
        return f"{infinite} of {len(outputs)} outputs are not finite"
    return f"an output of {np.abs(outputs).max():.4g} is beyond what float16 holds, {LARGEST_OUTPUT:g}"


def _named(models: Sequence[int], seeds: Sequence[int]) -> str:
    if len(models) == 1:
        return f"model {models[0]} (seed {seeds[0]})"
    return f"a model of {models[0]} to {models[-1]} (seeds {seeds[0]} to {seeds[-1]})"
