"""Row f1, kills: SIGKILL of the aggregator while three writers race for every sub-chunk, on a local store and on S3.

The invariants are those of the commit protocol: what was acknowledged is kept, as the writer sent it that was told so
(I1); no manifest lists a model twice (I2); every listed part exists (I3) and has its checksum (I4). Null controls are
aggregators that break a promise; the same check must find each of them.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from datamodels.aggregate import manifest
from datamodels.errors import DatamodelsError, DeadlineError, StoreUnavailableError, UnavailableError
from datamodels.rpc.clients.aggregator import AggregatorClient
from datamodels.run.runs import Run
from datamodels.settings import AggregatorSettings, ClientSettings, ServeSettings, StoreSettings, TelemetrySettings
from datamodels.storage import ObjectStore, open_store
from datamodels.testing import committed
from tests.storage.conftest import CREDENTIALS, make_bucket, run_ministack
from tests.torture.broken import STORES
from tests.torture.rows import Budget, Result
from tests.waiting import LIMIT, eventually

WRITERS = 3
KILLS = 6
"""Kills of one run. A new one begins then, because a run that is complete writes no more."""
MODELS = 4000
LATEST = 0.03
"""A kill comes at most so many seconds after a commit: within the next writes."""
CONTROLS = 4
"""Attempts to find that a null control breaks its promise. Each has KILLS kills."""


class Aggregator:
    """A process that can be killed and restarted on its port."""

    def __init__(self, folder: Path, settings: StoreSettings, control: str = ""):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self._file, self.log = folder / "address.json", folder / "aggregator.log"
        given = (
            settings,
            ServeSettings(port=self._port, address_file=str(self._file), follow_stdin=True),
            AggregatorSettings(publish_interval=0.05, preflight_writers=2),
            TelemetrySettings(level="error"),
        )
        self._environ = os.environ | {name: value for one in given for name, value in one.environ().items()}
        module = ["tests.torture.broken", control] if control else ["datamodels.services.aggregator"]
        self._command = [sys.executable, "-m", *module]
        self.start()

    def start(self) -> None:
        self._file.unlink(missing_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, env=self._environ, stdin=subprocess.PIPE, stderr=log, cwd=Path(__file__).parents[2]
            )

    def address(self) -> str:
        running = lambda: self._process.poll() is None  # noqa: E731
        eventually(self._file.exists, while_true=running, detail=self.log.read_text)
        return json.loads(self._file.read_text())["address"]

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdin
        self._process.stdin.close()


def values(run: Run, models: range, writer: int) -> np.ndarray:
    """Return outputs that only this writer would send."""
    return (np.array(models)[:, None] + np.arange(run.n) / 8 + 4096.0 * writer).astype(np.float32)


class Writers:
    """Threads that put all sub-chunks of a run, in nearly the same order, until every put is acknowledged."""

    def __init__(self, run: Run, address: str, seed: str):
        self.acknowledged: list[tuple[range, int, bool]] = []
        self.errors: list[str] = []
        self._run, self._address = run, address
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._write, args=(n, random.Random(f"{seed} {n}"))) for n in range(3)]
        for thread in self._threads:
            thread.start()

    def _write(self, writer: int, rng: random.Random) -> None:
        chunks = (self._run.spec.sub_chunks(self._run.spec.chunk_range(c)) for c in range(self._run.spec.chunks))
        waiting = [models for some in chunks for models in some]
        # Nearly the same order, so that the writers race for each sub-chunk.
        waiting = [waiting[i] for i in np.argsort(np.arange(len(waiting)) + [3 * rng.random() for _ in waiting])]
        with AggregatorClient(self._address, ClientSettings(deadline=LIMIT, attempts=1)) as client:
            while waiting and not self._ended.is_set():
                models = waiting[-1]
                try:
                    was_first = client.put(self._run.name, models, np.array(models), values(self._run, models, writer))
                except (UnavailableError, StoreUnavailableError, DeadlineError):
                    time.sleep(0.02)
                except DatamodelsError as error:
                    self.errors.append(f"{type(error).__name__}: {error}")
                    return
                else:
                    self.acknowledged.append((waiting.pop(), writer, was_first))

    @property
    def busy(self) -> bool:
        return any(thread.is_alive() for thread in self._threads)

    def stop(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()


def violations(store: ObjectStore, run: Run, acknowledged: list[tuple[range, int, bool]]) -> list[str]:
    """Check the invariants, using only the store and what writers were told."""
    newest = manifest.read_newest(store, run.name)
    found = []
    for version in range(newest.version + 1):
        listed = [model for part in manifest.read(store, run.name, version).parts for model in part.models]
        if len(set(listed)) < len(listed):
            found.append(f"I2: manifest {version} lists a model twice")
    try:
        kept = {outputs.models: outputs.outputs for outputs in newest.outputs(store)}
    except DatamodelsError as error:
        return [*found, f"I3, I4: {error}"]
    for models, writer, was_first in acknowledged:
        if models not in kept:
            found.append(f"I1: models {models} of writer {writer} were acknowledged and are gone")
        elif was_first and not np.array_equal(kept[models], values(run, models, writer)):
            found.append(f"I1: models {models} have outputs of another writer than {writer}, who was told to be first")
    return found


def one_run(folder: Path, settings: StoreSettings, seed: str, kills: int, control: str = "") -> tuple[int, list[str]]:
    """Kill the aggregator of a run some times. Returns the number of kills and what was violated."""
    rng = random.Random(seed)
    run = committed.make_run(f"kills-{rng.randrange(10**6)}", m=MODELS, evaluate={"subsets": 0})
    server, done = Aggregator(folder, settings, control), 0
    try:
        address = server.address()
        with AggregatorClient(address, ClientSettings(deadline=LIMIT)) as client:
            client.create_run(run)
        writers = Writers(run, address, seed)
        while done < kills and writers.busy:
            enough = len(writers.acknowledged) + rng.randrange(1, 12)
            eventually(lambda enough=enough: len(writers.acknowledged) >= enough or not writers.busy)
            time.sleep(rng.uniform(0, LATEST))
            server.kill()
            server.start()
            done += 1
            server.address()
        writers.stop()
        server.address()
        try:
            with AggregatorClient(address, ClientSettings(deadline=LIMIT)) as client:
                client.publish(run.name)
        except DatamodelsError as error:
            writers.errors.append(f"PublishManifest: {error}")
        return done, [*writers.errors, *violations(open_store(settings), run, writers.acknowledged)]
    finally:
        server.kill()


@contextlib.contextmanager
def stores(folder: Path) -> Iterator[dict[str, StoreSettings]]:
    """Yield the settings of a local store, and of one on an S3 server of its own."""
    before = dict(os.environ)
    os.environ |= CREDENTIALS | {"AWS_EC2_METADATA_DISABLED": "true", "NO_PROXY": "127.0.0.1"}
    try:
        with run_ministack(folder) as (address, _):
            s3 = StoreSettings(url=f"s3://{make_bucket(address)}", s3_endpoint=address)
            yield {"local": StoreSettings(url=f"file://{folder}/store"), "S3": s3}
    finally:
        os.environ.clear()
        os.environ |= before


def run(folder: Path, seed: int, budget: Budget) -> Result:
    """Kill aggregators, on both stores in turn, then those that break a promise. A round is KILLS kills."""
    result = Result()
    with stores(folder) as places:
        for number in budget:
            place = list(places)[number % 2]
            kills, found = one_run(folder, places[place], f"{seed} {number}", KILLS)
            result.outcomes[f"kills, {place}"] += kills
            result.faults += [f"seed {seed}, round {number}, {place}: {fault}" for fault in found]
    for control in STORES:
        settings = StoreSettings(url=f"file://{folder}/{control}")
        for attempt in range(CONTROLS):
            _, found = one_run(folder, settings, f"{seed} {control} {attempt}", KILLS, control)
            if found:
                result.figures[f"null control {control}"] = found[0].split(":")[0]
                break
        else:
            result.faults.append(f"null control {control}: was not found out")
    return result
