"""Measure how fast models train on this machine, by training some as the local runner does. No model is kept.

Trainers spend time on more than training: they fetch subsets, send outputs, wait until these are committed, and share
the machine with the services. So a trial starts real services on a temporary store, and processes that do the work of a
trainer. `python -m datamodels.plan.trial` is such a process.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from datamodels.errors import DatamodelsError, ExitCode, StageError
from datamodels.plan.cost import Speed
from datamodels.rpc.clients.aggregator import AggregatorClient
from datamodels.rpc.clients.sampler import SamplerClient
from datamodels.run import runs, specs, trust
from datamodels.run.dataset import Dataset
from datamodels.run.runs import Run
from datamodels.runners.local import LocalRunner
from datamodels.settings import ClientSettings, StoreSettings, TrainerSettings
from datamodels.train.contract import load_trainer
from datamodels.train.device import limit_threads
from datamodels.train.failures import Failures
from datamodels.train.job import run_chunk
from datamodels.train.observer import Observer

CHUNKS = 1000
"""Least number of chunks of a trial, so that there is always another batch to train."""


def measure(given: Run, dataset: Dataset, *, trainers: int, seconds: float) -> Speed:
    """Train models of a run for about `seconds`, and return the speed.

    All processes start together and measure together, so that they share the machine as the trainers of a run do.
    Raises their errors as a StageError with the same exit code.
    """
    chosen = given.spec
    longer = {"m": max(chosen.m, CHUNKS * chosen.chunk)}
    run = runs.resolve(specs.parse(chosen.document() | longer), dataset, declared=given.declared)
    with (
        tempfile.TemporaryDirectory() as folder,
        _services(Path(folder), run) as services,
        _workers(run, services, trainers, seconds) as connections,
    ):
        starts = [_answer(connection) for connection in connections]
        for connection in connections:
            with contextlib.suppress(BrokenPipeError):
                connection.send("go")
        paces = [_answer(connection) for connection in connections]
    return Speed(
        each=1 / sum(1 / pace["each"] for pace in paces),
        start=float(np.mean([start["seconds"] for start in starts]) - np.mean([pace["batch"] for pace in paces])),
        trainers=trainers,
    )


@contextlib.contextmanager
def _services(folder: Path, run: Run) -> Iterator[ClientSettings]:
    """Start the services that trainers call, with a store in the folder, and create the run. Yields their addresses."""
    runner = LocalRunner(folder, store=StoreSettings(url=f"file://{folder}/store"), trainers=1)
    with runner.services(("sampler", "aggregator")) as services:
        with AggregatorClient(services.aggregator, services) as aggregator:
            aggregator.create_run(run)
        yield services


@contextlib.contextmanager
def _workers(run: Run, services: ClientSettings, count: int, seconds: float) -> Iterator[list[Connection]]:
    with contextlib.ExitStack() as stack:
        connections = []
        for worker in range(count):
            ours, theirs = Pipe()
            born, file = time.time(), theirs.fileno()
            # Each process gets its own session, like the trainers of the local runner: only the parent handles Ctrl-C,
            # and Linux divides a busy machine among sessions.
            process = subprocess.Popen(
                [sys.executable, "-m", __spec__.name, str(file)], pass_fds=[file], start_new_session=True
            )
            theirs.close()
            stack.callback(ours.close)
            stack.callback(process.wait)
            stack.callback(process.kill)
            chunks = range(worker, run.spec.chunks, count)
            with contextlib.suppress(BrokenPipeError):  # it died: see `_answer`
                ours.send((run.name, run.spec.hash, chunks, dataclasses.asdict(services), seconds, born))
            connections.append(ours)
        yield connections


def _answer(connection: Connection) -> dict[str, Any]:
    try:
        answer = connection.recv()
    except (EOFError, ConnectionError):
        raise StageError("a trainer of the trial died; is there enough memory?", ExitCode.TRANSIENT) from None
    if "error" in answer:
        raise StageError(answer["error"], answer["code"])
    return answer


class _Clock(Observer):
    """Reports the first batch, waits for the signal to continue, and stops the job after `seconds`.

    born  time.time() when the process was started
    """

    def __init__(self, connection: Connection, seconds: float, born: float):
        self.stop = threading.Event()
        self._connection, self._seconds, self._born = connection, seconds, born
        self._started = self._ended = self._looked = 0.0
        self._models = self._batches = 0

    def trained(self, models: int, seconds: float) -> None:
        if not self._started:
            self._connection.send({"seconds": time.time() - self._born})
            self._connection.recv()
            self._started, self._looked = time.perf_counter(), 0.0
            return
        self._started += self._looked  # the time between the batch before and this one was for something else
        self._looked = 0.0
        self._ended = time.perf_counter()
        self._models += models
        self._batches += 1
        if self._ended - self._started >= self._seconds:
            self.stop.set()

    def looked(self, seconds: float) -> None:
        self._looked += seconds

    def pace(self) -> dict[str, float]:
        """Return seconds per model and per batch, including the time between batches."""
        taken = self._ended - self._started
        return {"each": taken / self._models, "batch": taken / self._batches}


def _work(connection: Connection) -> None:
    """Report when the first batch is trained, and, after the signal to continue, the speed of the others."""
    name, spec, chunks, addresses, seconds, born = connection.recv()
    services, clock = ClientSettings(**addresses), _Clock(connection, seconds, born)
    try:
        with (
            AggregatorClient(services.aggregator, services) as aggregator,
            SamplerClient(services.sampler, services) as sampler,
        ):
            run = aggregator.run(name)
            trust.trust_run(run.name, run.spec, spec)
            dataset = runs.load_dataset(run.spec)
            trainer = load_trainer(run.spec, dataset, dataset.targets(run.spec.targets))
            settings = TrainerSettings.load()
            failures = Failures(run, settings.tolerated_failures, settings.tolerated_difference, looks=True)
            with limit_threads(settings.threads):
                for chunk in chunks:
                    if not run_chunk(run, chunk, trainer, sampler, aggregator, clock.stop, clock, failures):
                        break
        connection.send(clock.pace())
    except DatamodelsError as error:
        connection.send({"error": str(error), "code": int(error.exit_code)})


if __name__ == "__main__":
    with contextlib.suppress(EOFError, ConnectionError):  # the parent is gone, so nobody needs the answer
        _work(Connection(int(sys.argv[1])))
    sys.stdout.flush()
    os._exit(0)  # ends as a trainer does
