"""The aggregator as a real process: killed, orphaned, and started with wrong settings."""

import json
import os
import random
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from datamodels.services.aggregator.__main__ import build

from datamodels.aggregate import manifest
from datamodels.errors import DatamodelsError, ExitCode, UnavailableError
from datamodels.rpc.clients.aggregator import AggregatorClient
from datamodels.settings import AggregatorSettings, ClientSettings, ServeSettings, StoreSettings, TelemetrySettings
from datamodels.storage.local import LocalStore
from tests.helpers.waiting import LIMIT, eventually


class Process:
    """`python -m datamodels.services.aggregator`, which can be restarted on the same port."""

    def __init__(self, folder, **groups):
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.address_file = folder / "address.json"
        serve = ServeSettings(port=self.port, address_file=str(self.address_file), follow_stdin=True)
        environ = StoreSettings(url=f"file://{folder}/store").environ() | serve.environ()
        environ |= AggregatorSettings(publish_interval=0.05).environ() | TelemetrySettings().environ()
        self.environ = os.environ | environ | groups

    def start(self):
        self.address_file.unlink(missing_ok=True)
        self.log = (self.folder / "log").open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "datamodels.services.aggregator"],
            env=self.environ,
            stdin=subprocess.PIPE,
            stderr=self.log,
        )

    def wait_until_serving(self):
        eventually(
            self.address_file.exists,
            while_true=lambda: self.process.poll() is None,
            detail=(self.folder / "log").read_text,
        )
        return json.loads(self.address_file.read_text())["address"]

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.log.close()


def write_all(kit, run, address, writer, acknowledged, failures):
    """Put every sub-chunk of a run, in random order, and repeat each put until it is acknowledged."""
    with AggregatorClient(address, ClientSettings(deadline=LIMIT)) as client:
        waiting = random.Random(writer).sample(kit.sub_chunks(run), len(kit.sub_chunks(run)))
        while waiting:
            models = waiting[-1]
            try:
                committed = client.put(run.name, models, np.array(models), kit.values(models, writer))
            except UnavailableError:
                time.sleep(0.05)
            except DatamodelsError as error:
                failures.append(error)
                return
            else:
                acknowledged.append((waiting.pop(), writer, committed))


def check_killed(kit, run, store, acknowledged):
    newest = manifest.read_newest(store, run.name)
    assert sorted(m for part in newest.parts for m in part.models) == list(range(run.spec.models))
    kept = {outputs.models: outputs.outputs for outputs in newest.outputs(store)}
    sent = {(models, w): kit.values(models, w).astype(np.float32) for models in kept for w in range(3)}
    for models, writer, committed in acknowledged:
        if committed:
            np.testing.assert_array_equal(kept[models], sent[models, writer])
    assert all(any((outputs == sent[models, w]).all() for w in range(3)) for models, outputs in kept.items())
    for version in range(newest.version + 1):
        listed = [m for part in manifest.read(store, run.name, version).parts for m in part.models]
        assert len(set(listed)) == len(listed)


def test_kills_lose_nothing_that_was_acknowledged(kit, tmp_path):
    """Three writers race for every sub-chunk while the aggregator is killed repeatedly. Each model is listed once."""
    run = kit.make_run("killed", m=640, sub_chunk=8)
    server = Process(tmp_path)
    server.start()
    address = server.wait_until_serving()
    acknowledged, failures = [], []
    with AggregatorClient(address) as client:
        client.create_run(run)
    arguments = (acknowledged, failures)
    writers = [threading.Thread(target=write_all, args=(kit, run, address, writer, *arguments)) for writer in range(3)]
    for writer in writers:
        writer.start()
    for kill in range(3):
        eventually(lambda kill=kill: len(acknowledged) >= 20 * (kill + 1))
        server.kill()
        server.start()
    for writer in writers:
        writer.join()
    assert failures == []
    server.wait_until_serving()
    with AggregatorClient(address) as client:
        assert client.progress(run.name).complete
        client.publish(run.name)
    server.kill()
    assert len(acknowledged) == 3 * len(kit.sub_chunks(run))
    check_killed(kit, run, LocalStore(tmp_path / "store"), acknowledged)


def test_a_process_ends_with_its_parent(tmp_path):
    server = Process(tmp_path)
    server.start()
    server.wait_until_serving()
    server.process.stdin.close()
    assert server.process.wait(timeout=LIMIT) == 0


def test_a_process_that_cannot_start_logs_the_reason_in_one_line(tmp_path):
    server = Process(tmp_path, DATAMODELS_STORE_URL="nowhere")
    server.start()
    assert server.process.wait(timeout=LIMIT) == ExitCode.CONFIG
    server.kill()
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    (error,) = [line["event"] for line in lines if line["level"] == "error"]
    assert "must be file://FOLDER or s3://BUCKET/PREFIX" in error


@pytest.mark.parametrize(
    ("environ", "code", "expected"),
    [
        ({"DATAMODELS_AGGREGATOR_PREFLIGHT_WRITERS": "0"}, 2, "PREFLIGHT_WRITERS=0: must be 2 to 1000"),
        ({"DATAMODELS_AGGREGATOR_PUBLISH_INTERVAL": "soon"}, 2, "PUBLISH_INTERVAL='soon': must be float"),
        (
            {
                "DATAMODELS_STORE_URL": "s3://bucket",
                "DATAMODELS_STORE_S3_ENDPOINT": "http://127.0.0.1:1",
                "DATAMODELS_STORE_ATTEMPTS": "1",
                "AWS_ACCESS_KEY_ID": "x",
                "AWS_SECRET_ACCESS_KEY": "x",
            },
            75,
            "is the store running",
        ),
    ],
)
def test_what_an_aggregator_cannot_start_with(tmp_path, monkeypatch, environ, code, expected):
    for name, value in ({"DATAMODELS_STORE_URL": f"file://{tmp_path}"} | environ).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(DatamodelsError, match=expected) as raised:
        build()
    assert raised.value.exit_code == code
