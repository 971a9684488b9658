"""Send what goes on as server-sent events: the progress of a run, and that of a long analysis with its result."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from datamodels.errors import DatamodelsError, UnavailableError
from datamodels.explore import views
from datamodels.explore.progress import Observer, RunProgress
from datamodels.screen import plain

EVERY = 2.0
"""Seconds between two looks at a run."""
ALIVE = 15.0
"""Seconds after which a comment is sent if nothing has changed, so that proxies keep the connection."""
MOST_STREAMS = 100


class Streams:
    """Sends events. `closing` ends all streams, so that the server can stop."""

    def __init__(self) -> None:
        self.closing = threading.Event()
        self._open = 0

    def progress(
        self, read: Callable[[], RunProgress], price: float = 0.0, *, every: float = EVERY
    ) -> StreamingResponse:
        """Send the progress of a run whenever it changes, until the run has ended. price: as for `views.progress`."""
        return self._response(self._changes(read, price, every))

    def analysis(self, answers: Iterator[tuple[str, dict[str, Any]]]) -> StreamingResponse:
        """Send (name of the event, data) as they come."""
        return self._response(self._all(answers))

    def _response(self, events: AsyncIterator[str]) -> StreamingResponse:
        if self._open >= MOST_STREAMS:
            raise UnavailableError("too many pages are being watched; close some")
        return StreamingResponse(self._counted(events), media_type="text/event-stream")

    async def _counted(self, events: AsyncIterator[str]) -> AsyncIterator[str]:
        self._open += 1
        try:
            async for event in events:
                yield event
        except DatamodelsError as error:  # the answer has begun, so its status can no longer say so
            yield _event("problem", {"title": type(error).__name__, "detail": plain(str(error))})
        finally:
            self._open -= 1

    async def _changes(self, read: Callable[[], RunProgress], price: float, every: float) -> AsyncIterator[str]:
        observer, sent, quiet = Observer(), None, 0.0
        while not self.closing.is_set():
            found = observer.see(await run_in_threadpool(read))
            if found != sent:
                yield _event("progress", views.progress(found, price).model_dump(mode="json"))
                sent, quiet = found, 0.0
            if found.ended:
                yield _event("ended", {})
                return
            await asyncio.sleep(every)
            quiet += every
            if quiet >= ALIVE:
                yield ": nothing new\n\n"
                quiet = 0.0

    async def _all(self, answers: Iterator[tuple[str, dict[str, Any]]]) -> AsyncIterator[str]:
        try:
            while (found := await run_in_threadpool(next, answers, None)) is not None and not self.closing.is_set():
                yield _event(*found)
        finally:
            close = getattr(answers, "close", None)
            if close is not None:
                await run_in_threadpool(close)


def _event(name: str, data: dict[str, Any]) -> str:
    return f"event: {name}\ndata: {json.dumps(data, separators=(',', ':'), allow_nan=False)}\n\n"
