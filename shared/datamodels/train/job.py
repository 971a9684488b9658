"""Run a trainer's job: train a chunk of models, and commit them sub-chunk by sub-chunk.

The job keeps no state. It asks the aggregator what is committed, so a job that was killed starts again and does the
rest. A sub-chunk is committed while the first batch of the next one trains. No further batch starts before the commit
is acknowledged. So a kill loses the sub-chunk in training; if it comes during a commit, it loses that sub-chunk and one
batch.
"""

from __future__ import annotations

import dataclasses
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol, TypeVar

import numpy as np

from datamodels.errors import DeadlineError, StoreUnavailableError, UnavailableError
from datamodels.run import designs, precision
from datamodels.run.designs import Design
from datamodels.run.runs import Run
from datamodels.telemetry import carried
from datamodels.train.batches import Batches, Stopped, unusable, widened
from datamodels.train.contract import model_seed
from datamodels.train.failures import Failures
from datamodels.train.observer import Observer
from datamodels.train.protocols import BatchTrainer

PATIENCE = 600.0
"""Seconds for which a call is repeated by default."""
LONGEST = 30.0
"""Most seconds between two tries."""

T = TypeVar("T")


class Sampler(Protocol):
    """The calls that the job makes to the sampler service; `rpc.clients.sampler` has them."""

    def subsets(self, design: Design, first: int, last: int) -> np.ndarray: ...


class Committed(Protocol):
    def covers(self, models: range) -> bool:
        """Return whether all of these models are committed."""


class Aggregator(Protocol):
    """The calls that the job makes to the aggregator service; `rpc.clients.aggregator` has them."""

    def progress(self, run: str) -> Committed: ...

    def put(
        self,
        run: str,
        models: range,
        model_index: np.ndarray,
        outputs: np.ndarray,
        failed: dict[int, str],
        retried: Sequence[int],
        seconds: float,
    ) -> bool: ...


@dataclasses.dataclass(frozen=True)
class SubChunk:
    """Outputs of the models of one sub-chunk.

    models       first <= index < last
    model_index  int32[r]; models with outputs, ascending
    outputs      [r, n], in the type that the run stores
    failed       models without outputs, each with the reason
    retried      models of `model_index` that were trained with their second seed, ascending
    seconds      from asking for their subsets to their last outputs
    """

    models: range
    model_index: np.ndarray
    outputs: np.ndarray
    failed: dict[int, str]
    retried: list[int]
    seconds: float


def run_chunk(
    run: Run,
    chunk: int,
    trainer: BatchTrainer,
    sampler: Sampler,
    aggregator: Aggregator,
    stop: threading.Event,
    observer: Observer | None = None,
    failures: Failures | None = None,
    patience: float = PATIENCE,
) -> bool:
    """Train and commit the models of a chunk that are not committed yet.

    failures  counts failed models; give the same for all chunks of a process
    patience  seconds to wait for an aggregator that does not answer; without a sampler, subsets are drawn here

    Returns False if `stop` was set before all were committed. Raises ConfigError if the trainer broke its contract, too
    many models failed, or outputs say nothing about subsets, SpecError if there is no such chunk, and what the clients
    raise; complete sub-chunks are committed first.
    """
    observer, failures = observer or Observer(), failures or Failures(run)
    try:
        progress = patiently(lambda: aggregator.progress(run.name), stop, patience)
    except Stopped:
        return False
    missing = missing_sub_chunks(run, chunk, progress)
    with _Committer(run, aggregator, stop, observer, patience) as committer:
        batches = Batches(run, trainer, stop, observer, between=committer.wait)
        for models in missing:
            try:
                done = train_sub_chunk(run, models, batches, sampler, observer, failures)
            except Stopped:
                return False
            committer.commit(done)
    return not committer.abandoned


def missing_sub_chunks(run: Run, chunk: int, progress: Committed) -> list[range]:
    """Return the sub-chunks of a chunk that are not committed, in order. Raises SpecError if there is no such chunk."""
    return [models for models in run.spec.sub_chunks(run.spec.chunk_range(chunk)) if not progress.covers(models)]


