"""Measure the query service under load: requests per second, latencies, MB per second, and CPU time per call.

    python benchmarks/query/service.py [--size D,N,WEIGHTS ...] [--seconds 3] [--beside FOLDER]

Each size is a made-up fit in a local folder: N targets with WEIGHTS weights each, over D columns. The service and its
clients are processes of this machine, connected over loopback. A client sends bytes and reads bytes, one call at a
time. The same run compares: gRPC alone, which answers with bytes made beforehand; a vector as bytes and as `repeated
float`; and two processes of the service instead of one. With --beside, the services of another checkout and of this one
are asked in turn, and ratios are to the other.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import numpy as np
from bare_server import DECODE, NAME, STREAMS
from clients import Ask, Clients, Measured, memory

from datamodels.environment import child_environ
from datamodels.fit.data import problem
from datamodels.fit.job import fits
from datamodels.rpc import codec
from datamodels.rpc.clients.query import QueryClient
from datamodels.run import designs, runs, specs
from datamodels.run.runs import Run
from datamodels.settings import ClientSettings, ServeSettings, StoreSettings, TelemetrySettings
from datamodels.storage.local import LocalStore
from datamodels.train import Dataset
from datamodels.v1 import query_pb2

ROOT = Path(__file__).resolve().parents[2]
SIZES = ["1400,397,60", "50000,10000,150"]
BLOCK = 1000
"""Targets in one object of the fit."""
CLIENTS = (1, 4, 16)
REQUESTS = 200
"""Different ones of each kind."""
TURNS = 4
VECTOR_LENGTH = 875_000
SERVICE = "/datamodels.v1.QueryService"
ALL_TARGETS = "TopInfluences, all targets"
"""Questions that are asked again only after more others than the service keeps answers, if there are enough targets."""


def make_fit(folder: Path, d: int, n: int, weights: int) -> tuple[Run, problem.Solution]:
    """Make a run and its fit in a store. Each target has about `weights` weights, most of them small."""
    rng = np.random.default_rng(0)
    data = Dataset(np.zeros((d, 1)), np.arange(d) % 10, np.zeros((n, 1)), np.arange(n) % 10)
    document = {"name": "made-up", "dataset": {"load": "none:load"}, "trainer": {"class": "none:T"}, "m": 100_000}
    run = runs.resolve(specs.parse(document), data)
    counts = rng.integers(weights // 2, weights + weights // 2, size=n)
    solution = problem.Solution(
        d=d,
        status=[problem.OK] * n,
        lambda_=rng.random(n),
        gap=rng.random(n) * 1e-4,
        heldout_r2=rng.random(n),
        intercept=rng.normal(size=n),
        indptr=np.concatenate([[0], np.cumsum(counts)]),
        columns=np.concatenate([np.sort(rng.choice(d, size=k, replace=False)) for k in counts]).astype(np.int32),
        weights=rng.laplace(size=counts.sum()).astype(np.float32),
    )
    store = LocalStore(folder)
    runs.create(store, run)
    spans = [(first, min(first + BLOCK, n)) for first in range(0, n, BLOCK)]
    for first, last in spans:
        fits.write(store, run.name, "d0", first, problem.rows_of(solution, first, last))
    record = fits.FitRecord(
        run=run.name,
        number=0,
        digest="d0",
        manifest_version=0,
        spec_hash=run.spec.hash,
        solver="gram",
        settings={},
        rows=100_000,
        columns=d,
        targets=n,
        blocks=(),
        seconds=1.0,
    )
    fits.commit(store, record, spans)
    return run, solution


@dataclasses.dataclass(frozen=True)
class Process:
    """A server process; `seconds` is the time until it served."""

    address: str
    pid: int
    seconds: float

    @property
    def server(self) -> tuple[str, int]:
        return self.address, self.pid


def importable(checkout: Path, folder: Path) -> Path:
    """Make a folder whose package `datamodels` has the code of a checkout, with its services, and return it."""
    package = folder / "datamodels"
    package.mkdir(parents=True)
    for path in (*(checkout / "shared" / "datamodels").iterdir(), checkout / "services"):
        (package / path.name).symlink_to(path)
    return folder


@contextlib.contextmanager
def process(store: Path, *command: str, checkout: Path = ROOT) -> Iterator[Process]:
    """Run a server over the store in a folder, with the code of a checkout."""
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "address.json"
        environ = child_environ(
            StoreSettings(url=f"file://{store}"),
            ServeSettings(address_file=str(file), follow_stdin=True),
            TelemetrySettings(level="warning"),
        )
        environ["PYTHONPATH"] = str(importable(checkout, Path(place) / "code"))
        started = time.perf_counter()
        child = subprocess.Popen([sys.executable, *command], env=environ, stdin=subprocess.PIPE, cwd=checkout)
        try:
            while not file.exists():
                if child.poll() is not None or time.perf_counter() > started + 60:
                    raise SystemExit(f"{' '.join(command)}: did not start")
                time.sleep(0.01)
            yield Process(json.loads(file.read_text())["address"], child.pid, time.perf_counter() - started)
        finally:
            child.stdin.close()
            child.wait(timeout=30)


def asks(run: Run, solution: problem.Solution) -> dict[str, Ask]:
    """Return small and large calls, by name."""
    rng = np.random.default_rng(1)
    targets = rng.integers(solution.n, size=REQUESTS)
    masks = designs.subsets(run.design, 0, REQUESTS)
    many = max(1, min(3_500_000 // (8 * solution.n), 4 * 2**20 // masks.shape[1], REQUESTS))
    ten = codec.to_tensor(np.arange(10, dtype=np.int32))

    def ask(method: str, requests: list, stream: bool = False) -> Ask:
        return Ask(f"{SERVICE}/{method}", stream, tuple(request.SerializeToString() for request in requests))

    def weights(**fields) -> query_pb2.GetWeightsRequest:
        return query_pb2.GetWeightsRequest(run=run.name, **fields)

    def predict(rows: np.ndarray, **fields) -> query_pb2.PredictRequest:
        return query_pb2.PredictRequest(run=run.name, masks=codec.to_tensor(rows), double_precision=True, **fields)

    def top(chosen: np.ndarray) -> Ask:
        return ask("TopInfluences", [query_pb2.TopInfluencesRequest(run=run.name, target=t, k=10) for t in chosen])

    one = [codec.to_tensor(np.array([t], dtype=np.int32)) for t in targets]
    return {
        "TopInfluences, k = 10": top(targets),
        ALL_TARGETS: top(rng.permutation(solution.n)),
        "GetWeights, 1 target, top 10": ask("GetWeights", [weights(targets=t, top_k=10) for t in one], True),
        "Predict, 1 mask, 10 targets": ask("Predict", [predict(mask[None], targets=ten) for mask in masks]),
        "Predict, 1 mask, all targets": ask("Predict", [predict(mask[None]) for mask in masks]),
        f"Predict, {many} masks, all targets": ask("Predict", [predict(masks[:many])]),
        "GetWeights, all": ask("GetWeights", [weights()], True),
    }


def line(name: str, clients: int, found: Measured, base: Measured | None = None) -> None:
    ratio = "" if base is None else f"{found.rate / base.rate:>8.2f}x{found.cpu / base.cpu:>8.2f}x"
    print(
        f"{name:<34}{clients:>4}{found.rate:>10,.0f}{found.quantile(0.5) * 1e3:>9.2f}{found.quantile(0.99) * 1e3:>9.2f}"
        f"{found.cpu * 1e3:>10.3f}{found.megabytes:>9.1f}{ratio}",
        flush=True,
    )


def in_turn(asked: dict[str, Callable[[float], Measured]], seconds: float) -> dict[str, Measured]:
    """Measure several ways in turn, several times, because the load of the machine changes."""
    found: dict[str, list[Measured]] = {name: [] for name in asked}
    for _ in range(TURNS):
        for name, ask in asked.items():
            found[name].append(ask(seconds / TURNS))
    return {name: Measured.of(parts) for name, parts in found.items()}


def load(service: Process, run: Run, solution: problem.Solution) -> None:
    """Make the first call, which makes the service read the fit, and check its answer."""
    bare = memory(service.pid)
    with QueryClient(service.address, ClientSettings()) as client:
        started = time.perf_counter()
        top = client.top(run.name, 0, k=1).helpful[0]
        seconds = time.perf_counter() - started
    columns, values = solution.row(0)
    assert (top.column, np.float32(top.weight)) == (columns[values.argmax()], values.max())
    print(
        f"serves after {service.seconds:.2f} s, reads the fit in {seconds:.2f} s; holds {bare['now']:.0f} MB "
        f"before it, {memory(service.pid)['now']:.0f} with it"
    )


def measure(size: str, clients: Clients, seconds: float, beside: Path | None, only: bool) -> None:
    d, n, weights = (int(part) for part in size.split(","))
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:

        def start(*command: str, checkout: Path = ROOT) -> Process:
            return stack.enter_context(process(Path(folder), *command, checkout=checkout))

        run, solution = make_fit(Path(folder), d, n, weights)
        print(f"\nd = {d:,}, n = {n:,}, {len(solution.columns):,} weights ({len(solution.columns) * 8 / 1e6:.1f} MB)")
        ours = start("-m", "datamodels.services.query")
        load(ours, run, solution)
        asked = {"ours": [ours.server]}
        if beside:
            other = start("-m", "datamodels.services.query", checkout=beside)
            load(other, run, solution)
            asked["beside"] = [other.server]
        print(f"{'':<34}{'at':>4}{'calls/s':>10}{'p50 ms':>9}{'p99 ms':>9}{'CPU ms':>10}{'MB/s':>9}", end="")
        print(f"{'calls/s':>9}{'CPU':>9}" if beside else "")
        every = asks(run, solution)
        for name, ask in ({} if only else every).items():
            for count in CLIENTS if len(ask.requests) > 1 else CLIENTS[:2]:
                ways = {
                    way: lambda s, servers=servers, ask=ask, count=count: clients.ask(servers, ask, count, s)
                    for way, servers in asked.items()
                }
                found = in_turn(ways, seconds)
                line(name, count, found["ours"], found.get("beside"))
        print(f"holds {memory(ours.pid)['now']:.0f} MB, held {memory(ours.pid)['peak']:.0f} at most")
        if not beside:
            baselines(clients, seconds, ours, start, every, only)


def baselines(
    clients: Clients, seconds: float, ours: Process, start: Callable[..., Process], every: dict[str, Ask], only: bool
):
    """Compare ours with gRPC alone, tensors with `repeated float`, and one process with two."""
    small, bulk = next(iter(every.values())), every["GetWeights, all"]
    with grpc.insecure_channel(ours.address) as channel:
        answer = channel.unary_unary(small.method)(small.requests[0])
        sizes = json.dumps([len(message) for message in channel.unary_stream(bulk.method)(bulk.requests[0])])
    alone, second = (
        start(str(ROOT / "benchmarks" / "query" / "bare_server.py")),
        start("-m", "datamodels.services.query"),
    )

    def baseline(method: str, request: bytes) -> Ask:
        decode = method if method in DECODE else ""
        return Ask(f"/{NAME}/{method}", method in STREAMS, (request,), decode)

    def way(servers: list[Process], ask: Ask, count: int) -> Callable[[float], Measured]:
        return lambda s: clients.ask([process.server for process in servers], ask, count, s)

    def compare(title: str, count: int, **ways: Callable[[float], Measured]) -> None:
        found = in_turn(ways, seconds)
        base = next(iter(found.values()))
        for which, measured in found.items():
            line(f"{title}: {which}", count, measured, base)

    print(f"{'in turn; ratios are to the first':<76}{'calls/s':>9}{'CPU':>9}")
    for count in (1, 4):
        same = way([alone], baseline("Same", answer), count)
        compare("answer", count, grpc=same, ours=way([ours], small, count))
        compare("answer, anew", count, grpc=same, ours=way([ours], every[ALL_TARGETS], count))
        compare(
            "all", count, grpc=way([alone], baseline("Stream", sizes.encode()), count), ours=way([ours], bulk, count)
        )
    if only:
        return
    request = str(VECTOR_LENGTH).encode()
    compare(
        "3.5 MB",
        1,
        repeated=way([alone], baseline("Floats", request), 1),
        tensor=way([alone], baseline("Tensor", request), 1),
    )
    for label, ask in every.items():
        if "10" in label or "1 mask" in label:
            for count in CLIENTS[1:]:
                compare(label, count, one=way([ours], ask, count), two=way([ours, second], ask, count))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", action="append", help="D,N,WEIGHTS")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    parser.add_argument("--beside", type=Path, help="a checkout of another version")
    parser.add_argument("--bare", action="store_true", help="only compare with gRPC alone")
    parser.add_argument("--quick", action="store_true", help="the small size, a second each")
    options = parser.parse_args()
    beside = options.beside and options.beside.resolve()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    with Clients(max(CLIENTS)) as clients:
        for size in options.size or SIZES[: 1 if options.quick else None]:
            measure(
                size, clients, min(options.seconds, 1.0) if options.quick else options.seconds, beside, options.bare
            )


if __name__ == "__main__":
    main()
