"""How fast models train here, by training some: in as many processes side by side as the run will have."""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import os
import threading
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from datamodels import run as runs
from datamodels import sample, spec
from datamodels.errors import DatamodelsError, ExitCode, StageError
from datamodels.plan.cost import Speed
from datamodels.sample import Design
from datamodels.settings import TrainerSettings
from datamodels.spec import RunSpec
from datamodels.train.batches import Batches, next_batch
from datamodels.train.contract import load_trainer
from datamodels.train.device import limit_threads
from datamodels.train.job import fetch_subsets
from datamodels.train.observer import Observer


def measure(given: RunSpec, *, trainers: int, seconds: float) -> Speed:
    """Trains models of a run, and keeps none, for about so many seconds after the start.

    All processes start together, as trainers do, and measure together, so that they share the machine as a run's
    trainers will. Raises what they raise, as a StageError with the exit code.
    """
    with _workers(given, trainers, seconds) as connections:
        starts = [_answer(connection) for connection in connections]
        for connection in connections:
            connection.send("go")
        paces = [_answer(connection) for connection in connections]
    return Speed(
        each=1 / sum(1 / pace["each"] for pace in paces),
        start=float(np.mean([start["seconds"] for start in starts]) - np.mean([pace["batch"] for pace in paces])),
        trainers=trainers,
    )


@contextlib.contextmanager
def _workers(given: RunSpec, count: int, seconds: float) -> Iterator[list[Connection]]:
    context = multiprocessing.get_context("spawn")
    settings = dataclasses.asdict(TrainerSettings.load())
    with contextlib.ExitStack() as stack:
        connections = []
        for _ in range(count):
            ours, theirs = context.Pipe()
            arguments = (theirs, given.document(), settings, seconds, time.time())
            process = context.Process(target=_work, args=arguments, daemon=True)
            process.start()
            theirs.close()
            stack.callback(ours.close)
            stack.callback(process.join)
            stack.callback(process.kill)
            connections.append(ours)
        yield connections


def _answer(connection: Connection) -> dict[str, Any]:
    try:
        answer = connection.recv()
    except EOFError:
        raise StageError("a trainer of the trial died; is there enough memory?", ExitCode.TRANSIENT) from None
    if "error" in answer:
        raise StageError(answer["error"], answer["code"])
    return answer


class _HereSampler:
    def subsets(self, design: Design, first: int, last: int) -> np.ndarray:
        return sample.subsets(design, first, last)


def _work(
    connection: Connection, document: dict[str, Any], settings: dict[str, Any], seconds: float, born: float
) -> None:
    # A session of its own, as the local runner's trainers have: Ctrl-C is the parent's to act on, and Linux shares a
    # busy machine out among sessions.
    os.setsid()
    with contextlib.suppress(EOFError, BrokenPipeError):  # the parent is gone, and so is the question
        _answer_twice(connection, document, settings, seconds, born)


def _answer_twice(
    connection: Connection, document: dict[str, Any], settings: dict[str, Any], seconds: float, born: float
) -> None:
    """When the first batch is trained, and, after a word to go on, how fast the others were."""
    try:
        run_batch, size = _prepare(spec.parse(document), TrainerSettings(**settings))
        run_batch(0)
        connection.send({"seconds": time.time() - born})
        connection.recv()
        started, count = time.perf_counter(), 0
        while count == 0 or time.perf_counter() - started < seconds:
            count += 1
            run_batch(count)
        each = (time.perf_counter() - started) / count
        connection.send({"each": each / size, "batch": each})
    except DatamodelsError as error:
        connection.send({"error": str(error), "code": int(error.exit_code)})


def _prepare(given: RunSpec, settings: TrainerSettings):
    """A function that trains the i-th batch of the run, and how many models that is."""
    dataset = runs.load_dataset(given)
    run = runs.resolve(given, dataset)
    trainer = load_trainer(given, dataset, dataset.targets(given.targets))
    limit_threads(settings.threads)
    batches = Batches(run, trainer, threading.Event(), Observer())
    size = next_batch(min(given.sub_chunk, given.m), trainer.batch)

    def run_batch(i: int) -> None:
        first = i * size % max(1, given.m - size)
        models = range(first, first + size)
        batches.train(models, fetch_subsets(run, models, _HereSampler()))

    return run_batch, size
