"""Define the metrics of gRPC servers, under their standard names, and serve all metrics by HTTP.

Each stage defines its own metrics, named datamodels_<stage>_*_total, _seconds or _bytes. The number of values of a
label must not grow with models, subsets, targets or runs.
"""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
import time
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import Counter, Histogram, disable_created_metrics, make_wsgi_app

disable_created_metrics()  # each counter would get a second series, which Prometheus does not use

OTHER = "other"
"""Labels `grpc_service` and `grpc_method` of calls to unknown methods, so that callers cannot create new labels."""

MAX_CONNECTIONS = 16
"""Most connections to /metrics at a time; each holds a thread. A new one closes the oldest."""
CONNECTION_SECONDS = 10.0
"""How long a connection to /metrics may last. A scrape takes some milliseconds."""

_METHOD = ("grpc_type", "grpc_service", "grpc_method")

STARTED = Counter("grpc_server_started_total", "Calls that reached a method of the server.", _METHOD)
HANDLED = Counter(
    "grpc_server_handled_total",
    "Calls that ended, by status code.",
    (*_METHOD, "grpc_code"),
)
DENIED = Counter(
    "grpc_server_denied_total", "Calls that were refused for want of a token or of a right.", ("grpc_code",)
)
HANDLING_SECONDS = Histogram(
    "grpc_server_handling_seconds",
    "Seconds that the server spent on a call.",
    _METHOD,
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300),
)


def start_at_zero(metric: Counter | Histogram, *values: str) -> None:
    """Create the series of a one-label metric for each of the given label values.

    If a series appears only with its first event, Prometheus sees no increase, and an alert misses the first failure
    of every process.
    """
    for value in values:
        metric.labels(value)


start_at_zero(DENIED, "UNAUTHENTICATED", "PERMISSION_DENIED")


class MetricsServer:
    """Serves GET /metrics on its own port, in daemon threads. Raises OSError if it cannot bind the port.

    seconds  how long a connection may last
    """

    def __init__(self, host: str, port: int, seconds: float = CONNECTION_SECONDS):
        self._read = threading.Event()
        self._server = make_server(host, port, make_wsgi_app(), _listener(host, port, seconds), self._handler())
        self.port: int = self._server.server_port
        # With the default poll interval, each stop would take half a second.
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, name="metrics", daemon=True
        )
        self._thread.start()

    def settle(self, seconds: float) -> None:
        """Wait for the given time, so that the current values are read too. Returns at once if nobody ever read."""
        if self._read.is_set():
            time.sleep(seconds)

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _handler(self) -> type[WSGIRequestHandler]:
        read = self._read

        class Handler(WSGIRequestHandler):
            def handle(self) -> None:
                read.set()  # before the response: a client that has it may rely on `settle`
                super().handle()

            def log_message(self, format: str, *args: object) -> None:
                """Log nothing: scrapes are routine."""

        return Handler


def _listener(host: str, port: int, seconds: float) -> type[WSGIServer]:
    class Listener(socketserver.ThreadingMixIn, WSGIServer):
        daemon_threads = True
        address_family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]

        def server_bind(self) -> None:
            self._begun: dict[socket.socket, float] = {}  # oldest first
            socketserver.TCPServer.server_bind(self)  # HTTPServer.server_bind does a DNS lookup, which may take seconds
            self.server_name, self.server_port = self.socket.getsockname()[:2]
            self.setup_environ()

        def process_request(self, request: Any, client_address: Any) -> None:
            for oldest in list(self._begun)[: 1 - MAX_CONNECTIONS]:
                self._hang_up(oldest)
            self._begun[request] = time.monotonic()
            super().process_request(request, client_address)

        def service_actions(self) -> None:
            super().service_actions()
            for request, begun in list(self._begun.items()):
                if time.monotonic() - begun >= seconds:
                    self._hang_up(request)

        def shutdown_request(self, request: Any) -> None:
            self._begun.pop(request, None)
            super().shutdown_request(request)

        def handle_error(self, request: Any, client_address: Any) -> None:
            """Print nothing: peers may leave."""

        def _hang_up(self, request: socket.socket) -> None:
            """Make the thread of a connection see its end."""
            self._begun.pop(request, None)
            with contextlib.suppress(OSError):
                request.shutdown(socket.SHUT_RDWR)

    return Listener
