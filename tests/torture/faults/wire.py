"""A proxy between clients and a service, on unix sockets, whose connections go wrong."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time

RESET, TRUNCATE, STALL, SLOW = "reset", "truncate", "stall", "slow"
MODES = (RESET, TRUNCATE, STALL, SLOW)
LATEST = 3000
"""A connection goes wrong within so many bytes, in both directions together; a small call has some hundred."""
SLOW_SECONDS, SLOW_PIECES = 0.1, 20


class Wire:
    """Forwards connections to a unix socket. While `left` is above 0, each goes wrong at a byte that a seed chooses.

    reset     the connection ends
    truncate  it ends in the middle of what is sent
    stall     nothing is forwarded anymore, and the connection stays open until the client closes it
    slow      pieces wait for SLOW_SECONDS each

    faults  how often each mode happened
    """

    def __init__(self, service: str, path: str):
        self.left = 0
        self.rng = random.Random(0)
        self.faults: list[str] = []
        self.longest: dict[str, float] = {}
        self._service, self._lock = service, threading.Lock()
        self._stall_after = 0
        self._since: dict[str, float] = {}  # the last fault, and when it happened, until the service has answered
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(path)
        self._listener.listen(100)
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def stall_next(self, after: int) -> None:
        """Let the next connection stall after some bytes."""
        self.left, self._stall_after = 1, after

    def _serve(self) -> None:
        while True:
            try:
                client = self._listener.accept()[0]
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                server.connect(self._service)
            except OSError:  # the service has not started
                client.close()
                server.close()
                continue
            with self._lock:
                due = self.left > 0
                self.left -= due
                mode, at = (self.rng.choice(MODES), self.rng.randrange(LATEST)) if due else ("", 0)
                if due and self._stall_after:
                    mode, at, self._stall_after = STALL, self._stall_after, 0
                connection = _Connection(self, mode, at, client, server)
            for ends in ((client, server), (server, client)):
                threading.Thread(target=connection.forward, args=ends, daemon=True).start()

    def happened(self, mode: str) -> None:
        with self._lock:
            self.faults.append(mode)
            self._since = {mode: time.monotonic()}

    def answered(self) -> None:
        """Note that a service's bytes have reached a client on a connection that is good."""
        with self._lock:
            for mode, since in self._since.items():
                self.longest[mode] = max(self.longest.get(mode, 0.0), time.monotonic() - since)
            self._since.clear()


class _Connection:
    def __init__(self, wire: Wire, mode: str, at: int, client: socket.socket, server: socket.socket):
        self._wire, self._mode, self._left, self._client, self._server = wire, mode, at, client, server
        self._lock = threading.Lock()
        self._wrong = False
        self._pieces = SLOW_PIECES

    def forward(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if self._goes_wrong(len(data)):
                    if self._mode == STALL:
                        if source is self._client:
                            while source.recv(65536):  # until the client gives up
                                pass
                            break
                        return  # the other direction ends the connection
                    if self._mode == SLOW:
                        self._pieces -= 1
                        time.sleep(SLOW_SECONDS if self._pieces > 0 else 0)
                    else:
                        target.sendall(data[: len(data) // 2] if self._mode == TRUNCATE else b"")
                        break
                target.sendall(data)
                if source is self._server and not (self._wrong and self._mode == STALL):
                    self._wire.answered()
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _goes_wrong(self, count: int) -> bool:
        """Count bytes, and return whether the connection has gone wrong."""
        if not self._mode:
            return False
        with self._lock:
            self._left -= count
            if self._left < 0 and not self._wrong:
                self._wrong = True
                self._wire.happened(self._mode)
            return self._wrong
