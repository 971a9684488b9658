"""Train models batch by batch with the user's class; check its outputs; halve the batch if memory runs out.

If the class raises on a batch, its halves are trained apart, so that only the models on which it raises are lost.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from datamodels.errors import ConfigError, DatamodelsError, ExitCode, StageError
from datamodels.run import precision, user_code
from datamodels.run.runs import Run
from datamodels.train import device
from datamodels.train.contract import OneByOne, as_outputs, model_seed, models_at_once
from datamodels.train.observer import Observer
from datamodels.train.protocols import BatchTrainer


@dataclasses.dataclass(frozen=True)
class _NoMemory:
    why: str


class Stopped(Exception):
    """Raised by `Batches.train` if `stop` is set before all models are trained."""


class Batches:
    """Trains the models of a run.

    models_at_once  the most models of a batch; halved each time that memory runs out
    raised          models of the last call of `train` on which the trainer raised, each with the reason
    between         called after each batch
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
        self.raised: dict[int, str] = {}
        self._run, self._trainer, self._stop, self._observer, self._between = run, trainer, stop, observer, between

    def train(self, models: Sequence[int], subsets: Sequence[np.ndarray], attempt: int = 0) -> np.ndarray:
        """Train models and return their outputs, float[r, n], as the trainer returned them; NaN where it raised.

        models   r indices of models
        subsets  the examples that each is trained on, int32[k]
        attempt  0, or 1 for the second seed of the models

        Raises what `batches` raises, and ConfigError naming the first model if the trainer raised on all of them, with
        their first seed.
        """
        outputs, self.raised = np.zeros((len(models), self._run.n), dtype=np.float32), {}
        for rows, found in self.batches(models, subsets, attempt):
            if isinstance(found, str):
                self.raised[models[rows.start]] = found
            else:
                outputs = widened(outputs, found)
            outputs[rows] = np.nan if isinstance(found, str) else found
        if self.raised and len(self.raised) == len(models) and not attempt:
            seed = model_seed(self._run.spec.seed, models[0])
            raise ConfigError(f"{self._run.spec.trainer.cls} on {_named(models[:1], [seed])} {self.raised[models[0]]}")
        return outputs

    def again(self, model: int, subset: np.ndarray) -> np.ndarray:
        """Train one model alone, unseen by the observer; return its outputs, float[n], NaN if that fails."""
        try:
            found = self._attempt([model], [subset], 0, Observer())
        except ConfigError:
            return np.full(self._run.n, np.nan)
        return np.full(self._run.n, np.nan) if isinstance(found, str | _NoMemory) else found[0]

    def batches(
        self, models: Sequence[int], subsets: Sequence[np.ndarray], attempt: int = 0
    ) -> Iterator[tuple[slice, np.ndarray | str]]:
        """Train models as `train` does, and yield the rows and the outputs, float[b, n], of each batch in order.

        A model on which the trainer raises is a batch of its own: with the reason, instead of its outputs.

        Raises ConfigError naming the models if the trainer broke its contract, StageError (transient) if there is not
        enough memory for a single model or the device failed, Stopped once `stop` is set.
        """
        done, ends = 0, [len(models)]
        while done < len(models):
            if self._stop.is_set():
                raise Stopped
            started = time.perf_counter()
            rows = slice(done, done + next_batch(ends[-1] - done, self.models_at_once))
            found = self._attempt(models[rows], subsets[rows], attempt, self._observer)
            if isinstance(found, _NoMemory):
                self._halve(models[rows], found.why)
                continue
            if isinstance(found, str) and rows.stop - done > 1:
                ends += [rows.stop, (done + rows.stop) // 2]
                continue
            done = rows.stop
            while ends and ends[-1] <= done:
                ends.pop()
            self._observer.trained(rows.stop - rows.start, time.perf_counter() - started)
            self._between()
            yield rows, found

    def _attempt(
        self, models: Sequence[int], subsets: Sequence[np.ndarray], attempt: int, observer: Observer
    ) -> np.ndarray | str | _NoMemory:
        """Return outputs float[r, n] of one batch, why the trainer raised, or where memory ran out."""
        seeds = [model_seed(self._run.spec.seed, model, attempt) for model in models]
        cls, who = self._run.spec.trainer.cls, _named(models, seeds)
        try:
            # Copies, because a user's code may shuffle them in place, and several models have the same ones.
            given = [subset.copy() for subset in subsets]
            outputs = as_outputs(self._trainer.outputs_many(self._trainer.train_many(given, seeds)))
        except user_code.ANYTHING as error:
            user_code.pass_on(error)
            if device.out_of_memory(error):
                return _NoMemory(user_code.why(error))
            reason = f"raised {user_code.why(error)}"
            if isinstance(error, DatamodelsError):  # its message says that no other subset or seed will help
                raise ConfigError(f"{cls} on {who} {reason}") from error
            if device.failed(error):
                raise StageError(f"the GPU failed: {cls} on {who} {reason}", ExitCode.TRANSIENT) from error
            observer.raised(who, user_code.trace(error))
            return reason
        self._require_outputs(outputs, len(models), f"for {who}")
        if beyond := self._run.output.beyond(outputs):
            raise ConfigError(f"{cls} on {who}: {beyond}")
        return outputs

    def _require_outputs(self, outputs: np.ndarray, models: int, who: str) -> None:
        """Raise ConfigError for anything but float[models, n], in terms of what the user's method returns."""
        n, single = self._run.n, isinstance(self._trainer, OneByOne)
        if outputs.shape == (models, n) and outputs.dtype.kind in "fiu":
            return
        cls, shape = self._run.spec.trainer.cls, outputs.shape[1:] if single else outputs.shape
        must = f"float[{n}], a number" if single else f"float[{models}, {n}], a row for each model and a column"
        given = f"outputs {outputs.dtype}{list(shape)}"
        if outputs.dtype == object and all(found is None for found in outputs.flat):
            given = f"None as outputs, as if `{'outputs' if single else 'outputs_many'}` had no `return`,"
        elif outputs.dtype == object:
            given = f"outputs that are no array of numbers, such as a {type(outputs.flat[0]).__name__},"
        raise ConfigError(f"{cls} gave {given} {who}: must be {must} for each target")

    def _halve(self, models: Sequence[int], why: str) -> None:
        """Halve the batch. Called after the exception is gone, because its traceback keeps the failed models alive."""
        if len(models) == 1:
            raise StageError(
                f"model {models[0]}: out of memory with one model at a time, {why}; give the trainer more memory, or "
                "train a smaller model",
                ExitCode.TRANSIENT,
            )
        device.free()
        self.models_at_once = len(models) // 2
        self._observer.halved(len(models), self.models_at_once)


def widened(outputs: np.ndarray, batch: np.ndarray) -> np.ndarray:
    """Return outputs in a type that loses nothing of a batch: float64 if the batch has more digits than float32."""
    return outputs.astype(np.result_type(outputs, batch), copy=False)


def next_batch(left: int, most: int) -> int:
    """Return the size of the next batch if `left` models are trained in as few, equal batches of at most `most`."""
    return left // -(-left // most)


def unusable(models: Sequence[int], outputs: np.ndarray, dtype: str) -> dict[int, str]:
    """Return the models whose outputs, float[r, n], cannot be stored in a type, each with the reason."""
    bad = np.flatnonzero(~np.isfinite(precision.stored(outputs, dtype)).all(axis=1))
    return {models[i]: precision.fault(outputs[i], dtype) for i in bad.tolist()}


def _named(models: Sequence[int], seeds: Sequence[int]) -> str:
    if len(models) == 1:
        return f"model {models[0]} (seed {seeds[0]})"
    return f"a model of {models[0]} to {models[-1]} (seeds {seeds[0]} to {seeds[-1]})"
