"""Compare commits through the aggregator with a bare loop that writes the same parts to the same store.

    python benchmarks/aggregate/commits.py [--targets 12000] [--models 100] [--writers 4] [--seconds 5] [--s3 URL]

The aggregator is a process of its own. Its clients send outputs over loopback and wait until they are durable. It is
compared with three loops of as many threads, whose writes are as durable:

    bare            writes parts that are encoded beforehand
    bare, encodes   encodes each part, as the aggregator does, and writes it
    bare, receives  sends the outputs as messages to a bare gRPC server, a process of its own, which reads none of them
                    and writes a part that is encoded beforehand

All write to one local folder, or with --s3 to a bucket, `s3://BUCKET`, of the server that DATAMODELS_STORE_S3_ENDPOINT
names. They take turns, because the load of the machine changes. MB/s are of parts as they are stored. CPU is that of
this process and of the server for each part; it depends least on other load.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np

from datamodels.aggregate import part
from datamodels.environment import child_environ
from datamodels.rpc.clients.aggregator import AggregatorClient
from datamodels.run import runs, specs
from datamodels.run.dataset import Dataset
from datamodels.run.runs import Run
from datamodels.settings import ClientSettings, ServeSettings, StoreSettings, TelemetrySettings
from datamodels.storage import open_store
from datamodels.v1 import aggregator_pb2

TURNS = 4


def make_run(targets: int, models: int) -> Run:
    data = Dataset(np.zeros((50, 1)), np.zeros(50), np.zeros((targets, 1)), np.zeros(targets))
    document = {
        "name": f"commits-{uuid.uuid4().hex[:8]}",
        "dataset": {"load": "none:load"},
        "trainer": {"class": "none:T"},
        "m": models * 100_000,
        "chunk": models,
        "sub_chunk": models,
        "evaluate": {"subsets": 0},
    }
    return runs.resolve(specs.parse(document), data)


def cpu_of(pid: int) -> float:
    """Return the seconds of CPU time that a process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def serve_bare(address: Path, folder: str, size: int) -> None:
    """Serve PutOutputs without reading the messages: write random bytes that many, once for each call."""
    store, data, numbers = open_store(StoreSettings.load()), os.urandom(size), itertools.count()

    def put(messages: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        for _ in messages:
            pass
        store.create(f"{folder}/{next(numbers)}", data)
        return b""

    method = aggregator_pb2.DESCRIPTOR.services_by_name["AggregatorService"].methods_by_name["PutOutputs"]
    handler = grpc.method_handlers_generic_handler(
        method.containing_service.full_name, {method.name: grpc.stream_unary_rpc_method_handler(put)}
    )
    server = grpc.server(ThreadPoolExecutor(16), options=[("grpc.max_receive_message_length", 8 * 2**20)])
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    address.write_text(json.dumps({"address": f"127.0.0.1:{port}"}))
    sys.stdin.read()


def started(command: list[str], environ: dict[str, str], file: Path) -> tuple[subprocess.Popen, str]:
    """Start a server, and return it and its address once it serves."""
    process = subprocess.Popen(command, env=environ, stdin=subprocess.PIPE)
    while not file.exists() or not file.read_text():
        if process.poll() is not None:
            sys.exit(f"{command} ended with exit code {process.returncode}")
        time.sleep(0.01)
    return process, json.loads(file.read_text())["address"]


def rate(write: Callable[[int], None], numbers: itertools.count[int], writers: int, seconds: float) -> float:
    """Return how often per second `write` ends, called with one number after the other by several threads."""
    done, ends, began = [], time.perf_counter() + seconds, time.perf_counter()

    def work() -> None:
        while time.perf_counter() < ends:
            write(next(numbers))
            done.append(time.perf_counter())

    threads = [threading.Thread(target=work) for _ in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(done) / (max(done) - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", type=int, default=12_000)
    parser.add_argument("--models", type=int, default=100, help="of each part")
    parser.add_argument("--writers", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    parser.add_argument("--s3", help="s3://BUCKET (default: a local folder)")
    parser.add_argument("--bare", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    run = make_run(options.targets, options.models)
    # Compressed, these would take a thirteenth less and margins of networks an eighth, so both are written as they are.
    outputs = np.random.default_rng(0).normal(size=(options.models, run.n)).astype("f4")
    size = len(part.encode(part.validate(run, range(options.models), np.arange(options.models), outputs)))
    if options.bare:
        return serve_bare(options.bare, f"received-{uuid.uuid4().hex[:8]}", size)
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        settings = StoreSettings.load()
        settings = StoreSettings(url=options.s3 or f"file://{folder}/store", s3_endpoint=settings.s3_endpoint)
        store, file = open_store(settings), Path(folder) / "address.json"
        serve = ServeSettings(address_file=str(file), follow_stdin=True)
        environ = child_environ(settings, serve, TelemetrySettings(level="error"))
        sizes = ["--targets", str(options.targets), "--models", str(options.models)]
        bare_file = Path(folder) / "bare.json"
        servers = {
            "aggregator": started([sys.executable, "-m", "datamodels.services.aggregator"], environ, file),
            "bare, receives": started([sys.executable, __file__, "--bare", str(bare_file), *sizes], environ, bare_file),
        }
        clients = {
            way: stack.enter_context(AggregatorClient(address, ClientSettings()))
            for way, (_, address) in servers.items()
        }
        clients["aggregator"].create_run(run)
        data = part.encode(part.validate(run, range(options.models), np.arange(options.models), outputs))

        def commit(number: int) -> None:
            models = range(number * options.models, (number + 1) * options.models)
            assert clients["aggregator"].put(run.name, models, np.arange(models.start, models.stop), outputs)

        def send(number: int) -> None:
            models = range(options.models)
            clients["bare, receives"].put(run.name, models, np.arange(options.models), outputs)

        def encode_and_write(number: int) -> None:
            encoded = part.encode(part.validate(run, range(options.models), np.arange(options.models), outputs))
            store.create(f"encoded/{number}", encoded)

        ways = {
            "bare": lambda number: store.create(f"bare/{number}", data),
            "bare, encodes": encode_and_write,
            "bare, receives": send,
            "aggregator": commit,
        }
        numbers = {way: itertools.count() for way in ways}
        found: dict[str, list[float]] = {way: [] for way in ways}
        cpu = {way: [0.0, 0.0] for way in ways}
        for _ in range(TURNS):
            for way, write in ways.items():
                pids = [os.getpid(), *([servers[way][0].pid] if way in servers else [])]
                before = [cpu_of(pid) for pid in pids]
                found[way].append(rate(write, numbers[way], options.writers, options.seconds / TURNS))
                for place, pid in enumerate(pids):
                    cpu[way][place] += cpu_of(pid) - before[place]
        for process, _ in servers.values():
            assert process.stdin is not None
            process.stdin.close()
            process.wait()
    load = os.getloadavg()[0]
    print(f"{os.cpu_count()} cores, load {load:.1f}; {options.writers} writers, parts of {size / 1e6:.1f} MB")
    print(f"{'':<16}{'MB/s':>8}{'of bare':>9}{'CPU here, ms':>14}{'of the server':>15}")
    base = np.mean(found["bare"])
    for way, rates in found.items():
        parts = max(1, next(numbers[way]))
        here, there = (1000 * seconds / parts for seconds in cpu[way])
        print(f"{way:<16}{np.mean(rates) * size / 1e6:>8.1f}{np.mean(rates) / base:>9.2f}{here:>14.1f}{there:>15.1f}")


if __name__ == "__main__":
    main()
