"""Carry in the metadata of a call whose work it is: the request, the run and the span."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from typing import Any

import structlog

from datamodels.telemetry import logs, tracing

REQUEST, RUN = "x-request-id", "x-datamodels-run"
"""Keys of the metadata. A request keeps its number in all calls that follow from it."""

_USABLE = re.compile(r"[\w.-]{1,128}", re.ASCII)


def headers() -> list[tuple[str, str]]:
    """Return the metadata of a call that this thread makes."""
    known = structlog.contextvars.get_contextvars()
    run = known.get("run") or logs.process_fields().get("run")
    found = [(REQUEST, known.get("request") or secrets.token_hex(8)), *([(RUN, run)] if run else [])]
    return found + tracing.headers(run or "")


class Served:
    """A call that this thread serves: until `end`, its log lines have `request`, and `run` if it is known.

    request  number of the request

    Whatever the thread logged under before is forgotten. With `traced`, the call is a span.
    """

    def __init__(self, name: str, metadata: Mapping[str, Any], *, traced: bool = True):
        said = ((name, str(metadata[name])) for name in (REQUEST, RUN) if name in metadata)
        given = {name: text for name, text in said if _USABLE.fullmatch(text)}
        self.request = given.get(REQUEST) or secrets.token_hex(8)
        # Cleared rather than reset: gRPC may end a stream of responses in another thread, whose context is another.
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request=self.request)
        self._span = tracing.served(name, metadata, request=self.request) if traced and tracing.enabled() else None
        if self._span is not None:
            self._span.__enter__()
        if RUN in given:
            about(given[RUN])

    def end(self) -> None:
        if self._span is not None:
            self._span.__exit__(None, None, None)
        structlog.contextvars.clear_contextvars()


def about(run: str) -> None:
    """Say which run the current call is about. A text that is no name is left out."""
    if _USABLE.fullmatch(run):
        structlog.contextvars.bind_contextvars(run=run)
        tracing.note(run=run)
