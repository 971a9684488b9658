"""Row f3, calls: every call of every service, with messages that no client of this package would send."""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
from grpc_health.v1 import health_pb2, health_pb2_grpc

from datamodels.errors import DatamodelsError
from datamodels.rpc import run_codec, status
from datamodels.rpc.clients.aggregator import _messages as messages
from datamodels.run import runs, specs
from datamodels.settings import FitterSettings, ServeSettings, StoreSettings, TelemetrySettings
from datamodels.testing import committed
from datamodels.v1 import aggregator_pb2
from tests.helpers.calls import METHODS, SERVICES, call
from tests.helpers.waiting import eventually
from tests.services.test_every_call import Places, good
from tests.torture.messages import altered
from tests.torture.rows import GRPC_FAULTS, Budget, Result

OPEN = committed.make_run("open", m=100_000)
"""A run whose models are not committed."""

CALL_SECONDS = 120.0
"""A call that takes longer is a fault. Calls take milliseconds, but fits compile loops first, and machines are slow."""
STREAM_SECONDS = 10.0
"""How long a caller stays whose answers never end."""
LEAVE_SECONDS = 0.02
"""How long a caller stays that leaves in the middle of its call."""
LOOK = 5000
"""Calls between two looks at the services, each of which takes as long as 200 calls."""
GROWTH_MB = 200.0
"""By how much a service's memory may grow after the first WARM rounds."""
WARM = 10
MANY = 20
"""Faults after which there is no point in going on."""
THREADS = 8
HEAVY = {"Support": 6, "Evaluate": 6, "Fit": 6, "WatchFit": 6, "Clusters": 60, "Components": 60, "Conflicts": 60}
"""Calls that take longer than others, by about so many times, and are made less often by as many."""
WEIGHTS = [1 / HEAVY.get(method.name, 1) for method in METHODS]


