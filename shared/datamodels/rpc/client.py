"""Channels to the services: deadlines, retries, and the servers' errors raised again as they were."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import grpc

from datamodels.errors import DatamodelsError
from datamodels.rpc import auth, status, tls
from datamodels.settings import ClientSettings

NOT_RETRIED = (
    ("datamodels.v1.AggregatorService", "PutOutputs"),
    ("datamodels.v1.AggregatorService", "WatchRun"),
    ("datamodels.v1.FitterService", "WatchFit"),
    ("datamodels.v1.QueryService", "GetWeights"),
    ("datamodels.v1.QueryService", "Support"),
    ("datamodels.v1.QueryService", "Evaluate"),
    ("datamodels.v1.QueryService", "Clusters"),
    ("datamodels.v1.QueryService", "Components"),
    ("datamodels.v1.QueryService", "Conflicts"),
    ("datamodels.v1.SamplerService", "GetSubsets"),
)
"""Calls with streams, which gRPC must not send twice. All others are idempotent, and are sent again when a server is
unavailable.

PutOutputs could be, but gRPC would have to keep the whole stream for it; the trainer sends it again itself. Streams of
answers hang for good where the server dies before its first answer and a retry policy is set (gRPC 1.85, measured).
"""


def connect(address: str, settings: ClientSettings, *, with_token: bool = False) -> grpc.Channel:
    """A channel to host:port, or to any gRPC target such as dns:///name:port. Connects when first used.

    By TLS where the settings name authorities. `with_token` shows the token that they name, if any, with every call.

    Calls on it raise the errors of datamodels.errors, also while a stream of responses is read; an error raised by
    the caller's own stream of requests comes out as it is. Calls with one response that are given no timeout get
    `settings.deadline`; the others have no deadline but what they are given.

    Raises SettingsError where a certificate cannot be used; calls do where the token cannot be read.
    """
    options = [
        ("grpc.service_config", json.dumps(service_config(settings.attempts))),
        ("grpc.keepalive_time_ms", 30_000),  # servers here permit one ping each 10 seconds
        ("grpc.keepalive_timeout_ms", 20_000),
    ]
    channel: grpc.Channel
    if settings.ca_file:
        channel = tls.secure_channel(address, settings, options)
    else:
        channel = grpc.insecure_channel(address, options=options)
    token_file = settings.token_file if with_token else ""
    return grpc.intercept_channel(channel, _Interceptor(address, settings.deadline, token_file))


def service_config(attempts: int) -> dict[str, Any]:
    """gRPC's service config: calls go round all servers, and idempotent ones are tried `attempts` times."""
    methods: list[dict[str, Any]] = [{"name": [{"service": s, "method": m} for s, m in NOT_RETRIED]}]
    if attempts > 1:
        retry = {
            "maxAttempts": attempts,
            "initialBackoff": "0.2s",
            "maxBackoff": "5s",
            "backoffMultiplier": 2,
            # CANCELLED is not the caller: a server that stops says so of a call that it had just taken in.
            "retryableStatusCodes": [grpc.StatusCode.UNAVAILABLE.name, grpc.StatusCode.CANCELLED.name],
        }
        methods.append({"name": [{}], "retryPolicy": retry})
    return {"loadBalancingConfig": [{"round_robin": {}}], "methodConfig": methods}


class _Details(NamedTuple):
    """grpc.ClientCallDetails; gRPC gives no way to change one."""

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
        """With the token, and the deadline where there is none."""
        metadata = details.metadata
        if self._token_file:
            metadata = (*(metadata or ()), auth.header(self._token_file))
        return _Details(
            details.method,
            deadline if details.timeout is None else details.timeout,
            metadata,
            details.credentials,
            details.wait_for_ready,
            details.compression,
        )


class _Requests:
    """A stream of requests that remembers the error it ended with; gRPC only says that there was one."""

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
    """A call of gRPC that raises the errors of datamodels.errors instead of grpc.RpcError."""

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
