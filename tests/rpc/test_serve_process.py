"""Services as processes: signals, standard input, parents and wrong settings."""

import json
import os
import signal
import socket
import subprocess
import sys

import pytest

from datamodels.errors import ExitCode
from datamodels.rpc.client import connect
from datamodels.settings import ClientSettings, ServeSettings
from tests.helpers.waiting import LIMIT
from tests.rpc.conftest import SERVING, health_of, port_of


@pytest.fixture
def process(tmp_path):
    """process(**environment) starts a service and returns (Popen, address). It is killed when the test ends."""
    started = []

    def start(**environment):
        path = tmp_path / f"address-{len(started)}.json"
        popen = subprocess.Popen(
            [sys.executable, "-m", "datamodels.services.sampler"],
            env=os.environ | {"DATAMODELS_SERVE_ADDRESS_FILE": str(path)} | environment,
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(popen)
        for line in popen.stderr:
            if json.loads(line)["event"] == "serving":
                break
        return popen, json.loads(path.read_text())["address"] if path.exists() else None

    yield start
    for popen in started:
        popen.kill()
        popen.wait()
        popen.stdin.close()
        popen.stderr.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_process_stops_on_a_signal(process, number):
    popen, address = process()
    with connect(address, ClientSettings()) as channel:
        assert health_of(channel, "datamodels.v1.SamplerService") == SERVING
    popen.send_signal(number)
    _, logs = popen.communicate(timeout=LIMIT)
    assert popen.returncode == ExitCode.DONE
    assert [json.loads(line)["event"] for line in logs.splitlines()] == ["stopped"]


def test_a_process_ends_with_its_standard_input(process):
    popen, _ = process(DATAMODELS_SERVE_FOLLOW_STDIN="true")
    popen.stdin.close()
    assert popen.wait(timeout=LIMIT) == ExitCode.DONE


def test_a_process_that_does_not_follow_its_standard_input_continues(process):
    popen, address = process(DATAMODELS_SERVE_FOLLOW_STDIN="false")
    popen.stdin.close()
    with connect(address, ClientSettings()) as channel:
        assert health_of(channel) == SERVING
    assert popen.poll() is None


def test_no_process_outlives_a_killed_parent(tmp_path, eventually):
    path = tmp_path / "address.json"
    script = (
        "import subprocess, sys, time; command = [sys.executable, '-m', 'datamodels.services.sampler']; "
        "subprocess.Popen(command, stdin=subprocess.PIPE); time.sleep(3600)"
    )
    settings = ServeSettings(address_file=str(path), follow_stdin=True).environ()
    parent = subprocess.Popen([sys.executable, "-c", script], env=os.environ | settings, stderr=subprocess.DEVNULL)
    try:
        eventually(path.exists)
        port = port_of(json.loads(path.read_text())["address"])

        def gone():
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) != 0

        assert not gone()
    finally:
        parent.kill()
        parent.wait()
    eventually(gone)


def run_service(**environment):
    ended = subprocess.run(
        [sys.executable, "-m", "datamodels.services.sampler"],
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    # gRPC writes lines of its own, which are not JSON.
    lines = [json.loads(line) for line in ended.stderr.splitlines() if line.startswith("{")]
    return ended.returncode, lines


def test_a_wrong_setting_ends_a_process_with_one_line():
    code, lines = run_service(DATAMODELS_SERVE_PORT="many")
    assert code == ExitCode.CONFIG
    assert [(line["event"], line["level"], line["service"]) for line in lines] == [
        ("DATAMODELS_SERVE_PORT='many': must be int", "error", "sampler")
    ]


def test_a_port_in_use_ends_a_process_with_one_line(serve):
    port = port_of(serve().address)
    code, lines = run_service(DATAMODELS_SERVE_PORT=str(port))
    assert code == ExitCode.CONFIG
    assert [line["error"] for line in lines] == ["PortInUseError"]
    assert f"127.0.0.1:{port} is in use" in lines[0]["event"]
