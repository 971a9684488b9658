"""Run a gRPC server: the main function of every service."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import functools
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent import futures
from pathlib import Path
from typing import Any, NoReturn, Self

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from datamodels.errors import DatamodelsError, ExitCode, PortInUseError, SettingsError, StoreFullError
from datamodels.rpc import auth, tls
from datamodels.rpc.access import Rules
from datamodels.rpc.context import Watches
from datamodels.rpc.interceptors import CallInterceptor, expect_calls
from datamodels.rpc.watchdog import Watchdog
from datamodels.settings import AuthSettings, ServeSettings, TelemetrySettings
from datamodels.storage import disk
from datamodels.telemetry import configure_logging, logger, start
from datamodels.telemetry.metrics import MetricsServer

log = logger(__name__)

MAX_ANSWER_BYTES = 4 * 2**20
"""Largest response. It is the default limit of gRPC clients."""

MAX_CALLS = 1000
"""Most concurrent calls of one connection, including those that wait for a thread. The client holds back the rest."""
SIGNAL_SECONDS = 0.5
"""Longest time until a signal is noticed."""
CLOSING_SECONDS = 15.0
"""How long services may take to close, to publish manifests for instance, after the running calls have had their time.
The chart lets pods live 20 seconds longer than their calls."""


@dataclasses.dataclass(frozen=True)
class Service:
    """A servicer and how to add it to a server.

    descriptor  e.g. sampler_pb2.DESCRIPTOR.services_by_name["SamplerService"]
    add         e.g. sampler_pb2_grpc.add_SamplerServiceServicer_to_server
    servicer    the object whose methods answer calls; they raise errors of datamodels.errors
    close       called once, after the last call has ended
    run_of      returns the run that a call is about, given its first message; if tokens are required, a call needs one
                that permits it. None if calls need no token
    reads       names of the methods that only read
    lists       names of the methods that are about no run, and return only runs that `context.entry.caller` may read
    check       raises an error if what the service depends on, such as its store, does not answer. It decides about
                the health of the service, but not about that of the process. None if it depends on nothing
    """

    descriptor: ServiceDescriptor
    add: Callable[[Any, grpc.Server], None]
    servicer: Any
    close: Callable[[], None] = lambda: None
    run_of: Callable[[Any], str] | None = None
    reads: frozenset[str] = frozenset()
    lists: frozenset[str] = frozenset()
    check: Callable[[], None] | None = None

    def rules(self, guard: auth.Guard | None) -> Rules | None:
        """Return what the service asks of callers; None if nothing. If all calls read, only readers need tokens."""
        if self.run_of is None:
            return None
        only_reads = {method.name for method in self.descriptor.methods} <= self.reads | self.lists
        asks = guard is not None and (guard.has_readers or not only_reads)
        return Rules(self.run_of, self.reads, self.lists, guard.caller if guard is not None and asks else None)


class Server:
    """A gRPC server with health checks, reflection and /metrics. It serves while its context is entered.

    The health of the service "" is that of the process. The health of a service of this package is NOT_SERVING while
    its `check` fails or does not end.

    If the settings name a certificate, it accepts only TLS, except on the ports for /metrics and for health checks.
    `guard` checks tokens. Entering raises PortInUseError, or SettingsError if it cannot listen for another reason.
    """

    def __init__(
        self,
        settings: ServeSettings,
        services: Sequence[Service] = (),
        name: str = "server",
        guard: auth.Guard | None = None,
    ):
        self.stopping = threading.Event()
        """Set it to end `wait`."""
        self.address = ""
        """host:port, or unix:PATH, of the gRPC server; empty until entered."""
        self.metrics_address = ""
        """host:port of /metrics; empty until entered."""
        self.health_address = ""
        """host:port of health checks without TLS; empty if `address` does not use TLS."""
        self._settings = settings
        self._services = tuple(services)
        self._watches = Watches()
        self._health = health.HealthServicer()
        self._exits = contextlib.ExitStack()
        # For what has no threads of its own: watches of health, and calls of unknown methods.
        self._pool = futures.ThreadPoolExecutor(settings.workers, thread_name_prefix="grpc")
        self._watchdog = Watchdog(settings.workers, settings.idle)
        self._name = name
        self._server = self._create({s.descriptor.full_name: found for s in services if (found := s.rules(guard))})

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as exits:
            exits.callback(self._pool.shutdown, wait=False)
            for service in self._services:
                exits.callback(service.close)
            exits.callback(self._watchdog.close)
            self._watchdog.start()
            self._metrics = self._serve_metrics()
            exits.callback(self._metrics.close)
            self.metrics_address = address_of(self._settings.host, self._metrics.port)
            self._add_services()
            credentials = tls.server_credentials(self._settings)
            if credentials:
                exits.callback(self._serve_health().stop, None)
            # Last, because only a started server releases its port.
            self.address = self._listen(credentials)
            self._server.start()
            exits.callback(self._stop)
            if self._settings.address_file:
                write_atomically(
                    Path(self._settings.address_file),
                    json.dumps({"address": self.address, "metrics_address": self.metrics_address}),
                )
            if self._settings.follow_stdin:
                threading.Thread(target=self._follow_stdin, name="follow-stdin", daemon=True).start()
            self._exits = exits.pop_all()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stopping.set()
        self._exits.close()

    @property
    def grace(self) -> float:
        """Seconds that running calls get when the server stops."""
        return self._settings.grace

    def handle_signals(self) -> None:
        """Make SIGTERM and SIGINT set `stopping`. Call it from the main thread, which must do nothing but wait."""

        def stop(number: int, frame: object) -> None:
            # Another thread, because Event.set takes a lock that this thread's interrupted `wait` may hold.
            threading.Thread(target=self.stopping.set, daemon=True).start()

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)

    def wait(self) -> None:
        """Block until `stopping` is set, then stop gracefully.

        Health turns NOT_SERVING, watches end, new calls are refused, and running ones get `settings.grace` seconds.
        """
        # The system may deliver a signal to a thread of gRPC. Python then handles it only when this thread wakes up.
        while not self.stopping.wait(SIGNAL_SECONDS):
            pass
        self._stop()

    def settle(self, seconds: float) -> None:
        """Wait until the current metrics are read; see `MetricsServer.settle`."""
        self._metrics.settle(seconds)

    def _stop(self) -> None:
        self._health.enter_graceful_shutdown()
        stopped = self._server.stop(self._settings.grace)
        self._watches.end()
        stopped.wait()
        if self._settings.socket and self._settings.follow_stdin:  # a parent that was killed leaves its folder behind
            with contextlib.suppress(OSError):
                os.rmdir(os.path.dirname(os.path.abspath(self._settings.socket)))

    def _create(self, rules: Mapping[str, Rules]) -> grpc.Server:
        calls = CallInterceptor(self._name, self._settings.max_deadline, self._watches, rules, self._watchdog)
        return grpc.server(self._pool, interceptors=[calls], options=_options(self._settings))

    def _serve_health(self) -> grpc.Server:
        server = self._create({})
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        self.health_address = self._bind(server, "HEALTH_PORT", self._settings.health_port, None)
        server.start()
        return server

    def _listen(self, credentials: grpc.ServerCredentials | None) -> str:
        """Listen where the settings say, and return the address."""
        if not self._settings.socket:
            return self._bind(self._server, "PORT", self._settings.port, credentials)
        target = f"unix:{os.path.abspath(self._settings.socket)}"
        try:
            if credentials:
                self._server.add_secure_port(target, credentials)
            else:
                self._server.add_insecure_port(target)
        except RuntimeError as error:
            variable = f"{ServeSettings.prefix}_SOCKET"
            raise SettingsError(
                f"{variable}={self._settings.socket}: cannot listen there; is there such a folder, and is the path "
                "shorter than 100 letters?"
            ) from error
        return target

    def _bind(self, server: grpc.Server, field: str, port: int, credentials: grpc.ServerCredentials | None) -> str:
        target = address_of(self._settings.host, port)
        try:
            taken = server.add_secure_port(target, credentials) if credentials else server.add_insecure_port(target)
        except RuntimeError:
            _explain_bind(field, self._settings.host, port)
        return address_of(self._settings.host, taken)

    def _serve_metrics(self) -> MetricsServer:
        try:
            return MetricsServer(self._settings.host, self._settings.metrics_port)
        except OSError as error:
            refuse("METRICS_PORT", self._settings.host, self._settings.metrics_port, error)

    def _add_services(self) -> None:
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = [health.SERVICE_NAME]
        for service in self._services:
            name = service.descriptor.full_name
            service.add(service.servicer, self._server)
            expect_calls(service.descriptor)
            names.append(name)
            self._tell(name, service.check is None)
            if service.check:
                self._watchdog.follow(name, service.check, functools.partial(self._tell, name))
        for name in ("", health.SERVICE_NAME):
            self._tell(name, True)
        if self._settings.reflection:
            reflection.enable_server_reflection((*names, reflection.SERVICE_NAME), self._server)

    def _tell(self, name: str, healthy: bool) -> None:
        answers = health_pb2.HealthCheckResponse
        self._health.set(name, answers.SERVING if healthy else answers.NOT_SERVING)

    def _follow_stdin(self) -> None:
        with contextlib.suppress(OSError):  # the process may have been started without a standard input
            while os.read(0, 4096):
                pass
        self.stopping.set()


def _options(settings: ServeSettings) -> list[tuple[str, int]]:
    return [
        ("grpc.so_reuseport", 0),  # otherwise a second server would share the port instead of being refused
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        ("grpc.max_send_message_length", MAX_ANSWER_BYTES),
        ("grpc.max_concurrent_streams", MAX_CALLS),
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.keepalive_permit_without_calls", 1),
        # Clients may ping as often as they like. By default, a third ping within 5 minutes ends the connection. Ours
        # ping every 15 s, but on a starved machine pings arrive in bunches, so that no interval is short enough.
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
        ("grpc.http2.max_ping_strikes", 0),
        # Makes clients reconnect regularly, so that they find new replicas. Running calls continue.
        ("grpc.max_connection_age_ms", 10 * 60_000),
        ("grpc.max_connection_age_grace_ms", int(settings.max_deadline * 1000)),
    ]


def address_of(host: str, port: int) -> str:
    """Return `host:port`."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _explain_bind(field: str, host: str, port: int) -> NoReturn:
    """Repeat a failed bind to find the reason, which gRPC does not give, and raise the error for it."""
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.bind(where)
    except OSError as error:
        refuse(field, host, port, error)
    refuse(field, host, port, OSError(errno.EADDRINUSE, "in use a moment ago"))


