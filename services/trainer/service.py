"""Run a trainer: read arguments and settings, train chunks of a run, return an exit code."""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Sequence

from datamodels.errors import ConfigError, DatamodelsError, ExitCode, SettingsError
from datamodels.rpc.clients.aggregator import AggregatorClient
from datamodels.rpc.clients.sampler import SamplerClient
from datamodels.rpc.serve import Server
from datamodels.run import runs
from datamodels.settings import ClientSettings, IndexedJobSettings, ServeSettings, TelemetrySettings, TrainerSettings
from datamodels.telemetry import configure_logging, logger
from datamodels.train.batches import Stopped
from datamodels.train.contract import load_trainer
from datamodels.train.device import limit_threads
from datamodels.train.failures import Failures
from datamodels.train.job import patiently, run_chunk
from datamodels.train.protocols import BatchTrainer

from .metrics import CHUNK, Heartbeat, Watch

log = logger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Train chunks of a run until they are done or the process is told to stop. Returns the exit code."""
    options = _parser().parse_args(arguments)
    configure_logging(TelemetrySettings(), "trainer")  # so that an error in the settings is logged, too
    try:
        configure_logging(TelemetrySettings.load(), "trainer")
        shared = options.chunks is None or options.indexes  # else the index, which any Job sets, means nothing here
        job = IndexedJobSettings.load() if shared else IndexedJobSettings()
        chunks = chosen_chunks(options.chunks, options.indexes, job)
        with Server(ServeSettings.load(), name="trainer") as server:
            server.handle_signals()
            log.info("started", run=options.run, chunks=len(chunks), metrics_address=server.metrics_address)
            whole = train_chunks(options.run, chunks, ClientSettings.load(), TrainerSettings.load(), server.stopping)
        log.info("done" if whole else "stopped", run=options.run)
        return int(ExitCode.DONE if whole else ExitCode.TERMINATED)
    except DatamodelsError as error:
        log.error(str(error), error=type(error).__name__, run=options.run)
        return int(error.exit_code)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m datamodels.services.trainer", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("--run", required=True, help="the run's name")
    parser.add_argument("--chunks", help="chunks to train, such as 0-3,7; default: the index of the Kubernetes Job")
    parser.add_argument("--indexes", type=int, default=0, help="indexes of the Kubernetes Job that share those chunks")
    return parser


def chosen_chunks(text: str | None, indexes: int, job: IndexedJobSettings) -> list[int]:
    """Return the chunks to train: those given, or this index's share of them. Raises SettingsError for none."""
    index = job.completion_index
    if text is None or indexes:
        if index < 0:
            raise SettingsError("no chunks: give --chunks 0,1,2, or run in an Indexed Job (JOB_COMPLETION_INDEX)")
        if text is None:
            return [index]
    chunks: list[int] = []
    for piece in text.split(","):
        first, dash, last = piece.partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise SettingsError(
                f"--chunks {text!r:.100}: must be numbers and ranges with commas between, such as 0-3,7"
            )
        chunks += range(int(first), int(last if dash else first) + 1)
    return chunks[len(chunks) * index // indexes : len(chunks) * (index + 1) // indexes] if indexes else chunks


def train_chunks(
    name: str, chunks: Sequence[int], clients: ClientSettings, settings: TrainerSettings, stop: threading.Event
) -> bool:
    """Train chunks in order. Returns False if `stop` was set before all were committed. Raises DatamodelsError."""
    heartbeat = Heartbeat(settings.heartbeat_file)
    with (
        AggregatorClient(clients.aggregator, clients) as aggregator,
        SamplerClient(clients.sampler, clients) as sampler,
    ):
        try:
            run = patiently(lambda: aggregator.run(name), stop, settings.patience)
        except Stopped:
            return False
        for chunk in chunks:
            run.spec.chunk_range(chunk)
        trainer = prepare(run)
        failures = Failures(run, settings.tolerated_failures)
        heartbeat.beat()
        with limit_threads(settings.threads):
            for chunk in chunks:
                CHUNK.set(chunk)
                started, watch = time.perf_counter(), Watch(heartbeat)
                whole = run_chunk(run, chunk, trainer, sampler, aggregator, stop, watch, failures, settings.patience)
                seconds = round(time.perf_counter() - started, 3)
                log.info("chunk done" if whole else "chunk left", chunk=chunk, seconds=seconds, **watch.summary())
                if not whole:
                    return False
    return True


def prepare(run: runs.Run) -> BatchTrainer:
    """Return the trainer of a run, on its data set. Raises SpecError, and ConfigError if the data set differs here."""
    dataset = runs.load_dataset(run.spec)
    here = runs.resolve(run.spec, dataset, declared=run.declared)
    changed = runs.changes(run.document(), here.document())
    if changed:
        raise ConfigError(
            f"run {run.name}: its data set gives another {', '.join(changed)} here than when the run was created; "
            "give the trainer the same data and package versions"
        )
    return load_trainer(run.spec, dataset, dataset.targets(run.spec.targets))
