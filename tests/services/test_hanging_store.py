"""Services whose store stops answering: the process stays alive, and says that it is not ready."""

import json
import os
import signal
import subprocess
import sys
import urllib.request

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from datamodels.errors import ExitCode
from datamodels.rpc.client import connect
from datamodels.settings import ClientSettings, ServeSettings, StoreSettings
from tests.helpers.calls import METHODS, request_of
from tests.helpers.waiting import LIMIT, eventually
from tests.storage.conftest import CREDENTIALS, make_bucket, run_ministack

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
WORKERS = 2
CALLS = {"aggregator": "GetProgress", "fitter": "Fit", "query": "GetRun"}
"""A call of each service that reads the store."""


@pytest.fixture(scope="module")
def s3(tmp_path_factory):
    """An S3 server of its own, because the tests stop it: (address, Popen)."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**CREDENTIALS, "AWS_EC2_METADATA_DISABLED": "true", "NO_PROXY": "127.0.0.1"}.items():
            patch.setenv(name, value)
        with run_ministack(tmp_path_factory.mktemp("s3")) as server:
            yield server


@pytest.fixture
def started(s3, tmp_path):
    """started(service) returns the addresses of a process of the service: {address, metrics_address}."""
    processes = []

    def start(service):
        url = f"s3://{make_bucket(s3[0])}"
        file = tmp_path / "address.json"
        settings = (
            StoreSettings(url=url, s3_endpoint=s3[0], timeout=LIMIT),
            ServeSettings(address_file=str(file), workers=WORKERS, follow_stdin=True, grace=0.0),
        )
        environ = {name: value for one in settings for name, value in one.environ().items()}
        environ["DATAMODELS_FITTER_SCRATCH"] = str(tmp_path / "scratch")
        command = [sys.executable, "-m", f"datamodels.services.{service}"]
        processes.append(subprocess.Popen(command, env=os.environ | environ, stdin=subprocess.PIPE))
        eventually(file.exists, while_true=lambda: processes[-1].poll() is None)
        return json.loads(file.read_text())

    start.processes = processes
    yield start
    s3[1].send_signal(signal.SIGCONT)
    for process in processes:
        process.kill()
        process.wait()
        process.stdin.close()


@pytest.mark.parametrize("service", CALLS)
def test_a_store_that_hangs_leaves_the_process_alive_and_not_ready(started, s3, service):
    """And able to end: a process that is told to stop does not wait for the store."""
    addresses = started(service)
    (method,) = [m for m in METHODS if m.name == CALLS[service]]
    name = method.containing_service.full_name
    with connect(addresses["address"], ClientSettings(attempts=1)) as channel:

        def health(of):
            request = health_pb2.HealthCheckRequest(service=of)
            return health_pb2_grpc.HealthStub(channel).Check(request, timeout=LIMIT).status

        eventually(lambda: health(name) == SERVING)
        s3[1].send_signal(signal.SIGSTOP)
        ask = channel.unary_unary(f"/{name}/{method.name}", request_serializer=lambda m: m.SerializeToString())
        calls = [ask.future(request_of(method, run="some-0123456789ab"), timeout=LIMIT) for _ in range(4 * WORKERS)]
        # Before each method had its own threads, these answers came only after those of the calls.
        assert [health("") for _ in range(8)] == [SERVING] * 8
        with urllib.request.urlopen(f"http://{addresses['metrics_address']}/metrics", timeout=LIMIT) as answer:
            assert b"grpc_server_started_total" in answer.read()
        eventually(lambda: health(name) == NOT_SERVING)
        assert health("") == SERVING
        assert not any(call.done() for call in calls)
        if service == "aggregator":
            aggregator = started.processes[0]
            aggregator.terminate()
            assert aggregator.wait(LIMIT / 2) == ExitCode.TRANSIENT  # long before the store's time limit
            return
        s3[1].send_signal(signal.SIGCONT)
        assert "RunNotFoundError" in {type(call.exception()).__name__ for call in calls}
        eventually(lambda: health(name) == SERVING)
