"""Fork processes from one that has imported everything, so that a process that is killed costs no imports.

python -m tests.torture.kills.forks SOCKET

serves one request for each connection: a JSON line that says what to call. The answer is the process's id and, when it
has ended, its exit code, a line each. The server ends, with all of its processes, when its standard input closes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any, Self

from tests.helpers.waiting import eventually
from tests.torture.kills.doom import Doom

PRELOADED = (
    *(f"datamodels.services.{name}.__main__" for name in ("aggregator", "fitter", "query", "sampler", "trainer")),
    "datamodels.runners.pipeline",
    "datamodels.runners.local",
    "datamodels.storage.s3",
    "datamodels.analyze.patterns.clusters",
    "datamodels.fit.estimators.difference",
    "datamodels.testing.linear",
    "tests.torture.broken",
    "tests.torture.kills.roles",
)


@dataclasses.dataclass(frozen=True)
class Order:
    """A process to fork.

    name     what it is; the server adds the name to the file `deaths` if the process ends by SIGKILL
    call     "module:function", which is called with `arguments` and returns the exit code
    environ  its whole environment
    log      file for its standard output and error
    doom     when it kills itself; None if it does not
    orphan   whether it lives on if whoever asked for it dies
    """

    name: str
    call: str
    arguments: tuple[Any, ...]
    environ: dict[str, str]
    log: str
    deaths: str
    doom: Doom | None = None
    orphan: bool = False

    def line(self) -> bytes:
        return json.dumps(dataclasses.asdict(self)).encode() + b"\n"

    @classmethod
    def parse(cls, line: bytes) -> Self:
        fields = json.loads(line)
        doom = fields.pop("doom")
        return cls(**fields, doom=None if doom is None else Doom(**doom))


class Forked:
    """A process that the server forked; like a subprocess.Popen. Safe to use from one thread."""

    def __init__(self, server: str, order: Order):
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.connect(server)
        self._socket.sendall(order.line())
        self._read = b""
        while b"\n" not in self._read:
            got = self._socket.recv(100)
            if not got:
                raise ChildProcessError(f"the server of forks at {server} has ended")
            self._read += got
        pid, _, self._read = self._read.partition(b"\n")
        self.pid = int(pid)
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal; None while the process runs."""
        return self.wait(0)

    def wait(self, seconds: float | None = None) -> int | None:
        """Wait for the exit code, at most some seconds."""
        while self.returncode is None:
            if not select.select([self._socket], [], [], seconds)[0]:
                return None
            got = self._socket.recv(100)
            self._read += got
            if b"\n" in self._read:
                self.returncode = int(self._read)
                self._socket.close()
            elif not got:
                raise ChildProcessError("the server of forks has ended")
        return self.returncode

    def kill(self) -> None:
        """Kill the process. Only its parent does so, so that no other process can have got its id."""
        if self.returncode is None:
            with contextlib.suppress(OSError):
                self._socket.sendall(b"kill\n")


class Server:
    """The process that forks. It must have no threads and no gRPC channels."""

    def __init__(self, path: str):
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(path)
        self._listener.listen(100)
        self._woken, wakes = socket.socketpair()
        self._woken.setblocking(False)
        wakes.setblocking(False)
        signal.set_wakeup_fd(wakes.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._wakes = wakes
        self._children: dict[int, tuple[socket.socket, Order]] = {}

    def serve(self) -> None:
        while True:
            sockets = {one: pid for pid, (one, _) in self._children.items() if one.fileno() >= 0}
            ready, _, _ = select.select([sys.stdin, self._listener, self._woken, *sockets], [], [])
            for one in ready:
                if one is sys.stdin:
                    for pid in self._children:
                        os.kill(pid, signal.SIGKILL)
                    return
                if one is self._listener:
                    self._fork(self._listener.accept()[0])
                elif one is not self._woken and sockets[one] in self._children:
                    self._told(sockets[one])
            self._reap()

    def _told(self, pid: int) -> None:
        connection, order = self._children[pid]
        try:
            gone = not connection.recv(100)
        except ConnectionResetError:  # it was killed before it had read everything
            gone = True
        if gone:
            connection.close()
        if not gone or not order.orphan:
            os.kill(pid, signal.SIGKILL)

    def _fork(self, connection: socket.socket) -> None:
        line = b""
        while not line.endswith(b"\n"):
            try:
                got = connection.recv(65536)
            except ConnectionResetError:
                got = b""
            if not got:
                connection.close()
                return
            line += got
        order = Order.parse(line)
        pid = os.fork()
        if not pid:
            self._be(order, connection)
        self._children[pid] = connection, order
        self._tell(connection, pid)

    def _be(self, order: Order, connection: socket.socket) -> None:
        """Be the forked process."""
        code = 70
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for one in (self._listener, self._woken, self._wakes, connection, *(c for c, _ in self._children.values())):
                one.close()
            null, log = os.open(os.devnull, os.O_RDONLY), os.open(order.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            for descriptor, standard in ((null, 0), (log, 1), (log, 2)):
                os.dup2(descriptor, standard)
            os.environ.clear()
            os.environ.update(order.environ)
            module, _, name = order.call.partition(":")
            call = getattr(importlib.import_module(module), name)
            if order.doom is not None:
                order.doom.install()
            code = int(call(*order.arguments))
        except BaseException:  # noqa: BLE001 - it must not return into the server's loop
            traceback.print_exc()
        finally:
            os._exit(code)

    def _reap(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._woken.recv(4096)
        for pid in list(self._children):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                connection, order = self._children.pop(pid)
                code = os.waitstatus_to_exitcode(status)
                if code == -signal.SIGKILL:
                    with open(order.deaths, "a") as file:
                        file.write(f"{order.name}\n")
                self._tell(connection, code)
                connection.close()

    @staticmethod
    def _tell(connection: socket.socket, number: int) -> None:
        with contextlib.suppress(OSError):  # whoever asked has died
            connection.sendall(b"%d\n" % number)


@contextlib.contextmanager
def server(folder: Path):
    """Start the server, and yield its socket. On exit, end it and all of its processes."""
    path = str(folder / "forks")
    Path(path).unlink(missing_ok=True)
    environ = os.environ | {"OMP_NUM_THREADS": "1"}  # OpenBLAS takes it, too
    process = subprocess.Popen([sys.executable, "-m", __name__, path], env=environ, stdin=subprocess.PIPE)
    try:
        eventually(Path(path).exists, while_true=lambda: process.poll() is None)
        yield path
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait()


def main(path: str) -> int:
    for module in PRELOADED:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()  # so that collections in the forked processes copy no pages
    Server(path).serve()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
