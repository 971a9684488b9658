"""What the forked processes do: services, trainers and drivers, as their own main functions do it.

Only three things differ. Trainers write down what they send and what is acknowledged, trainers get all chunks in
different orders so that they race, and the driver's trainers are forked.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import importlib
import json
import os
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from datamodels.services.sampler.service import service as sampler_service
from datamodels.services.trainer import service as trainer

from datamodels.errors import DatamodelsError, ExitCode, StageError
from datamodels.rpc import serve
from datamodels.rpc.clients.aggregator import AggregatorClient
from datamodels.run import specs, trust
from datamodels.run.runs import Run
from datamodels.runners import pipeline
from datamodels.runners.base import SERVICES, Runner
from datamodels.runners.view import Bar, View
from datamodels.settings import ClientSettings, StoreSettings
from datamodels.storage import open_store
from datamodels.testing.linear import Linear
from tests.torture import broken
from tests.torture.kills import forks
from tests.torture.kills.doom import STEP, Doom

TRAINERS = 2
RESTARTS = 20
"""How often a driver starts trainers again."""
POLL = 0.05
"""Seconds between two looks of a driver at its trainers."""


def service(name: str, control: str = "") -> int:
    """Be a service. `control` is the promise that the store of an aggregator breaks."""
    if name == "sampler":
        return serve.main(name, lambda: [sampler_service()])
    if control:
        return serve.main(name, lambda: broken.build(control))
    return serve.main(name, importlib.import_module(f"datamodels.services.{name}.__main__").build)


class Mine(Linear):
    """A trainer whose outputs only this process has, and whose batches are steps at which it may be killed."""

    models_at_once = 2

    def __init__(self, dataset: Any, targets: Any):
        super().__init__(dataset, targets)
        self._shift = random.SystemRandom().random()

    def outputs_many(self, models: Any) -> np.ndarray:
        found = super().outputs_many(models) + self._shift
        sys.audit(STEP, "trained")
        return found


class Recording(AggregatorClient):
    """Writes each acknowledgement to the file in TORTURE_ACKNOWLEDGED."""

    def put(self, run, models, model_index, outputs, failed=None, retried=(), seconds=0.0):
        was_first = super().put(run, models, model_index, outputs, failed, retried, seconds)
        sent = base64.b64encode(np.asarray(outputs, dtype=np.float32).tobytes()).decode()
        line = json.dumps([models.start, models.stop, was_first, sent])
        with open(os.environ["TORTURE_ACKNOWLEDGED"], "a") as file:
            file.write(f"{line}\n")
        return was_first


def train(run: str, chunks: str) -> int:
    """Be a trainer."""
    trainer.AggregatorClient = Recording  # type: ignore[misc]
    return trainer.main(["--run", run, "--chunks", chunks])


class Steps(View):
    """Makes each stage, and each move of its bar, a step at which the driver may be killed."""

    @contextlib.contextmanager
    def stage(self, name: str, unit: str) -> Iterator[Bar]:
        sys.audit(STEP, name)
        yield _Moves(name)


class _Moves(Bar):
    def __init__(self, name: str):
        self._name, self._done = name, -1.0

    def reach(self, done: float, note: str = "", remaining: float | None = None) -> None:
        if done != self._done:
            sys.audit(STEP, self._name)
        self._done = done


@dataclasses.dataclass
class Trainers(Runner):
    """Runs trainers as forked processes. The services are there, as on a cluster.

    server   socket of the server of forks
    environ  of the trainers
    log      file for the trainers' logs
    deaths   file for the names of those that were killed
    dooms    one for each trainer that is started, until there is none left
    orphans  whether trainers live on if the driver is killed
    """

    server: str
    environ: dict[str, str]
    log: str
    deaths: str
    dooms: list[Doom]
    orphans: bool

    @contextlib.contextmanager
    def services(self, names: Sequence[str] = SERVICES) -> Iterator[ClientSettings]:
        yield ClientSettings.load()

    def train(self, run: Run, chunks: Sequence[int], services: ClientSettings, tick: Callable[[], bool]) -> None:
        shares = [",".join(map(str, [*chunks[w:], *chunks[:w]])) for w in range(TRAINERS)]
        running, restarts = {share: self._start(run, share) for share in shares}, 0
        while running:
            time.sleep(POLL)
            tick()
            for share, process in list(running.items()):
                code = process.poll()
                if code is None:
                    continue
                del running[share]
                if code == ExitCode.DONE:
                    continue
                if not (code < 0 or code == ExitCode.TRANSIENT) or restarts == RESTARTS:
                    raise StageError(f"a trainer ended with exit code {code}; its log is {self.log}", code)
                restarts += 1
                running[share] = self._start(run, share)

    def _start(self, run: Run, share: str) -> forks.Forked:
        environ = self.environ | {"DATAMODELS_TRAINER_SPEC": run.spec.hash}
        doom = self.dooms.pop(0) if self.dooms else None
        call = f"{__name__}:train"
        order = forks.Order("trainer", call, (run.name, share), environ, self.log, self.deaths, doom, self.orphans)
        return forks.Forked(self.server, order)


def drive(document: dict[str, Any], trainers: dict[str, Any], dooms: list[dict[str, Any]]) -> int:
    """Be a driver. `trainers` are fields of Trainers, and `dooms` are those of its dooms."""
    spec = specs.parse(document)
    trust.trust_spec(spec)
    runner = Trainers(**trainers, dooms=[Doom(**doom) for doom in dooms])
    try:
        pipeline.run(spec, runner=runner, store=open_store(StoreSettings.load()), view=Steps(), shown=1, top=2)
    except DatamodelsError as error:
        print(f"driver: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        return int(error.exit_code)
    return int(ExitCode.DONE)


def acknowledged(path: Path) -> list[tuple[range, bool, bytes]]:
    """Return what trainers were told: models, whether the trainer was first, and the outputs that it sent."""
    if not path.exists():
        return []
    lines = [line for line in path.read_text().splitlines() if line.endswith("]")]  # one may be cut by a kill
    found = map(json.loads, lines)
    return [(range(first, last), was_first, base64.b64decode(sent)) for first, last, was_first, sent in found]
