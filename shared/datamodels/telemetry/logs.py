"""Write structured logs to standard error: one JSON object per line, or coloured lines for people."""

from __future__ import annotations

import contextvars
import functools
import logging
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

import structlog

from datamodels.environment import hide_secrets
from datamodels.errors import SettingsError
from datamodels.screen import printable, redact
from datamodels.settings import TelemetrySettings

LEVELS = ("debug", "info", "warning", "error")
ACCESS = "datamodels.access"
"""Name of the logger of calls and requests that were answered."""

T = TypeVar("T")
P = ParamSpec("P")

bound = structlog.contextvars.bound_contextvars
"""`with bound(run=name):` adds fields to every log line that this thread writes inside."""

_process: dict[str, Any] = {}

# Log messages of other libraries, such as gRPC, pass through the same processors.
_SHARED = (
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
)


def configure_logging(settings: TelemetrySettings, service: str) -> None:
    """Send all logs of this process to standard error.

    Each line has a timestamp, level, event and service, and all bound fields such as `run`. A second call replaces the
    configuration of the first. Raises SettingsError for an unknown level or format.
    """
    if settings.level not in LEVELS:
        raise SettingsError(f"{settings.prefix}_LEVEL={settings.level!r}: must be one of {', '.join(LEVELS)}")
    hide_secrets()
    _process.clear()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_SHARED,
            processors=[
                lambda _logger, _method, event: {"service": service, **_process, **event},
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_renderers(settings),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    # Other libraries log requests with their headers, and so tokens, at debug.
    root.setLevel(settings.level.upper() if settings.level != "debug" else "INFO")
    logging.getLogger("datamodels").setLevel(settings.level.upper())
    logging.getLogger(ACCESS).setLevel("INFO" if settings.access or settings.level == "debug" else "CRITICAL")
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # it warns of each lost connection; callers say what matters
    sys.excepthook = _log_uncaught


def of_process(**fields: Any) -> None:
    """Add fields to all log lines of this process, such as the run that it works for, until it configures logs anew."""
    _process.update(fields)


def process_fields() -> dict[str, Any]:
    """Return the fields that `of_process` has added."""
    return dict(_process)


def carried(function: Callable[P, T]) -> Callable[P, T]:
    """Return a function for other threads: what it logs has the fields that are bound here and now, and its spans are
    in the current span."""
    here = contextvars.copy_context()

    @functools.wraps(function)
    def call(*arguments: P.args, **named: P.kwargs) -> T:
        return here.copy().run(function, *arguments, **named)

    return call


def _renderers(settings: TelemetrySettings) -> list:
    if settings.format == "json":
        # JSON escapes what a terminal would obey.
        return [structlog.processors.format_exc_info, _cleaner(redact), structlog.processors.JSONRenderer(default=str)]
    if settings.format == "console":
        shown = _cleaner(lambda text: printable(redact(text)))
        return [structlog.processors.format_exc_info, shown, structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    raise SettingsError(f"{settings.prefix}_FORMAT={settings.format!r}: must be json or console")


def _cleaner(clean: Callable[[str], str]) -> structlog.typing.Processor:
    """Return a processor that cleans all texts of an event, also those inside of lists and mappings."""

    def cleaned(value: Any) -> Any:
        match value:
            case bool() | int() | float() | None:
                return value
            case list() | tuple():
                return [cleaned(item) for item in value]
            case dict():
                return {clean(str(name)): cleaned(item) for name, item in value.items()}
        return clean(str(value))

    return lambda _logger, _method, event: {name: cleaned(value) for name, value in event.items()}


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    logger(__name__).critical("uncaught", exc_info=(kind, error, trace))


def logger(name: str) -> structlog.stdlib.BoundLogger:
    """Return the logger of a module.

    Use it as `log.info("subsets drawn", rows=100)`: the event is a fixed phrase, and all values are fields.
    """
    return structlog.wrap_logger(
        logging.getLogger(name),
        processors=[
            structlog.stdlib.filter_by_level,
            *_SHARED,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        context_class=dict,
    )
