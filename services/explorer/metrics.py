"""Count the explorer's requests and their seconds."""

from __future__ import annotations

import time

from prometheus_client import Counter, Histogram

from datamodels.explore.views import PREFIX
from datamodels.telemetry import calls, logger, tracing
from datamodels.telemetry.logs import ACCESS

from .access import HEALTH, LIVE, App, Message, Receive, Scope, Send

access = logger(ACCESS)

OTHER = "other"
"""Route of requests for paths that are none of the API, so that callers cannot create new labels."""

REQUESTS = Counter("datamodels_explorer_requests_total", "Requests that were answered.", ["route", "status"])
SECONDS = Histogram(
    "datamodels_explorer_seconds",
    "Seconds until a request was answered; streams are left out.",
    ["route"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1, 2.5, 5, 10, 30, 60),
)


class Measured:
    """Counts the requests that an application answers; an ASGI middleware."""

    def __init__(self, app: App):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status, streamed = time.perf_counter(), 500, False
        metadata = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        path = scope["path"]
        served = calls.Served(f"{scope['method']} {path}", metadata, traced=path.startswith("/api/"))

        async def sent(message: Message) -> None:
            nonlocal status, streamed
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [*message.get("headers", []), (calls.REQUEST.encode(), served.request.encode())]
                streamed = any(value.startswith(b"text/event-stream") for _, value in headers)
                message = {**message, "headers": headers}
            await send(message)

        try:
            await self._app(scope, receive, sent)
        finally:
            route = _route(scope)
            REQUESTS.labels(route, str(status)).inc()
            if not streamed:
                SECONDS.labels(route).observe(time.perf_counter() - began)
            tracing.note(route=route, status=status)
            if path not in (HEALTH, LIVE):
                seconds = round(time.perf_counter() - began, 6)
                access.info("request answered", method=scope["method"], path=path, status=status, seconds=seconds)
            served.end()


def _route(scope: Scope) -> str:
    """Return the path of the call as its documentation writes it, such as /api/v1/runs/{run}; OTHER if it is no call.

    In some versions of FastAPI, the route of a call matches what follows the prefix.
    """
    route = scope.get("route")
    if route is None:
        return OTHER
    path = route.path if route.path_regex.match(scope["path"]) else PREFIX + route.path
    return path if path.startswith(f"{PREFIX}/") else OTHER
