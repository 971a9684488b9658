"""`python -m datamodels.services.explorer` serves until SIGTERM."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import uvicorn

from datamodels.errors import DatamodelsError, ExitCode
from datamodels.query.weights import WeightStore
from datamodels.rpc.serve import address_of, refuse, write_atomically
from datamodels.settings import ExplorerSettings, QuerySettings, ServeSettings, StoreSettings, TelemetrySettings
from datamodels.storage import open_store
from datamodels.telemetry import configure_logging, logger, start
from datamodels.telemetry.metrics import MetricsServer

from .service import application

log = logger(__name__)

MOST_CONNECTIONS = 500


class _Server(uvicorn.Server):
    """Ends its streams before it waits for its answers: they would go on for as long as somebody watches."""

    def __init__(self, config: uvicorn.Config, end_streams: Callable[[], None]):
        super().__init__(config)
        self._end_streams = end_streams

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._end_streams()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        def stop(number: int, frame: object) -> None:
            self.should_exit = True

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)
        yield


def serve(settings: ServeSettings, explorer: ExplorerSettings, weights: WeightStore) -> None:
    """Serve by HTTP, or by HTTPS with a certificate, until the process is told to stop.

    Raises PortInUseError, SettingsError.
    """
    app = application(weights, explorer, secure=bool(settings.cert_file))
    config = uvicorn.Config(
        app.asgi,
        log_config=None,
        log_level="critical",
        access_log=False,
        lifespan="on",
        proxy_headers=False,
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=max(1, round(settings.grace)),
        timeout_keep_alive=30,
        limit_concurrency=MOST_CONNECTIONS,
        h11_max_incomplete_event_size=64 * 1024,
        ssl_certfile=settings.cert_file or None,
        ssl_keyfile=settings.key_file or None,
    )
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(_listen(settings))
        try:
            metrics = MetricsServer(settings.host, settings.metrics_port)
        except OSError as error:
            refuse("METRICS_PORT", settings.host, settings.metrics_port, error)
        stack.callback(metrics.close)
        server = _Server(config, app.end_streams)
        if settings.follow_stdin:
            threading.Thread(target=_follow_stdin, args=(server,), daemon=True).start()
        address = address_of(settings.host, listener.getsockname()[1])
        metrics_address = address_of(settings.host, metrics.port)
        if settings.address_file:
            text = json.dumps({"address": address, "metrics_address": metrics_address})
            write_atomically(Path(settings.address_file), text)
        log.info("serving", address=address, metrics_address=metrics_address)
        server.run([listener])


@contextlib.contextmanager
def _listen(settings: ServeSettings) -> Iterator[socket.socket]:
    try:
        family = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((settings.host, settings.port), family=family, backlog=128)
    except OSError as error:
        refuse("PORT", settings.host, settings.port, error)
    # Its connections inherit that. Otherwise the body of an answer waits 40 ms for the acknowledgement of its headers;
    # asyncio sets it only for sockets that were made with the number of the protocol.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with listener:
        yield listener


def _follow_stdin(server: uvicorn.Server) -> None:
    with contextlib.suppress(OSError):  # the process may have been started without a standard input
        while os.read(0, 4096):
            pass
    server.should_exit = True


def main() -> int:
    """Serve, and return the exit code of the process."""
    configure_logging(TelemetrySettings(), "explorer")  # so that an error in the settings themselves is logged too
    try:
        start(TelemetrySettings.load(), "explorer")
        query = QuerySettings.load()
        store = open_store(StoreSettings.load())
        weights = WeightStore(store, refresh=query.refresh, capacity=query.capacity, keep_bytes=query.keep_bytes)
        serve(ServeSettings.load(), ExplorerSettings.load(), weights)
        log.info("stopped")
        return ExitCode.DONE
    except DatamodelsError as error:
        log.error(str(error), error=type(error).__name__)
        return int(error.exit_code)


if __name__ == "__main__":
    sys.exit(main())