def train_sub_chunk(
    run: Run, models: range, batches: Batches, sampler: Sampler, observer: Observer, failures: Failures
) -> SubChunk:
    """Train the models of a sub-chunk. Raises Stopped if the job is stopped meanwhile, ConfigError as `run_chunk`.

    A model on which the trainer raises, or whose outputs cannot be used, is trained once more, on the same subset, with
    the seed of attempt 1: after the others, or at once if too many have failed.
    """
    started = time.perf_counter()
    subsets = fetch_subsets(run, models, sampler, observer)
    observer.fetched(time.perf_counter() - started)
    outputs = np.zeros((len(models), run.n), dtype=np.float32)
    waiting: dict[int, str] = {}
    failed: dict[int, str] = {}
    retried: list[int] = []

    def train(chosen: Sequence[int], attempt: int) -> Iterator[tuple[int, dict[int, str]]]:
        """Train models; yield, batch by batch, how many are done, and the failed ones, each with the reason."""
        nonlocal outputs
        rows = [model - models.start for model in chosen]
        for batch, found in batches.batches(chosen, [subsets[row] for row in rows], attempt):
            if isinstance(found, str):
                yield batch.stop, {chosen[batch.start]: found}
            else:
                outputs = widened(outputs, found)
                outputs[rows[batch]] = found
                failures.saw(chosen[batch], found)
                began = time.perf_counter()
                if not attempt and failures.look(batches, chosen[batch], [subsets[row] for row in rows[batch]], found):
                    observer.looked(time.perf_counter() - began)
                yield batch.stop, unusable(chosen[batch], found, run.dtype)

    def train_again() -> None:
        observer.retried(waiting)
        second = {model: why for _, faults in train(list(waiting), 1) for model, why in faults.items()}
        failed.update({model: _reason(run, model, waiting[model], why) for model, why in second.items()})
        retried.extend(model for model in waiting if model not in second)
        waiting.clear()

    for done, faults in train(models, 0):
        waiting |= faults
        if faults and failures.too_many(models[:done], failed | waiting):
            train_again()
            if failures.too_many(models[:done], failed):
                break
    if waiting:
        train_again()
    if failed:
        observer.failed(failed)
    failures.add(models[:done], failed)
    kept = np.array([model not in failed for model in models])
    outputs = outputs[kept]
    observer.coarse(int(np.count_nonzero(precision.spread(outputs, run.dtype).coarse)), run.dtype)
    index = np.array(models, dtype=np.int32)[kept]
    seconds = time.perf_counter() - started
    return SubChunk(models, index, precision.stored(outputs, run.dtype), failed, sorted(retried), seconds)


def _reason(run: Run, model: int, first: str, second: str) -> str:
    seeds = [model_seed(run.spec.seed, model, attempt) for attempt in (0, 1)]
    again = "the same" if second == first else second
    return f"model {model} (seed {seeds[0]}): {first}; again with seed {seeds[1]}: {again}"


def fetch_subsets(run: Run, models: range, sampler: Sampler, observer: Observer) -> list[np.ndarray]:
    """Return the training examples of each model, int32[k], ascending. Models of one subset share the array.

    If no sampler answers, the subsets are drawn here: they follow from the design and the index.
    """
    index = [run.spec.subset_index(model) for model in models]
    span = index[0], index[-1] + 1
    try:
        packed = sampler.subsets(run.design, *span)
    except (UnavailableError, DeadlineError) as error:
        observer.drawn_here(str(error))
        packed = designs.subsets(run.design, *span)
    masks = designs.unpack(packed, run.design.columns)
    examples = [run.design.members(np.flatnonzero(mask)) for mask in masks]
    return [examples[i - index[0]] for i in index]


def patiently(call: Callable[[], T], stop: threading.Event, patience: float = PATIENCE) -> T:
    """Return the result of an idempotent call, which is repeated while the service or its store does not answer.

    Waits between tries double up to LONGEST, and are random, so that thousands of trainers do not come back at once.

    Raises what the last try raised, and Stopped if `stop` is set meanwhile.
    """
    ends, wait = time.monotonic() + patience, 1.0
    while True:
        try:
            return call()
        except (UnavailableError, DeadlineError, StoreUnavailableError):
            pause = wait * random.uniform(0.5, 1.0)
            if time.monotonic() + pause > ends:
                raise
            if stop.wait(pause):
                raise Stopped from None
            wait = min(2 * wait, LONGEST)


class _Committer:
    """Commits one sub-chunk at a time in a thread of its own. Leaving the context waits for the last commit."""

    def __init__(self, run: Run, aggregator: Aggregator, stop: threading.Event, observer: Observer, patience: float):
        self._run, self._aggregator, self._stop, self._observer = run, aggregator, stop, observer
        self._patience = patience
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="commit")
        self._pending: Future[bool] | None = None
        self.abandoned = False

    def __enter__(self) -> _Committer:
        return self

    def __exit__(self, kind, error, trace) -> None:
        try:
            self.wait()
        except Exception as late:
            if error is None:
                raise
            error.add_note(f"and the sub-chunk before it was not committed: {late}")
        finally:
            self._thread.shutdown()

    def commit(self, done: SubChunk) -> None:
        """Start to commit a sub-chunk, after the one before it is committed. Raises what that commit raised."""
        self.wait()
        self._pending = self._thread.submit(carried(self._commit), done)

    def wait(self) -> None:
        """Wait for the commit in progress. Raises what it raised."""
        if self._pending is None:
            return
        started = time.perf_counter()
        pending, self._pending = self._pending, None
        self.abandoned |= not pending.result()
        self._observer.waited(time.perf_counter() - started)

    def _commit(self, done: SubChunk) -> bool:
        """Return True once the sub-chunk is committed, False if the service does not answer and `stop` is set."""
        outputs = done.model_index, done.outputs, done.failed, done.retried, done.seconds
        try:
            patiently(lambda: self._aggregator.put(self._run.name, done.models, *outputs), self._stop, self._patience)
        except Stopped:
            return False
        self._observer.committed(done.models)
        return True
