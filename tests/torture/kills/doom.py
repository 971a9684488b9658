"""Let a process kill itself at one of its writes, which a seed chooses."""

from __future__ import annotations

import dataclasses
import os
import re
import signal
import sys
import threading
import time
from typing import Any

from datamodels.storage import keys

STEP = "torture.step"
"""Audit event that processes raise at what is no write: a batch of models was trained, a stage began."""
_CHANGES = {"os.link", "os.remove", "os.rename"}
_WRITES = os.O_WRONLY | os.O_RDWR
_REQUEST = re.compile(rb"(PUT|DELETE|POST) /[^/ ]+/?([^ ?]*)")


@dataclasses.dataclass
class Doom:
    """Kills the process with SIGKILL at an event.

    Events are Python's audit events: opening files below `scratch` and `store` for writing, linking, renaming and
    removing them, and sending PUT and DELETE requests. They come before what they announce. So a process dies before a
    write, or, with a delay, within or after it.

    at       number of the event, from 1
    delay    seconds from the event to the kill
    scratch  folder of the fitter
    store    folder of the store; empty if it is on S3
    file     a line is added to it: what was about to happen
    name     what the line begins with
    """

    at: int
    delay: float
    scratch: str
    store: str
    file: str
    name: str

    def install(self) -> None:
        self._log = os.open(self.file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._left = self.at
        self._lock = threading.Lock()
        self._die_at = threading.Event()
        if self.delay:
            threading.Thread(target=self._die_later, daemon=True).start()
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        what = self._event(event, arguments)
        if what is None:
            return
        with self._lock:
            self._left -= 1
            if self._left:
                return
        os.write(self._log, f"{self.name} {what}\n".encode())
        if self.delay:
            self._die_at.set()
        else:
            os.kill(os.getpid(), signal.SIGKILL)

    def _die_later(self) -> None:
        self._die_at.wait()
        time.sleep(self.delay)
        os.kill(os.getpid(), signal.SIGKILL)

    def _event(self, event: str, arguments: tuple[Any, ...]) -> str | None:
        """Return what an event changes, in a few words; None if it changes nothing."""
        if event == STEP:
            return f"step {arguments[0]}"
        if event == "http.client.send":
            data = arguments[1]
            found = _REQUEST.match(data) if isinstance(data, bytes | bytearray) else None
            return f"{found[1].decode()} {_kind(found[2].decode())}" if found else None
        if event in _CHANGES or (event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITES):
            path = os.fsdecode(arguments[1 if event in ("os.link", "os.rename") else 0] or "")
            for root in filter(None, (self.scratch, self.store)):
                if path.startswith(root):
                    kind = "scratch" if root == self.scratch else _kind(path.removeprefix(root).lstrip("/"))
                    return f"{event.removeprefix('os.')} {kind}"
        return None


def _kind(key: str) -> str:
    """Return what kind of object a key, or a file below one of the roots, is."""
    if key.startswith(".tmp"):
        return "temporary"
    return keys.kind(key) or key.partition("/")[0]
