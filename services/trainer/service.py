"""Run a trainer: read arguments and settings, train chunks of a run, return an exit code."""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Sequence

from datamodels.errors import ConfigError, DatamodelsError, ExitCode
from datamodels.rpc.clients.aggregator import AggregatorClient
from datamodels.rpc.clients.sampler import SamplerClient
from datamodels.rpc.serve import Server
from datamodels.run import runs, trust
from datamodels.settings import ClientSettings, IndexedJobSettings, ServeSettings, TelemetrySettings, TrainerSettings
from datamodels.telemetry import configure_logging, logger, of_process, start, tracing
from datamodels.train.batches import Stopped
from datamodels.train.contract import load_trainer
from datamodels.train.device import limit_threads
from datamodels.train.failures import Failures
from datamodels.train.job import patiently, run_chunk
from datamodels.train.protocols import BatchTrainer

from . import shares
from .metrics import CHUNK, Heartbeat, Watch
from .shares import Shares

log = logger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Train chunks of a run until they are done or the process is told to stop. Returns the exit code."""
    options = _parser().parse_args(arguments)
    configure_logging(TelemetrySettings(), "trainer")  # so that an error in the settings is logged, too
    try:
        start(TelemetrySettings.load(), "trainer")
        of_process(run=options.run)
        shared = options.chunks is None or options.indexes  # else the index, which any Job sets, means nothing here
        job = IndexedJobSettings.load() if shared else IndexedJobSettings()
        chosen = shares.parse(options.chunks, options.indexes, job, options.helps)
        with Server(ServeSettings.load(), name="trainer") as server:
            server.handle_signals()
            log.info("started", run=options.run, chunks=len(chosen.own()), metrics_address=server.metrics_address)
            whole = train_chunks(options.run, chosen, ClientSettings.load(), TrainerSettings.load(), server.stopping)
        log.info("done" if whole else "stopped", run=options.run)
        return int(ExitCode.DONE if whole else ExitCode.TERMINATED)
    except DatamodelsError as error:
        log.error(str(error), error=type(error).__name__, run=options.run)
        return int(error.exit_code)
    finally:
        tracing.stop()  # the process ends without the functions that an interpreter calls at its exit


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m datamodels.services.trainer", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("--run", required=True, help="the run's name")
    parser.add_argument("--chunks", help="chunks to train, such as 0-3,7; default: the index of the Kubernetes Job")
    parser.add_argument("--indexes", type=int, default=0, help="indexes of the Kubernetes Job that share those chunks")
    parser.add_argument("--helps", action="store_true", help="only take chunks that the indexes of another Job leave")
    return parser


def train_chunks(
    name: str, chosen: Shares, clients: ClientSettings, settings: TrainerSettings, stop: threading.Event
) -> bool:
    """Train the chunks of a trainer's own share in order, and then chunks that others have left.

    Returns False if `stop` was set before all were committed. Raises DatamodelsError.
    """
    heartbeat = Heartbeat(settings.heartbeat_file)
    with (
        AggregatorClient(clients.aggregator, clients) as aggregator,
        SamplerClient(clients.sampler, clients) as sampler,
    ):
        try:
            run = patiently(lambda: aggregator.run(name), stop, settings.patience)
        except Stopped:
            return False
        for chunk in chosen.chunks:
            run.spec.chunk_range(chunk)
        trainer = prepare(run, settings.spec)
        failures = Failures(run, settings.tolerated_failures, settings.tolerated_difference, looks=True)
        heartbeat.beat()

        def train(chunk: int) -> bool:
            CHUNK.set(chunk)
            started, watch = time.perf_counter(), Watch(heartbeat)
            with tracing.span(f"train chunk {chunk}", run=name, chunk=chunk):
                whole = run_chunk(run, chunk, trainer, sampler, aggregator, stop, watch, failures, settings.patience)
            seconds = round(time.perf_counter() - started, 3)
            log.info("chunk done" if whole else "chunk left", chunk=chunk, seconds=seconds, **watch.summary())
            return whole

        def left() -> int | None:
            progress = patiently(lambda: aggregator.progress(name), stop, settings.patience)
            return chosen.of_others(lambda chunk: progress.covers(run.spec.chunk_range(chunk)))

        with limit_threads(settings.threads):
            if not all(map(train, chosen.own())):
                return False
            try:
                while (other := left()) is not None:
                    log.info("takes a chunk of another index", chunk=other)
                    if not train(other):
                        return False
            except Stopped:
                return False
    return True


def prepare(run: runs.Run, spec: str = "") -> BatchTrainer:
    """Return the trainer of a run, on its data set.

    spec  SHA-256 of the spec whose code may be imported; empty if there is none

    Raises SpecError, and ConfigError if the run has another spec, or the data set differs here.
    """
    if spec:
        trust.trust_run(run.name, run.spec, spec)
    dataset = runs.load_dataset(run.spec)
    here = runs.resolve(run.spec, dataset, declared=run.declared)
    changed = runs.changes(run.document(), here.document())
    if changed:
        raise ConfigError(
            f"run {run.name}: its data set gives another {', '.join(changed)} here than when the run was created; "
            "give the trainer the same data and package versions"
        )
    return load_trainer(run.spec, dataset, dataset.targets(run.spec.targets))
