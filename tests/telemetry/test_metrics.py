import socket
import urllib.request

import pytest

from datamodels.telemetry.metrics import MetricsServer


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_metrics_are_served(host):
    server = MetricsServer(host, 0)
    try:
        with urllib.request.urlopen(f"http://{host}:{server.port}/metrics", timeout=10) as response:
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


def test_a_closed_server_answers_no_more():
    server = MetricsServer("127.0.0.1", 0)
    server.close()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", server.port)) != 0
