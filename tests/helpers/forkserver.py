"""Start processes of ours without their imports: fork them from a process that has imported what they import.

An interpreter takes 0.7 CPU s until a service serves, and the tests start hundreds; a fork takes a tenth. After
`install`, `subprocess.Popen` forks for commands `[sys.executable, "-m", "datamodels..."]`, and those of the torture, in
this process and in those that it starts. What it starts is a child process of its caller, with the id, exit code,
signals, session, environment, folder, files and command line that it would have if it were executed. Only its
/proc/PID/environ is another.

All other commands are executed as ever: `python -c`, shells, other interpreters, and whatever depends on variables that
Python or a library reads before our code runs. So is `Popen(..., executable=sys.executable)`, for tests of what happens
while a process imports.
"""

from __future__ import annotations

import ctypes
import faulthandler
import fcntl
import gc
import importlib
import inspect
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MODULES = (
    "datamodels.cli.main",
    "datamodels.cli.runs.stages",
    "datamodels.fit.kernels.coordinate_descent",
    "datamodels.plan.trial",
    "datamodels.runners.pipeline",
    "datamodels.services.aggregator.service",
    "datamodels.services.fitter.service",
    "datamodels.services.query.service",
    "datamodels.services.sampler.service",
    "datamodels.storage.s3",
    "datamodels.testing.linear",
    "datamodels.train.job",
    "pyarrow.compute",
    "scipy.optimize",
)
"""What the fork server imports: all that takes long, except modules that note the time at which they are imported.
Imports may neither start threads nor use gRPC, because neither survives a fork."""
FORKED = ("datamodels", "tests.torture")
"""Packages whose modules are forked."""
STARTS_OTHERS = "datamodels"
"""The module whose processes start others. Each has a fork server of its own, so that it is their parent."""
EARLY = (
    "ARROW_",
    "GRPC_",
    "LANG",
    "LC_",
    "LD_",
    "MALLOC_",
    "MKL_",
    "NUMBA_",
    "OMP_",
    "OPENBLAS_",
    "PROTOCOL_",
    "PYTHON",
)
"""How variables begin that Python or a library reads before our code runs. They must be those of the fork server."""
TAKEN = ("LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONFAULTHANDLER")
"""Variables among them that this module heeds itself, and one that OpenCV sets when it is imported: our processes have
loaded their libraries."""
TITLE = 4096
"""Bytes for the command line of a forked process."""
HEEDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that the fork server ignores, and the processes that it starts do not."""
MOST_FILES = 500
"""More than the number of any file that a fork server has open."""
PR_SET_CHILD_SUBREAPER = 36

_execute = subprocess.Popen._execute_child
_parameters = inspect.signature(_execute)
_libc = ctypes.CDLL(None)
_server: Server


def install(connection: socket.socket | None = None) -> None:
    """Let `subprocess.Popen` fork our modules, on Linux. Without a connection, the first one starts the fork server."""
    global _server
    if sys.platform == "linux":
        _server = Server(dict(os.environ), connection)
        subprocess.Popen._execute_child = _execute_or_fork


def _execute_or_fork(popen, *given):
    how = _parameters.bind(popen, *given).arguments
    if not _server.can_start(how):
        return _execute(popen, *given)
    pipes = [how[name] for name in ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")]
    try:
        theirs = (how["p2cread"], how["c2pwrite"], how["errwrite"])
        popen.pid = _server.start(how, [own if file == -1 else file for own, file in enumerate(theirs)])
        popen._child_created = True
    finally:
        popen._close_pipe_fds(*pipes)


class Server:
    """The fork server of a process: starts its children.

    environ     the environment of the fork server
    connection  to the fork server, if it runs
    """

    def __init__(self, environ: Mapping[str, str], connection: socket.socket | None = None):
        self._environ, self._connection = environ, connection
        self._lock = threading.Lock()

    def can_start(self, how: Mapping[str, Any]) -> bool:
        """Return whether what `Popen` is asked for, by the names of its arguments, can be forked."""
        args = how["args"]
        if not isinstance(args, list) or args[:2] != [sys.executable, "-m"]:
            return False
        if not any(f"{args[2]}.".startswith(f"{package}.") for package in FORKED):
            return False
        if any(how[name] for name in ("executable", "preexec_fn", "shell", "gid", "gids", "uid")) or how["umask"] != -1:
            return False
        environ = os.environ if how["env"] is None else how["env"]
        names = {name for name, _ in self._environ.items() ^ environ.items()}
        return not any(name.startswith(EARLY) and name not in TAKEN for name in names)

    def start(self, how: Mapping[str, Any], files: list[int]) -> int:
        """Start a process with three files as its standard input, output and error. Returns its id."""
        request = {
            "args": [os.fspath(argument) for argument in how["args"]],
            "cwd": os.path.abspath(how["cwd"] or ""),
            "environ": dict(os.environ if how["env"] is None else how["env"]),
            "session": how["start_new_session"],
            "files": [0, 1, 2, *how["pass_fds"]],
            "ignored": [number for number in HEEDED if signal.getsignal(number) is signal.SIG_IGN],
        }
        with self._lock:
            if self._connection is None:
                self._connection = self._launch()
            # The process is born as an orphan, and becomes our child, since we ask for the orphans of our descendants.
            _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
            try:
                socket.send_fds(self._connection, [json.dumps(request).encode()], [*files, *how["pass_fds"]])
                return int(self._connection.recv(100))
            finally:
                _libc.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)

    def _launch(self) -> socket.socket:
        ours, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.helpers.forkserver", str(theirs.fileno()), " " * TITLE],
                env=self._environ,
                cwd=Path(__file__).parents[2],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        return ours


def serve(connection: socket.socket) -> list[str]:
    """Start processes until the connection ends. Returns only in a process that was started: its command."""
    for number in HEEDED:
        signal.signal(number, signal.SIG_IGN)
    gc.freeze()  # a collection in a fork would copy the memory of all objects
    gc.enable()
    while True:
        message, files, _, _ = socket.recv_fds(connection, 2**18, 16)
        if not message:
            os._exit(0)
        read, write = os.pipe()
        between = os.fork()
        if not between:
            started = os.fork()
            if not started:
                connection.detach()  # its number may be that of a file which the process takes
                return _become(json.loads(message), files)
            os.write(write, b"%d" % started)
            os._exit(0)
        os.waitpid(between, 0)
        connection.send(os.read(read, 100))
        for file in (read, write, *files):
            os.close(file)


def _become(request: dict[str, Any], files: list[int]) -> list[str]:
    """Turn this fork into the process that a request describes. Returns its command."""
    _take_files(dict(zip(request["files"], files, strict=True)))
    if request["session"]:
        os.setsid()
    os.chdir(request["cwd"])
    before = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    kept = [path for path in sys.path[1:] if path not in before]
    os.environ.clear()
    os.environ.update(request["environ"])
    sys.path[:] = [request["cwd"], *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)), *kept]
    importlib.invalidate_caches()
    if request["args"][2] == STARTS_OTHERS:
        ours, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
        if not os.fork():
            ours.close()
            nothing = os.open(os.devnull, os.O_RDWR)
            _take_files({0: nothing, 1: nothing, 2: nothing, 3: theirs.detach()})
            return serve(socket.socket(fileno=3))
        theirs.close()
        install(ours)
    for number in HEEDED:
        handler = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        signal.signal(number, signal.SIG_IGN if number in request["ignored"] else handler)
    if "PYTHONFAULTHANDLER" in os.environ:
        faulthandler.enable()
    _show_command(request["args"])
    return request["args"]


def _load_compiled() -> None:
    """Fit a small problem, so that processes have the compiled loops: to read them from disk takes half a second."""
    from datamodels.fit.memory import Size
    from datamodels.fit.pairs import pairs
    from datamodels.fit.solve import fit
    from datamodels.plan.fit import made_up
    from datamodels.run.specs import FitSpec

    features = pairs.COMPONENTS, pairs.LANDMARKS, pairs.SUBSETS
    pairs.COMPONENTS = pairs.LANDMARKS = pairs.SUBSETS = 2  # small models of made-up inputs
    fit(made_up(Size(60, 10, 2), 10, 2, FitSpec()), FitSpec(), 0, threads=1)
    pairs.COMPONENTS, pairs.LANDMARKS, pairs.SUBSETS = features


def _take_files(files: Mapping[int, int]) -> None:
    """Have the given files, under the numbers that are their keys, and no others."""
    copies = {number: fcntl.fcntl(file, fcntl.F_DUPFD, MOST_FILES) for number, file in files.items()}
    os.closerange(0, MOST_FILES)
    for number, copy in copies.items():
        os.dup2(copy, number)
        os.close(copy)
    for number, stream in enumerate(("stdin", "stdout", "stderr")):
        was = getattr(sys, stream)
        file = open(number, was.mode, encoding=was.encoding, errors=was.errors, closefd=False)  # noqa: SIM115
        file.reconfigure(line_buffering=number == 2 or os.isatty(number))
        setattr(sys, stream, file)
        setattr(sys, f"__{stream}__", file)


def _show_command(command: list[str]) -> None:
    """Write a command over the one that this process shows in /proc."""
    first, last = map(int, Path("/proc/self/stat").read_text().rpartition(")")[2].split()[45:47])
    text = "\0".join(command).encode()[: last - first - 1]
    ctypes.memmove(first, text.ljust(last - first, b"\0"), last - first)


if __name__ == "__main__":
    gc.disable()
    for module in MODULES:
        importlib.import_module(module)
    _load_compiled()
    _, _, name, *arguments = serve(socket.socket(fileno=int(sys.argv[1])))
    sys.argv[1:] = arguments
    if not hasattr(sys.modules.get(name), "__path__"):
        sys.modules.pop(name, None)  # it is imported once more, as the main module
    runpy.run_module(name, run_name="__main__", alter_sys=True)
