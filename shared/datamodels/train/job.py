"""The trainer's job: a chunk of models, trained and committed sub-chunk by sub-chunk.

What is committed already is asked, not remembered: a job that was killed is started again and does the rest. A
sub-chunk is committed while the first batch of the next one trains; no further batch starts before the commit is
acknowledged. So a kill loses the sub-chunk that is training, or, while one is being committed, that one and a batch.
"""

from __future__ import annotations

import dataclasses
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import numpy as np

from datamodels import sample
from datamodels.errors import ConfigError, DeadlineError, ExitCode, StageError, StoreUnavailableError, UnavailableError
from datamodels.run import Run
from datamodels.sample import Design
from datamodels.train.contract import BatchTrainer, model_seed

PUT_ATTEMPTS = 8
"""Tries of one commit, with waits of 1, 2, 4, ... seconds: two minutes, in which a service can move to another node."""

LARGEST_OUTPUT = float(np.finfo(np.float16).max)
"""Outputs are stored as float16."""


class Sampler(Protocol):
    """What the job asks of the sampler service; `rpc.clients.sampler` is one."""

    def subsets(self, design: Design, first: int, last: int) -> np.ndarray: ...


class Progress(Protocol):
    def covers(self, models: range) -> bool:
        """Whether all of these models are committed."""


class Aggregator(Protocol):
    """What the job asks of the aggregator service; `rpc.clients.aggregator` is one."""

    def progress(self, run: str) -> Progress: ...

    def put(
        self, run: str, models: range, model_index: np.ndarray, outputs: np.ndarray, failed: dict[int, str]
    ) -> bool: ...


class Observer:
    """Told what the job does. This one does nothing with it."""

    def trained(self, models: int, seconds: float) -> None:
        """A batch of models was trained and their outputs made."""

    def failed(self, reasons: dict[int, str]) -> None:
        """Models that gave no usable outputs, and why."""

    def waited(self, seconds: float) -> None:
        """Training stood still for a commit."""

    def committed(self, models: range) -> None:
        """The aggregator has acknowledged a sub-chunk."""


@dataclasses.dataclass(frozen=True)
class SubChunk:
    """Outputs of the models of one sub-chunk.

    models       first <= index < last
    model_index  int32[r]; those that have outputs, ascending
    outputs      float32[r, n]
    failed       the others, and why
    """

    models: range
    model_index: np.ndarray
    outputs: np.ndarray
    failed: dict[int, str]


def run_chunk(
    run: Run,
    chunk: int,
    trainer: BatchTrainer,
    sampler: Sampler,
    aggregator: Aggregator,
    stop: threading.Event,
    observer: Observer | None = None,
) -> bool:
    """Trains and commits what is missing of a chunk. False where `stop` was set before all was committed.

    Raises ConfigError where the trainer raised or broke its contract, SpecError for a chunk that does not exist, and
    what the clients raise. Whatever was whole by then is committed first.
    """
    observer = observer or Observer()
    missing = missing_sub_chunks(run, chunk, aggregator.progress(run.name))
    with _Committer(run, aggregator, stop, observer) as committer:
        for models in missing:
            done = train_sub_chunk(run, models, trainer, sampler, stop, observer, between=committer.settle)
            if done is None:
                return False
            committer.put(done)
    return not committer.abandoned


def missing_sub_chunks(run: Run, chunk: int, progress: Progress) -> list[range]:
    """The sub-chunks of a chunk that are not committed, in order. Raises SpecError where there is no such chunk."""
    return [models for models in run.spec.sub_chunks(run.spec.chunk_range(chunk)) if not progress.covers(models)]


def train_sub_chunk(
    run: Run,
    models: range,
    trainer: BatchTrainer,
    sampler: Sampler,
    stop: threading.Event,
    observer: Observer,
    between: Callable[[], None],
) -> SubChunk | None:
    """Trains the models of a sub-chunk, calling `between` after each batch; None where `stop` was set meanwhile."""
    subsets = fetch_subsets(run, models, sampler)
    outputs = np.empty((len(models), run.n), dtype=np.float32)
    for batch in even_batches(models, trainer.batch):
        if stop.is_set():
            return None
        started = time.perf_counter()
        rows = slice(batch.start - models.start, batch.stop - models.start)
        outputs[rows] = _train(run, trainer, batch, subsets[rows])
        observer.trained(len(batch), time.perf_counter() - started)
        between()
    failed = unusable(run, models, outputs)
    if failed:
        observer.failed(failed)
    kept = np.array([model not in failed for model in models])
    return SubChunk(models, np.array(models, dtype=np.int32)[kept], outputs[kept], failed)


