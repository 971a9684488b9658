"""Send spans of what a process does to an OpenTelemetry collector, if the settings or OTEL_* variables name one.

Otherwise nothing of OpenTelemetry is imported, and a span costs a comparison.

All spans of a run belong to one trace, whose number follows from the run's name. So those of trainers, which nobody
calls, and those of a run that is continued later belong to it, too. The span of the whole run is the root.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import Any

from datamodels import environment, extras
from datamodels.errors import SettingsError
from datamodels.settings import TelemetrySettings

PARENT = "traceparent"
"""Header, or key of gRPC metadata, that names the caller's span (W3C Trace Context)."""

_PARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")
_OFF: AbstractContextManager[Any] = contextlib.nullcontext()
_current: ContextVar[Any] = ContextVar("span", default=None)
_root = threading.local()
_tracer: Any = None
_provider: Any = None


def configure(settings: TelemetrySettings, service: str) -> None:
    """Send spans to `settings.traces`, else to what OTEL_* variables name, else nowhere; this replaces an earlier call.

    Raises SettingsError if a collector is named and OpenTelemetry is not installed.
    """
    global _tracer, _provider
    stop()
    if not settings.traces and not environment.has_collector():
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError as error:
        raise SettingsError(f"traces need {extras.advice(error) or error}") from error
    where = f"{settings.traces.rstrip('/')}/v1/traces" if settings.traces else None
    resource = Resource.create({"service.name": f"datamodels-{service}"})
    _provider = TracerProvider(resource=resource, id_generator=_numbers())
    _provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(where)))
    _tracer = _provider.get_tracer("datamodels")


def stop() -> None:
    """Send the spans that are waiting, for some seconds at most, and open no more."""
    global _tracer, _provider
    provider, _tracer, _provider = _provider, None, None
    if provider is not None:
        provider.shutdown()


def root(run: str) -> AbstractContextManager[Any]:
    """Return the context of a run's root span."""
    return _OFF if _tracer is None else _opened_root(run)


def span(name: str, run: str = "", **attributes: Any) -> AbstractContextManager[Any]:
    """Return the context of a span in the current one; without a current one, in the trace of the run."""
    return _OFF if _tracer is None else _opened(name, _current.get() or (_of_run(run) if run else None), **attributes)


def served(name: str, metadata: Mapping[str, str], **attributes: Any) -> AbstractContextManager[Any]:
    """Return the context of the span of a call that this process serves, in the span that its metadata name."""
    if _tracer is None:
        return _OFF
    from opentelemetry.trace import SpanKind

    return _opened(name, _parent(metadata.get(PARENT, "")), kind=SpanKind.SERVER, **attributes)


def traced(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that opens a span for each call within a span; its first argument is the key of an object."""

    @functools.wraps(function)
    def call(key: str, *arguments: Any, **named: Any) -> Any:
        if _current.get() is None:
            return function(key, *arguments, **named)
        with span(name, key=key):
            return function(key, *arguments, **named)

    return call


def enabled() -> bool:
    """Return whether spans are sent."""
    return _tracer is not None


def note(**attributes: Any) -> None:
    """Add attributes to the current span, if there is one."""
    if (current := _current.get()) is not None:
        current.set_attributes(_named(attributes))


def headers(run: str = "") -> list[tuple[str, str]]:
    """Return what a call's metadata say of the current span; without one, of the root span of a run."""
    current = _current.get() or (_of_run(run) if run and _tracer is not None else None)
    if current is None:
        return []
    of = current.get_span_context()
    return [(PARENT, f"00-{of.trace_id:032x}-{of.span_id:016x}-{of.trace_flags:02x}")]


def _named(attributes: dict[str, Any]) -> dict[str, Any]:
    return {name if "." in name else f"datamodels.{name}": value for name, value in attributes.items() if value != ""}


@contextlib.contextmanager
def _opened(name: str, parent: Any, kind: Any = None, **attributes: Any) -> Iterator[Any]:
    from opentelemetry import trace
    from opentelemetry.context import Context

    within = Context() if parent is None else trace.set_span_in_context(parent, Context())
    opened = _tracer.start_span(name, within, kind or trace.SpanKind.INTERNAL, _named(attributes))
    before = _current.get()
    _current.set(opened)
    try:
        yield opened
    except Exception as error:
        opened.set_status(trace.StatusCode.ERROR, type(error).__name__)
        raise
    finally:
        _current.set(before)
        opened.end()


@contextlib.contextmanager
def _opened_root(run: str) -> Iterator[Any]:
    _root.numbers = _numbers_of(run)
    with _opened(f"run {run}", None, run=run) as opened:
        yield opened


def _numbers_of(run: str) -> tuple[int, int]:
    """Return the numbers of a run's trace and of its root span."""
    digest = hashlib.sha256(f"datamodels run {run}".encode()).digest()
    return int.from_bytes(digest[:16]), int.from_bytes(digest[16:24])


def _numbers() -> Any:
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

    class Numbers(RandomIdGenerator):
        """Gives the root span of a run the numbers that follow from its name."""

        def generate_trace_id(self) -> int:
            known = getattr(_root, "numbers", None)
            return known[0] if known else super().generate_trace_id()

        def generate_span_id(self) -> int:
            known, _root.numbers = getattr(_root, "numbers", None), None
            return known[1] if known else super().generate_span_id()

    return Numbers()


def _of_run(run: str) -> Any:
    return _elsewhere(*_numbers_of(run), 1)


def _parent(text: str) -> Any:
    found = _PARENT.fullmatch(text)
    return _elsewhere(*(int(part, 16) for part in found.groups())) if found else None


def _elsewhere(trace_id: int, span_id: int, flags: int) -> Any:
    from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

    return NonRecordingSpan(SpanContext(trace_id, span_id, True, TraceFlags(flags)))
