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
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

import grpc
from google.protobuf.descriptor import ServiceDescriptor

from datamodels.errors import AccessError, DatamodelsError, InputError, StoreError, UnavailableError
from datamodels.rpc import status
from datamodels.rpc.access import Rules
from datamodels.rpc.context import CallContext, Watches
from datamodels.rpc.watchdog import Budget, Watchdog
from datamodels.telemetry import calls, logger, metrics, tracing
from datamodels.telemetry.logs import ACCESS

log = logger(__name__)
access = logger(ACCESS)
_ACCESS = logging.getLogger(ACCESS)
"""The same without structlog, which takes longer to say whether it is enabled."""

POLLED = ("GetProgress", "Check")
"""Methods that are called again and again. Their calls are no spans."""
OURS = "datamodels."
"""First letters of the full names of our services; others check health."""

_TYPES = {
    (False, False): "unary",
    (True, False): "client_stream",
    (False, True): "server_stream",
    (True, True): "bidi_stream",
}


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
    rules         what services ask of callers, by the full name of the gRPC service
    watchdog      gives each method its threads, and ends calls whose callers are idle
    """

    def __init__(
        self, service: str, max_deadline: float, watches: Watches, rules: Mapping[str, Rules], watchdog: Watchdog
    ):
        self._service = service
        self._max_deadline = max_deadline
        self._watches = watches
        self._rules = rules
        self._watchdog = watchdog
        self._refusing = watchdog.budget("refusals").pool
        self._wrapped: dict[str, tuple[grpc.RpcMethodHandler, grpc.RpcMethodHandler, Budget]] = {}
        """(original, wrapped) handlers by method, and the threads of the method. A cache, because gRPC asks for every
        call in its only thread."""

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
            budget = known[2] if known else self._watchdog.budget(method.rpartition("/")[2])
            known = self._wrapped[method] = handler, self._wrap(handler, behaviour, method, budget), budget
        _, wrapped, budget = known
        return wrapped if budget.expect() else self._refusal(method)

    def _refusal(self, method: str) -> grpc.RpcMethodHandler:
        def refuse(requests, context: grpc.ServicerContext) -> NoReturn:
            context.abort_with_status(
                status.to_status(UnavailableError(f"{method}: too many calls wait for their turn; call again later"))
            )

        refuse.experimental_thread_pool = self._refusing  # type: ignore[attr-defined]
        return grpc.stream_unary_rpc_method_handler(refuse)

    def _wrap(
        self, handler: grpc.RpcMethodHandler, behaviour: Callable, method: str, budget: Budget
    ) -> grpc.RpcMethodHandler:
        """Return a handler that calls `behaviour`.

        To gRPC every method has a stream of requests. If it knew of the others, it would wait for their only message
        before it calls the handler, and nothing would end a call whose caller never sends it.
        """
        encode = _encoder(handler.response_serializer)
        service, _, name = method.lstrip("/").partition("/")
        arguments = _Arguments(handler, method, self._rules.get(service))
        series = _Series(_TYPES[handler.request_streaming, handler.response_streaming], service, name)

        def one(requests: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
            with self._call(series, method, context, budget) as call:
                return encode(behaviour(arguments(requests, call), call))

        def many(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
            with self._call(series, method, context, budget) as call:
                for response in behaviour(arguments(requests, call), call):
                    call.check()
                    encoded = encode(response)
                    call.await_caller()
                    yield encoded
                    call.resume()

        answer: Any = many if handler.response_streaming else one
        answer.experimental_thread_pool = budget.pool
        if handler.response_streaming:
            return grpc.stream_stream_rpc_method_handler(answer)
        return grpc.stream_unary_rpc_method_handler(answer)

    @contextlib.contextmanager
    def _call(self, series: _Series, method: str, context: grpc.ServicerContext, budget: Budget):
        """Run one call: measure it, and end it with a status."""
        call = CallContext(context, self._max_deadline, self._watches)
        budget.begin(call)
        series.started.inc()
        started = time.perf_counter()
        code, fault = grpc.StatusCode.OK, None
        metadata = {str(item[0]): item[1] for item in context.invocation_metadata() or ()}
        ours = method.startswith(f"/{OURS}")
        served = calls.Served(method[1:], metadata, traced=ours and not method.endswith(POLLED))
        try:
            yield call
            call.check()
            code = call.ending() or call.code() or code
        except GeneratorExit:  # the caller is gone, so gRPC closes the stream of responses
            code = call.ending() or grpc.StatusCode.CANCELLED
            raise
        except BaseException as error:
            fault = error
            code = call.aborted or call.ending() or _code(error)
            if call.aborted:
                raise
            self._abort(error, method, call)
        finally:
            budget.end(call)
            seconds = time.perf_counter() - started
            if call.entry is not None:
                call.entry.record(context, _name(code), fault)
                if isinstance(fault, AccessError):
                    metrics.DENIED.labels(fault.grpc_code).inc()
            series.handled(_name(code)).inc()
            series.seconds.observe(seconds)
            tracing.note(**{"rpc.system": "grpc", "rpc.method": method, "code": _name(code)})
            if ours and _ACCESS.isEnabledFor(logging.INFO):
                who = {"caller": call.entry.caller.subject} if call.entry and call.entry.caller else {}
                fields = {"code": _name(code), "seconds": round(seconds, 6), "peer": context.peer()} | who
                access.info("call handled", method=method, **fields)
            served.end()

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


class _Arguments:
    """Reads what callers of a method send, and checks who they are and what their first message is about.

    Called with the requests of a call and its context, it returns what a servicer takes.
    """

    def __init__(self, handler: grpc.RpcMethodHandler, method: str, rules: Rules | None):
        self._decode = _decoder(handler.request_deserializer, method)
        self._streaming = handler.request_streaming
        self._method, self._name = method, method.rpartition("/")[2]
        self._run_of = None if rules is None or self._name in rules.lists else rules.run_of
        self._rules = rules if rules is not None and rules.watches(self._name) else None

    def __call__(self, requests: Iterator[bytes], call: CallContext) -> Any:
        if call.ending():  # while the call waited for its thread
            raise UnavailableError("the caller has ended the call")
        if self._rules is not None:
            call.entry = self._rules.entry(self._name)
            call.entry.identify(call.invocation_metadata())
        if self._streaming:
            return self._stream(requests, call)
        message = self._first(requests, call)
        if message is None:
            raise InputError(f"{self._method}: the call ended without its message")
        return message

    def _stream(self, requests: Iterator[bytes], call: CallContext) -> Iterator[Any]:
        message = self._first(requests, call)
        while message is not None:
            yield message
            message = self._next(requests, call)

    def _first(self, requests: Iterator[bytes], call: CallContext) -> Any:
        message = self._next(requests, call)
        if message is not None:
            if self._run_of is not None:
                calls.about(self._run_of(message))
            if call.entry is not None:
                call.entry.check(message)
        return message

    def _next(self, requests: Iterator[bytes], call: CallContext) -> Any:
        """Return the next message of a call, which must come before its deadline; None after the last one."""
        call.await_caller()
        raw = next(requests, None)
        call.resume()
        call.check()
        return None if raw is None else self._decode(raw)


class _Series:
    """The metrics of one method, looked up once by its type, service and name."""

    def __init__(self, *labels: str):
        self.started = metrics.STARTED.labels(*labels)
        self.seconds = metrics.HANDLING_SECONDS.labels(*labels)
        self.handled = functools.cache(functools.partial(metrics.HANDLED.labels, *labels))
        """Counter of ended calls, by the name of a status code."""


def _code(error: BaseException) -> grpc.StatusCode:
    return grpc.StatusCode[error.grpc_code] if isinstance(error, DatamodelsError) else grpc.StatusCode.INTERNAL


def _name(code: Any) -> str:
    """Return the name of a status code, which servicers may also give as a number."""
    if isinstance(code, grpc.StatusCode):
        return code.name
    return next((c.name for c in grpc.StatusCode if c.value[0] == code), grpc.StatusCode.UNKNOWN.name)


def _encoder(serializer: Callable[[Any], bytes] | None) -> Callable[[Any], bytes]:
    """Return what encodes responses, except those that are bytes already: all of them if there is no serializer."""
    return lambda response: response if isinstance(response, bytes) or serializer is None else serializer(response)


def _decoder(deserializer: Callable[[bytes], Any] | None, method: str) -> Callable[[bytes], Any]:
    if deserializer is None:
        return lambda raw: raw

    def decode(raw: bytes):
        try:
            return deserializer(raw)
        except Exception as error:
            raise InputError(f"{method}: the request is not a message of this call: {error}") from error

    return decode