def fetch_subsets(run: Run, models: range, sampler: Sampler) -> list[np.ndarray]:
    """int32 training examples of each model, ascending. Models of one subset share the array."""
    index = [run.spec.subset_index(model) for model in models]
    packed = sampler.subsets(run.design, index[0], index[-1] + 1)
    masks = sample.unpack(packed, run.design.columns)
    examples = [run.design.members(np.flatnonzero(mask)) for mask in masks]
    return [examples[i - index[0]] for i in index]


def even_batches(models: range, most: int) -> Iterator[range]:
    """Splits models into as few batches of at most `most` as it takes, as equal as can be."""
    count = -(-len(models) // most)
    edges = [models.start + len(models) * i // count for i in range(count + 1)]
    return (range(first, last) for first, last in itertools.pairwise(edges))


def unusable(run: Run, models: range, outputs: np.ndarray) -> dict[int, str]:
    """The models whose outputs cannot be recorded, and why."""
    with np.errstate(invalid="ignore"):
        bad = np.flatnonzero(~(np.abs(outputs) <= LARGEST_OUTPUT).all(axis=1))
    return {models[i]: _reason(run, models[i], outputs[i]) for i in bad.tolist()}


def _reason(run: Run, model: int, outputs: np.ndarray) -> str:
    who = f"model {model} (seed {model_seed(run.spec.seed, model)})"
    infinite = int(np.count_nonzero(~np.isfinite(outputs)))
    if infinite:
        return f"{who}: {infinite} of {len(outputs)} outputs are not finite"
    return f"{who}: an output of {np.abs(outputs).max():.4g} is beyond what float16 holds, {LARGEST_OUTPUT:g}"


def _train(run: Run, trainer: BatchTrainer, models: range, subsets: list[np.ndarray]) -> np.ndarray:
    """float[r, n] from the user's class. Raises ConfigError naming the models where it fails."""
    seeds = [model_seed(run.spec.seed, model) for model in models]
    who = f"model {models[0]} (seed {seeds[0]})"
    if len(models) > 1:
        who = f"a model of {models[0]} to {models[-1]} (seeds {seeds[0]} to {seeds[-1]})"
    try:
        outputs = np.asarray(trainer.outputs_many(trainer.train_many(subsets, seeds)))
    except MemoryError as error:
        raise StageError(f"{who}: out of memory; lower trainer.options.batch", ExitCode.TRANSIENT) from error
    except Exception as error:
        raise ConfigError(f"{run.spec.trainer.cls} raised on {who}: {type(error).__name__}: {error}") from error
    if outputs.shape != (len(models), run.n) or outputs.dtype.kind not in "fiu":
        raise ConfigError(
            f"{run.spec.trainer.cls} gave outputs {outputs.dtype}{list(outputs.shape)} for {who}: "
            f"must be float{[len(models), run.n]}, a row for each model and a column for each target"
        )
    return outputs


class _Committer:
    """Commits one sub-chunk at a time in a thread of its own. On the way out it waits for what is under way."""

    def __init__(self, run: Run, aggregator: Aggregator, stop: threading.Event, observer: Observer):
        self._run, self._aggregator, self._stop, self._observer = run, aggregator, stop, observer
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="commit")
        self._under_way: Future[bool] | None = None
        self.abandoned = False

    def __enter__(self) -> _Committer:
        return self

    def __exit__(self, kind, error, trace) -> None:
        try:
            self.settle()
        except Exception as late:
            if error is None:
                raise
            error.add_note(f"and the sub-chunk before it was not committed: {late}")
        finally:
            self._thread.shutdown()

    def put(self, done: SubChunk) -> None:
        """Starts to commit, once the sub-chunk before is committed. Raises what that one raised."""
        self.settle()
        self._under_way = self._thread.submit(self._put, done)

    def settle(self) -> None:
        """Waits for what is under way. Raises what it raised."""
        if self._under_way is None:
            return
        started = time.perf_counter()
        under_way, self._under_way = self._under_way, None
        self.abandoned |= not under_way.result()
        self._observer.waited(time.perf_counter() - started)

    def _put(self, done: SubChunk) -> bool:
        """True once committed, False where the service did not answer and `stop` is set."""
        for attempt in range(1, PUT_ATTEMPTS + 1):
            try:
                self._aggregator.put(self._run.name, done.models, done.model_index, done.outputs, done.failed)
                self._observer.committed(done.models)
                return True
            except (UnavailableError, DeadlineError, StoreUnavailableError):
                if attempt == PUT_ATTEMPTS:
                    raise
                if self._stop.wait(2.0 ** (attempt - 1)):
                    return False
        return False