class Call:
    """One call: its method, the messages that it sends, and whether the caller leaves before the answer."""

    def __init__(self, rng: random.Random):
        self.method = rng.choices(METHODS, WEIGHTS)[0]
        self.leaves = rng.random() < 0.03
        self.messages = self._messages(rng)

    def _messages(self, rng: random.Random) -> list[bytes]:
        right = good(self.method)
        if self.method.name == "CreateRun":  # of a run that no other call is about: it may change what outputs mean
            right.record.CopyFrom(run_codec.to_run_record(OPEN))
        kind = rng.random()
        if kind < 0.03:
            return [rng.randbytes(rng.choice((0, 1, 10, 200, 5000)))]
        if kind < 0.07:  # a message of another call
            return [altered(good(rng.choice(METHODS)), rng)]
        if kind < 0.10 and not self.method.client_streaming:  # none, or too many
            return [right.SerializeToString()] * rng.choice((0, 2, 20))
        if self.method.name == "PutOutputs":
            return self._outputs(rng)
        if self.method.name == "CreateRun" and kind < 0.7:
            _rename(right, rng)
            return [right.SerializeToString()]
        return [altered(right, rng)]

    def _outputs(self, rng: random.Random) -> list[bytes]:
        """Return the messages of a sub-chunk that is not committed yet, most often with one of them changed."""
        first = OPEN.spec.sub_chunk * rng.randrange(OPEN.spec.m // OPEN.spec.sub_chunk)
        models = np.arange(first, first + OPEN.spec.sub_chunk, dtype=np.int32)
        failed = {int(models[0]): "torture"} if rng.random() < 0.5 else {}
        index = models[len(failed) :]
        header = aggregator_pb2.PutOutputsRequest.Header(run=OPEN.name, first=first, last=models[-1] + 1)
        sent = messages(header, index, np.zeros((len(index), OPEN.n), "f4"), failed, [])
        stream = list(sent)
        if rng.random() < 0.1:
            rng.shuffle(stream)
        at = rng.randrange(len(stream)) if rng.random() < 0.9 else -1
        return [altered(message, rng) if i == at else message.SerializeToString() for i, message in enumerate(stream)]

    def make(self, channel: grpc.Channel) -> str:
        """Make the call and return the name of its code."""
        began = time.monotonic()
        path = f"/{self.method.containing_service.full_name}/{self.method.name}"
        # A watch lasts as long as what it watches.
        seconds = STREAM_SECONDS if self.method.name.startswith("Watch") else CALL_SECONDS
        try:
            if len(self.messages) == 1 and not self.leaves:  # without a thread that sends: this takes half as long
                if not self.method.server_streaming:
                    channel.unary_unary(path)(self.messages[0], timeout=seconds)
                    return "OK"
                answers = channel.unary_stream(path)(self.messages[0], timeout=seconds)
            else:
                answers = channel.stream_stream(path)(iter(self.messages), timeout=seconds)
            if self.leaves:
                threading.Timer(LEAVE_SECONDS, answers.cancel).start()
            for _ in answers:
                if time.monotonic() - began > STREAM_SECONDS:  # ten million subsets may be asked for
                    answers.cancel()
        except grpc.RpcError as error:
            assert isinstance(error, grpc.Call)
            raised = status.to_error(error, "")
            # A status without an error of this package comes from gRPC itself: for instance the size of a message.
            return f"{error.code().name} {type(raised).__name__}"
        return "OK"

    def __str__(self) -> str:
        return f"{self.method.name} {[message.hex() for message in self.messages]!s:.300}"


def _rename(request: aggregator_pb2.CreateRunRequest, rng: random.Random) -> None:
    """Change the record, and give it the name that belongs to its spec, so that it gets past the check of names."""
    for _ in range(3):
        encoded = altered(request.record, rng)
        with contextlib.suppress(Exception):
            changed = type(request.record).FromString(encoded)
            changed.run = specs.parse(json.loads(changed.spec_json)).run
            request.record.CopyFrom(changed)
            return


class Service:
    """A process of a service."""

    def __init__(self, name: str, folder: Path, store: str):
        self.name = name
        self.log = folder / f"{name}.log"
        self._file = folder / f"{name}.json"
        settings = (
            StoreSettings(url=store),
            ServeSettings(address_file=str(self._file), follow_stdin=True),
            FitterSettings(scratch=str(folder / "scratch"), device="cpu", threads=1),
            TelemetrySettings(level="error"),
        )
        environ = {key: value for one in settings for key, value in one.environ().items()}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", f"datamodels.services.{name}"],
                env=os.environ | environ,
                stdin=subprocess.PIPE,
                stderr=log,
            )

    def address(self) -> str:
        eventually(self._file.exists, while_true=lambda: self.process.poll() is None, detail=self.log.read_text)
        return json.loads(self._file.read_text())["address"]

    def memory(self, which: str = "VmRSS") -> float:
        """Return the process's memory in MB."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(which))

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        if self.process.stdin:
            self.process.stdin.close()


@contextlib.contextmanager
def services(folder: Path) -> Iterator[dict[str, tuple[Service, grpc.Channel]]]:
    """Start all services over one store; yields them by the full name of the gRPC service."""
    places = Places(folder)
    runs.create(places.store, OPEN)
    with contextlib.ExitStack() as stack:
        found = {}
        for full in SERVICES:
            name = full.rpartition(".")[2].removesuffix("Service").lower()
            found[full] = Service(name, folder, places.store.url)
            stack.callback(found[full].close)
        yield {
            full: (service, stack.enter_context(grpc.insecure_channel(service.address())))
            for full, service in found.items()
        }


def faults_of(started: dict[str, tuple[Service, grpc.Channel]]) -> list[str]:
    """Look at the services: they run, are healthy, and answer a good request of each call."""
    found = []
    for full, (service, channel) in started.items():
        if service.process.poll() is not None:
            found.append(f"{service.name} ended with {service.process.returncode}: {service.log.read_text()[-2000:]}")
            continue
        for name in ("", full):
            request = health_pb2.HealthCheckRequest(service=name)
            answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=CALL_SECONDS)
            if answer.status != health_pb2.HealthCheckResponse.SERVING:
                found.append(f"{service.name}: health of {name!r} is {answer.status}")
        for method in METHODS:
            if method.containing_service.full_name == full:
                try:
                    call(channel, method, good(method), timeout=CALL_SECONDS)
                except (grpc.RpcError, DatamodelsError) as error:
                    found.append(f"{method.name}: a good request fails: {error}")
    return found


def make_calls(
    started: dict[str, tuple[Service, grpc.Channel]], rng: random.Random, count: int, result: Result
) -> None:
    """Make some calls, from several threads."""
    asked, lock = [Call(rng) for _ in range(count)], threading.Lock()

    def work() -> None:
        while True:
            with lock:
                if not asked:
                    return
                one = asked.pop()
            began = time.monotonic()
            code = one.make(started[one.method.containing_service.full_name][1])
            late = time.monotonic() - began >= CALL_SECONDS
            with lock:
                result.outcomes[code] += 1
                if late or code.split()[0] in GRPC_FAULTS:
                    result.faults.append(f"{code} after {time.monotonic() - began:.0f} s: {one}")

    threads = [threading.Thread(target=work) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def memory_of(started: dict[str, tuple[Service, grpc.Channel]]) -> dict[str, float]:
    return {service.name: service.memory() for service, _ in started.values() if service.process.poll() is None}


def run(folder: Path, seed: int, budget: Budget) -> Result:
    """Make calls, and look at the services again and again. A round is LOOK calls."""
    result, base = Result.resume(folder, seed, budget), {}
    first = budget.done
    with tempfile.TemporaryDirectory(dir=folder) as here, services(Path(here)) as started:
        for number in budget:
            make_calls(started, random.Random(f"{seed} {number}"), LOOK, result)
            result.faults += faults_of(started)
            if number <= first + WARM:
                base = memory_of(started)
            result.keep(folder, seed, budget)
            if len(result.faults) > MANY:
                break
        for name, now in memory_of(started).items():
            result.figures[f"{name}, MB"] = f"{base[name]:.0f} to {now:.0f}"
            if now > base[name] + GROWTH_MB:
                result.faults.append(f"{name}: grew from {base[name]:.0f} to {now:.0f} MB")
        for service, _ in started.values():
            logged = service.log.read_text()
            if "Traceback" in logged or "internal error" in logged:
                result.faults.append(f"{service.name} logged: {logged[-3000:]}")
    result.figures["calls"] = f"{result.outcomes.total():,}"
    return result