def refuse(field: str, host: str, port: int, error: OSError) -> NoReturn:
    """Raise the error for an address that cannot be listened at. field: the setting that gives the port."""
    variable = f"{ServeSettings.prefix}_{field}"
    if error.errno == errno.EADDRINUSE:
        raise PortInUseError(
            f"{address_of(host, port)} is in use by another process; stop it, or set {variable} to another port"
        ) from error
    raise SettingsError(f"{address_of(host, port)}: cannot listen there: {error.strerror}; see {variable}") from error


def write_atomically(path: Path, text: str) -> None:
    """Write the file of the setting ADDRESS_FILE: completely, or not at all. Raises SettingsError, StoreFullError."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        part.write_text(text, encoding="utf-8")
        os.replace(part, path)
    except OSError as error:
        message = f"{ServeSettings.prefix}_ADDRESS_FILE={path}: {error.strerror}"
        raise (StoreFullError if error.errno in disk.FULL else SettingsError)(message) from error


def _end_at_last(server: Server) -> None:
    """End the process if it does not end in time after it was told to, for instance because its store hangs.

    That is as safe as a kill, which loses nothing that was acknowledged.
    """
    server.stopping.wait()
    time.sleep(server.grace + CLOSING_SECONDS)
    log.error("ended in the middle of calls to the store, or of work, that did not end in time")
    os._exit(ExitCode.TRANSIENT)


def main(name: str, build: Callable[[], Sequence[Service]]) -> int:
    """Run services until the process is told to stop, and return the exit code of the process.

    `build` makes the services. A DatamodelsError, also from `build`, is logged in one line and decides the exit code.
    """
    configure_logging(TelemetrySettings(), name)  # so that an error in the settings themselves is logged too
    try:
        start(TelemetrySettings.load(), name)
        guard = auth.guard(AuthSettings.load())
        server = Server(ServeSettings.load(), build(), name, guard)
        server.handle_signals()  # before anybody can know that it serves
        threading.Thread(target=_end_at_last, args=[server], name="end", daemon=True).start()
        with server:
            log.info("serving", address=server.address, metrics_address=server.metrics_address)
            server.wait()
        log.info("stopped")
        return ExitCode.DONE
    except DatamodelsError as error:
        log.error(str(error), error=type(error).__name__)
        return int(error.exit_code)
