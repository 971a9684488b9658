"""Open channels to the services, with deadlines and retries. Errors of a server are raised again in the client."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import grpc

from datamodels.errors import DatamodelsError
from datamodels.rpc import auth, status, tls
from datamodels.settings import ClientSettings
from datamodels.telemetry import calls
from datamodels.v1 import aggregator_pb2, fitter_pb2, query_pb2, sampler_pb2

NOT_RETRIED = tuple(
    (service.full_name, method.name)
    for module in (aggregator_pb2, fitter_pb2, query_pb2, sampler_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
    if method.client_streaming or method.server_streaming
)
"""Calls that gRPC must not retry, all of which have streams. All other calls are idempotent, and gRPC retries them if a
server is unavailable.

PutOutputs is idempotent too, but to retry it gRPC would have to keep the whole stream in memory; the trainer sends it
again itself. Response streams hang forever if a retry policy is set and the server dies before its first response
(measured with gRPC 1.85).
"""


PING_MS, PING_TIMEOUT_MS = 15_000, 10_000
"""How long a connection may be silent while a call waits, until the client pings, and how long the answer may take. So
a connection that is dead without having ended is given up within 30 seconds. Servers accept a ping every 5 seconds,
and those of version 0.2.0 every 10."""


def connect(address: str, settings: ClientSettings, *, with_token: bool = False) -> grpc.Channel:
    """Return a channel to host:port, or to any gRPC target: dns:///name:port, unix:PATH. It connects on first use.

    The channel uses TLS if `settings.ca_file` is set. With `with_token`, every call sends the token in
    `settings.token_file`, if that is set.

    Calls raise the errors of datamodels.errors, also while their stream of responses is read. An error that the
    caller's own stream of requests raises is raised unchanged. A call with one response and no timeout gets
    `settings.deadline`; a call with a stream of responses has only the timeout that it is given.

    Raises SettingsError if a certificate cannot be used. Calls raise it if the token cannot be read.
    """
    options: list[tuple[str, Any]] = [
        ("grpc.service_config", json.dumps(service_config(settings.attempts))),
        ("grpc.keepalive_time_ms", PING_MS),
        ("grpc.keepalive_timeout_ms", PING_TIMEOUT_MS),
        ("grpc.http2.ping_timeout_ms", PING_TIMEOUT_MS),  # without it a minute, whatever the line above says
    ]
    if is_loopback(address):  # no proxy can reach it; http_proxy and its relatives are for other addresses
        options.append(("grpc.enable_http_proxy", 0))
    channel: grpc.Channel
    if settings.ca_file:
        channel = tls.secure_channel(address, settings, options)
    else:
        channel = grpc.insecure_channel(address, options=options)
    token_file = settings.token_file if with_token else ""
    return grpc.intercept_channel(channel, _Interceptor(address, settings.deadline, token_file))


def is_loopback(address: str) -> bool:
    """Return whether the host of host:port, or of a target such as dns:///name:port, always means this machine."""
    if address.startswith("unix:"):
        return True
    host = re.sub(r"^(dns:(//[^/]*/)?|ipv[46]:)", "", address).rpartition(":")[0].strip("[]")
    with contextlib.suppress(ValueError):
        found = ipaddress.ip_address(host)
        return found.is_loopback or found.is_unspecified
    return host == "localhost" or host.endswith(".localhost")


def service_config(attempts: int) -> dict[str, Any]:
    """Return gRPC's service config: round robin over all servers, and `attempts` tries of idempotent calls."""
    methods: list[dict[str, Any]] = [{"name": [{"service": s, "method": m} for s, m in NOT_RETRIED]}]
    if attempts > 1:
        retry = {
            "maxAttempts": attempts,
            "initialBackoff": "0.2s",
            "maxBackoff": "5s",
            "backoffMultiplier": 2,
            # A server that stops ends calls that it has just accepted with CANCELLED, although no caller did.
            "retryableStatusCodes": [grpc.StatusCode.UNAVAILABLE.name, grpc.StatusCode.CANCELLED.name],
        }
        methods.append({"name": [{}], "retryPolicy": retry})
    return {"loadBalancingConfig": [{"round_robin": {}}], "methodConfig": methods}


class _Details(NamedTuple):
    """A grpc.ClientCallDetails with changes; gRPC has no function to copy one."""

    method: str
    timeout: float | None
    metadata: Any
    credentials: Any
    wait_for_ready: bool | None
    compression: Any


class _Interceptor(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    def __init__(self, address: str, deadline: float, token_file: str):
        self._address = address
        self._deadline = deadline
        self._token_file = token_file

    def intercept_unary_unary(self, continuation, client_call_details, request):
        return _Call(continuation(self._details(client_call_details, self._deadline), request), self._address)

    def intercept_unary_stream(self, continuation, client_call_details, request):
        return _Call(continuation(self._details(client_call_details), request), self._address)

    def intercept_stream_unary(self, continuation, client_call_details, request_iterator):
        requests = _Requests(request_iterator)
        details = self._details(client_call_details, self._deadline)
        return _Call(continuation(details, requests), self._address, requests)

    def intercept_stream_stream(self, continuation, client_call_details, request_iterator):
        requests = _Requests(request_iterator)
        return _Call(continuation(self._details(client_call_details), requests), self._address, requests)

    def _details(self, details: grpc.ClientCallDetails, deadline: float | None = None) -> _Details:
        """Return the details with the token and whose work it is, and with the deadline if they have none."""
        metadata = (*(details.metadata or ()), *calls.headers())
        if self._token_file:
            metadata = (*metadata, auth.header(self._token_file))
        return _Details(
            details.method,
            deadline if details.timeout is None else details.timeout,
            metadata,
            details.credentials,
            details.wait_for_ready,
            details.compression,
        )


class _Requests:
    """A stream of requests that remembers the error it ended with; gRPC reports only that there was one."""

    def __init__(self, requests: Iterator[Any]):
        self._requests = iter(requests)
        self.error: Exception | None = None

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        try:
            return next(self._requests)
        except StopIteration:
            raise
        except Exception as error:
            self.error = error
            raise


class _Call:
    """Wraps a gRPC call so that it raises the errors of datamodels.errors instead of grpc.RpcError."""

    def __init__(self, call: Any, address: str, requests: _Requests | None = None):
        self._call = call
        self._address = address
        self._requests = requests

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)

    def result(self, timeout: float | None = None) -> Any:
        return self._translated(lambda: self._call.result(timeout))

    def exception(self, timeout: float | None = None) -> Exception | None:
        error = self._call.exception(timeout)
        return self._translate(error) if isinstance(error, grpc.RpcError) else error

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return self._translated(lambda: next(self._call))

    def _translated(self, ask: Callable[[], Any]) -> Any:
        try:
            return ask()
        except grpc.RpcError as error:
            raise self._translate(error) from error

    def _translate(self, error: grpc.RpcError) -> Exception:
        if self._requests is not None and self._requests.error is not None:
            return self._requests.error
        if not isinstance(error, grpc.Call):
            return DatamodelsError(f"{self._address}: {error}")
        return status.to_error(error, self._address)
