import socket
import time
import urllib.request

import pytest
from prometheus_client import Counter

from datamodels.telemetry.metrics import MetricsServer, start_at_zero
from tests.waiting import LIMIT


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_metrics_are_served(host):
    server = MetricsServer(host, 0)
    try:
        with urllib.request.urlopen(f"http://{host}:{server.port}/metrics", timeout=LIMIT) as response:
            assert response.headers["Content-Type"].startswith("text/plain; version=")
            assert b"# TYPE grpc_server_handled_total counter" in response.read()
    finally:
        server.close()


def test_a_port_in_use_is_refused():
    first = MetricsServer("127.0.0.1", 0)
    try:
        with pytest.raises(OSError, match="in use"):
            MetricsServer("127.0.0.1", first.port)
    finally:
        first.close()


def test_a_closed_server_does_not_answer():
    server = MetricsServer("127.0.0.1", 0)
    server.close()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", server.port)) != 0


@pytest.fixture
def server():
    server = MetricsServer("127.0.0.1", 0)
    yield server
    server.close()


def read(server):
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=LIMIT) as response:
        return response.read().decode()


def test_values_of_a_label_are_shown_before_anything_happens(server):
    counter = Counter("datamodels_try_total", "A counter of this test.", ["result"])
    start_at_zero(counter, "done", "failed")
    assert 'datamodels_try_total{result="failed"} 0.0' in read(server)


def test_settle_waits_if_somebody_has_read(server):
    read(server)
    began = time.monotonic()
    server.settle(0.2)
    assert time.monotonic() - began >= 0.2


def test_settle_returns_at_once_if_nobody_has_read(server):
    began = time.monotonic()
    server.settle(10 * LIMIT)
    assert time.monotonic() - began < LIMIT
