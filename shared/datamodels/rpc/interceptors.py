"""Intercept all calls on a server: for statuses of errors, metrics, logs, deadlines and access.

It decodes requests and encodes responses in place of gRPC, so that a malformed request raises a typed error too, at any
point of a stream.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NoReturn

import grpc
from google.protobuf.descriptor import ServiceDescriptor

from datamodels.errors import DatamodelsError, InputError, StoreError
from datamodels.rpc import status
from datamodels.rpc.context import CallContext, Watches
from datamodels.telemetry import logger, metrics

log = logger(__name__)

_TYPES = {
    (False, False): "unary",
    (True, False): "client_stream",
    (False, True): "server_stream",
    (True, True): "bidi_stream",
}

Gate = Callable[[Iterable[Any]], Callable[[Any], None]]
"""Checks a call's metadata and returns the check of its first message. Both raise an error if access is denied."""


def expect_calls(service: ServiceDescriptor) -> None:
    """Create the metrics of all methods of a service, with every status code, before the first call.

    See `metrics.start_at_zero` for the reason.
    """
    for method in service.methods:
        series = _Series(_TYPES[method.client_streaming, method.server_streaming], service.full_name, method.name)
        for code in grpc.StatusCode:
            series.handled(code.name)


class CallInterceptor(grpc.ServerInterceptor):
    """Wraps every method of a server.

    service       name of the process, for messages
    max_deadline  longest duration of a call, in seconds
    watches       registry of the calls that run until something ends them
    gates         access checks by the full name of the gRPC service; see `auth.Guard.gate`
    """

    def __init__(self, service: str, max_deadline: float, watches: Watches, gates: Mapping[str, Gate]):
        self._service = service
        self._max_deadline = max_deadline
        self._watches = watches
        self._gates = gates
        self._wrapped: dict[str, tuple[grpc.RpcMethodHandler, grpc.RpcMethodHandler]] = {}
        """(original, wrapped) handlers by method. A cache, because gRPC asks for every call in its only thread."""

    def intercept_service(self, continuation, handler_call_details):
        handler = continuation(handler_call_details)
        if handler is None:
            labels = ("unary", metrics.OTHER, metrics.OTHER)
            metrics.STARTED.labels(*labels).inc()
            metrics.HANDLED.labels(*labels, grpc.StatusCode.UNIMPLEMENTED.name).inc()
            return None
        behaviour = handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
        if getattr(behaviour, "experimental_non_blocking", False):  # health's Watch holds no thread and never ends
            return handler
        method = handler_call_details.method
        known = self._wrapped.get(method)
        if known is None or known[0] is not handler:
            known = self._wrapped[method] = handler, self._wrap(handler, behaviour, method)
        return known[1]

    def _wrap(self, handler: grpc.RpcMethodHandler, behaviour: Callable, method: str) -> grpc.RpcMethodHandler:
        decode = _decoder(handler.request_deserializer, method)
        encode = handler.response_serializer or bytes  # without a serializer, responses are already bytes
        service, _, name = method.lstrip("/").partition("/")
        gate = self._gates.get(service, _open)
        series = _Series(_TYPES[handler.request_streaming, handler.response_streaming], service, name)

        def arguments(request, call: CallContext):
            check = gate(call.invocation_metadata())
            if handler.request_streaming:
                return _checked(map(decode, request), check)
            message = decode(request)
            check(message)
            return message

        def one(request, context: grpc.ServicerContext) -> bytes:
            with self._call(series, method, context) as call:
                return encode(behaviour(arguments(request, call), call))

        def many(request, context: grpc.ServicerContext) -> Iterator[bytes]:
            with self._call(series, method, context) as call:
                for response in behaviour(arguments(request, call), call):
                    call.check()
                    yield encode(response)

        make = {
            (False, False): grpc.unary_unary_rpc_method_handler,
            (True, False): grpc.stream_unary_rpc_method_handler,
            (False, True): grpc.unary_stream_rpc_method_handler,
            (True, True): grpc.stream_stream_rpc_method_handler,
        }[handler.request_streaming, handler.response_streaming]
        return make(many if handler.response_streaming else one)

    @contextlib.contextmanager
    def _call(self, series: _Series, method: str, context: grpc.ServicerContext):
        """Run one call: measure it, and end it with a status."""
        call = CallContext(context, self._max_deadline, self._watches)
        series.started.inc()
        started = time.perf_counter()
        code = grpc.StatusCode.OK
        try:
            yield call
            call.check()
            code = call.ending() or call.code() or code
        except GeneratorExit:  # the caller is gone, so gRPC closes the stream of responses
            code = call.ending() or grpc.StatusCode.CANCELLED
            raise
        except BaseException as error:
            code = call.aborted or call.ending() or _code(error)
            if call.aborted:
                raise
            self._abort(error, method, call)
        finally:
            seconds = time.perf_counter() - started
            series.handled(_name(code)).inc()
            series.seconds.observe(seconds)
            if log.isEnabledFor(logging.DEBUG):
                log.debug(
                    "call handled", method=method, code=_name(code), seconds=round(seconds, 6), peer=context.peer()
                )

    def _abort(self, error: BaseException, method: str, call: CallContext) -> NoReturn:
        """End the call with the status of an error. Raises gRPC's own exception, not the error."""
        if isinstance(error, DatamodelsError):
            if isinstance(error, StoreError) or error.grpc_code == grpc.StatusCode.INTERNAL.name:
                log.warning("call failed", method=method, error=type(error).__name__, message=str(error))
            call.abort_with_status(status.to_status(error))
        ending = call.ending()
        if isinstance(error, grpc.RpcError) and ending:  # gRPC raises it if the stream of requests was cut off
            call.abort(ending, "the caller has ended the call")
        number = secrets.token_hex(4)
        log.error("internal error", id=number, method=method, exc_info=error)
        call.abort(grpc.StatusCode.INTERNAL, f"internal error, see the log of {self._service} ({number})")


class _Series:
    """The metrics of one method, looked up once by its type, service and name."""

    def __init__(self, *labels: str):
        self.started = metrics.STARTED.labels(*labels)
        self.seconds = metrics.HANDLING_SECONDS.labels(*labels)
        self.handled = functools.cache(functools.partial(metrics.HANDLED.labels, *labels))
        """Counter of ended calls, by the name of a status code."""


def _open(metadata: Iterable[Any]) -> Callable[[Any], None]:
    return lambda message: None


def _checked(messages: Iterator[Any], check: Callable[[Any], None]) -> Iterator[Any]:
    for message in messages:
        check(message)
        yield message
        break
    yield from messages


def _code(error: BaseException) -> grpc.StatusCode:
    return grpc.StatusCode[error.grpc_code] if isinstance(error, DatamodelsError) else grpc.StatusCode.INTERNAL


def _name(code: Any) -> str:
    """Return the name of a status code, which servicers may also give as a number."""
    if isinstance(code, grpc.StatusCode):
        return code.name
    return next((c.name for c in grpc.StatusCode if c.value[0] == code), grpc.StatusCode.UNKNOWN.name)


def _decoder(deserializer: Callable[[bytes], Any] | None, method: str) -> Callable[[bytes], Any]:
    if deserializer is None:
        return lambda raw: raw

    def decode(raw: bytes):
        try:
            return deserializer(raw)
        except Exception as error:
            raise InputError(f"{method}: the request is not a message of this call: {error}") from error

    return decode
