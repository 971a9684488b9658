import socket
import threading
import time
import urllib.request

import pytest
from prometheus_client import Counter

from datamodels.telemetry import metrics
from datamodels.telemetry.metrics import MetricsServer, start_at_zero
from tests.helpers.waiting import LIMIT, eventually


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


def threads():
    return sum("process_request_thread" in thread.name for thread in threading.enumerate())


def test_connections_that_ask_nothing_keep_nobody_out(server):
    """Each holds a thread, of which there are only so many."""
    before = threads()
    slow = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(3 * metrics.MAX_CONNECTIONS)]
    assert "grpc_server" in read(server)
    eventually(lambda: threads() <= before + metrics.MAX_CONNECTIONS)
    for connection in slow:
        connection.close()


def test_a_slow_connection_ends():
    server = MetricsServer("127.0.0.1", 0, seconds=0.2)
    try:
        with socket.create_connection(("127.0.0.1", server.port), timeout=LIMIT) as slow:
            slow.send(b"GET /metrics HT")
            assert slow.recv(100) == b""
    finally:
        server.close()
