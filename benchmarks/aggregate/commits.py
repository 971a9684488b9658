"""Compare commits through the aggregator with a bare loop that writes the same parts to the same store.

    python benchmarks/aggregate/commits.py [--targets 12000] [--models 100] [--writers 4] [--seconds 5] [--s3 URL]

The aggregator is a process of its own. Its clients send outputs over loopback and wait until they are durable. One bare
loop, in as many threads, writes parts that are encoded beforehand; another encodes each part, as the aggregator does.
All write to one local folder, or with --s3 to a bucket, `s3://BUCKET`, of the server that DATAMODELS_STORE_S3_ENDPOINT
names. They take turns, because the load of the machine changes. MB/s are of parts as they are stored.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import numpy as np

from datamodels.aggregate import part
from datamodels.environment import child_environ
from datamodels.rpc.clients.aggregator import AggregatorClient
from datamodels.run import runs, specs
from datamodels.run.dataset import Dataset
from datamodels.run.runs import Run
from datamodels.settings import ClientSettings, ServeSettings, StoreSettings, TelemetrySettings
from datamodels.storage import open_store

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
    options = parser.parse_args()
    run = make_run(options.targets, options.models)
    # Rounded: margins repeat their digits no more than these, and random bits could not be compressed at all.
    outputs = np.random.default_rng(0).normal(size=(options.models, run.n)).astype("f2").astype("f4")
    size = len(part.encode(part.validate(run, range(options.models), np.arange(options.models), outputs)))
    with tempfile.TemporaryDirectory() as folder:
        settings = StoreSettings.load()
        settings = StoreSettings(url=options.s3 or f"file://{folder}/store", s3_endpoint=settings.s3_endpoint)
        store, file = open_store(settings), Path(folder) / "address.json"
        serve = ServeSettings(address_file=str(file), follow_stdin=True)
        environ = child_environ(settings, serve, TelemetrySettings(level="error"))
        command = [sys.executable, "-m", "datamodels.services.aggregator"]
        process = subprocess.Popen(command, env=environ, stdin=subprocess.PIPE)
        while not file.exists() and process.poll() is None:
            time.sleep(0.01)
        with AggregatorClient(json.loads(file.read_text())["address"], ClientSettings()) as client:
            client.create_run(run)
            data = part.encode(part.validate(run, range(options.models), np.arange(options.models), outputs))

            def commit(number: int) -> None:
                models = range(number * options.models, (number + 1) * options.models)
                assert client.put(run.name, models, np.arange(models.start, models.stop), outputs)

            def encode_and_write(number: int) -> None:
                encoded = part.encode(part.validate(run, range(options.models), np.arange(options.models), outputs))
                store.create(f"encoded/{number}", encoded)

            ways = {
                "bare": lambda number: store.create(f"bare/{number}", data),
                "bare, encodes": encode_and_write,
                "aggregator": commit,
            }
            numbers = {way: itertools.count() for way in ways}
            found: dict[str, list[float]] = {way: [] for way in ways}
            for _ in range(TURNS):
                for way, write in ways.items():
                    found[way].append(rate(write, numbers[way], options.writers, options.seconds / TURNS))
        assert process.stdin is not None
        process.stdin.close()
        process.wait()
    load = os.getloadavg()[0]
    print(f"{os.cpu_count()} cores, load {load:.1f}; {options.writers} writers, parts of {size / 1e6:.1f} MB")
    base = np.mean(found["bare"])
    for way, rates in found.items():
        print(f"{way:<16}{np.mean(rates) * size / 1e6:>8.1f} MB/s{np.mean(rates) / base:>8.2f}")


if __name__ == "__main__":
    main()
