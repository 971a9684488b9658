"""Keep lists of objects up to date by watches, so that looking at them again costs the API server nothing.

A list of 3,000 pods is 28 MB, and a driver looks every two seconds. A watch sends what changes. It begins at the
version of a list; bookmarks say how far it has come, so that it goes on from there if the connection ends. If the
server no longer has that version, the list is read again.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Self

from datamodels.errors import ClusterError, DatamodelsError, UnavailableError
from datamodels.runners.cluster.api import Cluster, ExpiredError, Object, Query, slim
from datamodels.telemetry import logger

log = logger(__name__)

SECONDS = 240
"""Length of one watch. The server ends it, and the next one begins where it ended."""
RETRIES = (1.0, 30.0)
"""First and longest wait in seconds before the next attempt, if the server does not answer."""
RARELY = 30.0
"""Seconds for which an answer is kept that is not watched."""
STALE = 600.0
"""Seconds for which what is known is still returned if the server does not answer."""
GONE = 410
"""Status of a version that the server no longer has."""


class Watching(Cluster):
    """A cluster whose lists are watched from the first time that they are asked for. Close it to end the watches.

    An answer may lag behind a change by the time that its event takes. What is not watched is asked for at most every
    RARELY seconds: events of single pods, and what Kueue says.
    """

    def __init__(self, cluster: Cluster):
        super().__init__(cluster.namespace, cluster.api_client)
        self._plain = cluster
        self._watched: dict[Query, _List] = {}
        self._answers: dict[tuple[str, str], tuple[float, Any]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for each in self._watched.values():
            each.close()

    def job(self, name: str) -> Object | None:
        found = self._found(Query("jobs", fields=f"metadata.name={name}"))
        return found[0] if found else None

    def warnings(self, kind: str, name: str) -> list[Object]:
        if kind == "Job":
            return super().warnings(kind, name)
        return self._rarely((kind, name), lambda: self._plain.warnings(kind, name))

    def workload(self, job: Object) -> Object | None:
        return self._rarely(("Workload", job["metadata"]["uid"]), lambda: self._plain.workload(job))

    def _rarely(self, key: tuple[str, str], ask: Callable[[], Any]) -> Any:
        now = time.monotonic()
        self._answers = {k: found for k, found in self._answers.items() if now < found[0] + RARELY}
        if key not in self._answers:
            self._answers[key] = now, ask()
        return self._answers[key][1]

    def _found(self, query: Query) -> list[Object]:
        if query not in self._watched:
            self._watched[query] = _List(self, query)
        return self._watched[query].now()


class _List:
    """Objects that a query finds, by name. A thread keeps them up to date."""

    def __init__(self, cluster: Cluster, query: Query):
        self._cluster = cluster
        self._query = query
        self._changed = threading.Condition()
        self._objects: dict[str, Object] = {}
        self._known = False
        self._error: Exception | None = None
        self._failing_since = 0.0
        self._closed = threading.Event()
        self._end: Callable[[], None] = lambda: None
        threading.Thread(target=self._run, name=f"watch {query.kind}", daemon=True).start()

    def now(self) -> list[Object]:
        """Return the objects, the oldest first.

        Raises what the server answered if it refuses the list, or does not answer for STALE seconds.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._known or self._error is not None)
            lasting = time.monotonic() > self._failing_since + STALE
            if self._error is not None and (lasting or not self._known or isinstance(self._error, ClusterError)):
                raise self._error
            found = list(self._objects.values())
        return sorted(found, key=lambda thing: thing["metadata"].get("creationTimestamp", ""))

    def close(self) -> None:
        self._closed.set()
        self._end()

    def _run(self) -> None:
        shortest, longest = RETRIES
        wait, version = shortest, ""
        while not self._closed.is_set():
            try:
                version = self._follow(version) if version else self._read()
                wait = shortest
            except ExpiredError:
                version = ""
            except Exception as error:  # noqa: BLE001 - `now` raises it to the callers
                self._fail(error)
                self._closed.wait(wait * random.uniform(0.5, 1.0))
                wait = min(2 * wait, longest)

    def _read(self) -> str:
        """Read the whole list. Returns its version."""
        found, version = self._cluster.read(self._query)
        with self._changed:
            self._objects = {thing["metadata"]["name"]: thing for thing in found}
            self._known, self._error = True, None
            self._changed.notify_all()
        return version

    def _follow(self, version: str) -> str:
        """Take over changes after a version until the server ends the watch. Returns the newest version."""
        response = self._cluster.watch(self._query, version, SECONDS)
        self._end = response.shutdown
        try:
            with self._changed:
                self._error = None
            for line in _lines(response):
                event: dict[str, Any] = json.loads(line)
                thing = event["object"]
                if event["type"] == "ERROR":
                    gone = thing.get("code") == GONE
                    raise (ExpiredError if gone else UnavailableError)(f"a watch ended: {thing.get('message', '')}")
                version = thing["metadata"]["resourceVersion"]
                self._apply(event["type"], slim(thing))
        finally:
            self._end = lambda: None
            response.close()
        return version

    def _apply(self, kind: str, thing: Object) -> None:
        with self._changed:
            if kind == "DELETED":
                self._objects.pop(thing["metadata"]["name"], None)
            elif kind != "BOOKMARK":
                self._objects[thing["metadata"]["name"]] = thing

    def _fail(self, error: Exception) -> None:
        if self._closed.is_set():
            return
        if not isinstance(error, DatamodelsError):  # of the connection, while the answer was read
            error = UnavailableError(f"the Kubernetes API does not answer (watch {self._query.kind}): {error}")
        log.debug("watch ended", kind=self._query.kind, reason=str(error))
        with self._changed:
            if self._error is None:
                self._failing_since = time.monotonic()
            self._error = error
            self._changed.notify_all()


def _lines(response: Any) -> Iterator[bytes]:
    """Yield the lines of a response as they arrive."""
    rest = b""
    for piece in response.stream(2**16):
        *whole, rest = (rest + piece).split(b"\n")
        yield from filter(None, whole)
