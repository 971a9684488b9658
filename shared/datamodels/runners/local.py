"""Run stages as processes of this machine. Their services listen on unix sockets that only this user can reach."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from datamodels.environment import Settings, child_environ
from datamodels.errors import DatamodelsError, ExitCode, SettingsError, StageError, UnavailableError
from datamodels.run.runs import Run
from datamodels.runners import ends
from datamodels.runners.base import SERVICES, Runner
from datamodels.runners.pulse import Pulse
from datamodels.settings import (
    ClientSettings,
    ExplorerSettings,
    FitterSettings,
    ServeSettings,
    StoreSettings,
    TrainerSettings,
)

START_TIMEOUT = 600.0
"""Seconds to wait for a service to start. It usually takes two; the limit is for one that hangs."""
STOP_TIMEOUT = 15.0
"""Seconds that a process has to stop before it is killed."""
ENDING = 2.0
"""Seconds that a process has to end after its connections are broken."""
POLL = 0.5
"""Seconds between two calls of `tick`."""
LONGEST = 90
"""Most letters of the path of a folder with a socket; Linux allows 107 for the socket, macOS 103."""
RESTARTS = 3
"""How often trainers are started again, all of them together, if they were killed or failed temporarily."""


class LocalRunner(Runner):
    """Runs services and trainers as child processes.

    home      folder for logs, addresses and the fitter's scratch files
    store     settings of the store for the services
    trainers  number of trainer processes in parallel
    clock     monotonic clock in seconds, by which trainers count as silent; tests replace it
    """

    trains_here = True

    def __init__(self, home: Path, *, store: StoreSettings, trainers: int, clock: Callable[[], float] = time.monotonic):
        self._home = home
        self._store = store
        self._trainers = trainers
        self._clock = clock

    @contextlib.contextmanager
    def services(self, names: Sequence[str] = SERVICES) -> Iterator[ClientSettings]:
        with contextlib.ExitStack() as stack:
            services = [stack.enter_context(self._process(name, f"datamodels.services.{name}")) for name in names]
            addresses: dict[str, Any] = {service.name: service.address() for service in services}
            try:
                yield dataclasses.replace(ClientSettings.load(), **addresses)
            except DatamodelsError as error:
                if isinstance(error, UnavailableError):  # the connections of a killed process break before it has ended
                    _await_end(services, ENDING)
                for service in services:
                    service.raise_if_ended(error)
                raise
            finally:
                for service in services:  # all at once; leaving the stack waits for each
                    service.ask_to_stop()

    @contextlib.contextmanager
    def explorer(self, settings: ExplorerSettings, port: int = 0) -> Iterator[ServedExplorer]:
        """Start the explorer on the loopback interface. port: for HTTP; 0 takes a free one. Raises StageError."""
        listen = {"host": ServeSettings.host, "port": port}
        with self._process("explorer", "datamodels.services.explorer", settings=(settings,), listen=listen) as process:
            yield ServedExplorer(process.address(), process.ended, lambda: process.raise_if_ended(None))

    def train(self, run: Run, chunks: Sequence[int], services: ClientSettings, tick: Callable[[], bool]) -> None:
        workers = min(self._trainers, len(chunks))
        shares = [",".join(map(str, chunks[worker::workers])) for worker in range(workers)]
        with contextlib.ExitStack() as stack:
            running = {}
            for worker, share in enumerate(shares):
                running[worker] = stack.enter_context(self._trainer(worker, run, share, services))
            restarts = 0
            while running:
                _await_end(running.values(), POLL)
                if tick():
                    for process in running.values():
                        process.ask_to_stop()
                    return
                for worker, process in list(running.items()):
                    code = process.ended()
                    if code is None:
                        process.kill_if_silent()
                        continue
                    del running[worker]
                    if code == ExitCode.DONE:
                        continue
                    if not _passing(code) or restarts == RESTARTS:
                        raise process.error(code)
                    restarts += 1
                    running[worker] = stack.enter_context(self._trainer(worker, run, shares[worker], services))

    def _trainer(
        self, worker: int, run: Run, share: str, services: ClientSettings
    ) -> contextlib.AbstractContextManager[_Process]:
        trainer = TrainerSettings.load()
        beats = self._home / "addresses" / f"trainer-{worker}-{os.getpid()}.heartbeat"
        pulse = Pulse(beats, trainer.heartbeat, self._clock)
        settings = (
            services,
            dataclasses.replace(trainer, heartbeat_file=str(pulse.path.absolute()), spec=run.spec.hash),
        )
        arguments = ("--run", run.name, "--chunks", share)
        return self._process(
            f"trainer-{worker}", "datamodels.services.trainer", *arguments, settings=settings, pulse=pulse
        )

    @contextlib.contextmanager
    def _process(
        self,
        name: str,
        module: str,
        *arguments: str,
        settings: Sequence[Settings] = (),
        pulse: Pulse | None = None,
        listen: Mapping[str, Any] | None = None,
    ) -> Iterator[_Process]:
        address_file = self._home / "addresses" / f"{name}-{os.getpid()}.json"  # another driver may share the home
        log_file = self._home / "logs" / f"{name}.log"
        with _own_folder() as folder:
            serve = dataclasses.replace(
                ServeSettings.load(),
                **{"port": 0} | dict(listen or {}),
                metrics_port=0,
                address_file=str(address_file),
                follow_stdin=True,
            )
            if not serve.cert_file:  # with one, TLS decides who may connect, and names in certificates are of hosts
                serve = dataclasses.replace(serve, socket=str(folder / "grpc"))
            given = child_environ(self._store, serve, self._fitter_settings(), *settings)
            environ = {"PYTHONFAULTHANDLER": "1"} | given
            try:
                for file in (log_file, address_file):
                    file.parent.mkdir(parents=True, exist_ok=True)
                address_file.unlink(missing_ok=True)
                with open(log_file, "ab") as log:
                    command = [sys.executable, "-m", module, *arguments]
                    process = _Process.start(name, command, environ, log, address_file, pulse)
            except OSError as error:
                raise SettingsError(
                    f"{self._home}: cannot be used as a working folder: {error.strerror}; name another with --home"
                ) from error
            try:
                yield process
            finally:
                process.stop()
                for file in (address_file, *([pulse.path] if pulse else [])):
                    file.unlink(missing_ok=True)

    def _fitter_settings(self) -> FitterSettings:
        """Return the user's settings. Unless they set the scratch folder, it is in our home."""
        settings = FitterSettings.load()
        ours = settings.scratch == FitterSettings.scratch
        return dataclasses.replace(settings, scratch=str(self._home / "scratch")) if ours else settings


@dataclasses.dataclass(frozen=True)
class ServedExplorer:
    """An explorer that serves.

    address         host:port
    ended           returns its exit code, or None while it runs
    raise_if_ended  raises StageError, which says why, if it has ended
    """

    address: str
    ended: Callable[[], int | None]
    raise_if_ended: Callable[[], None]


@contextlib.contextmanager
def _own_folder() -> Iterator[Path]:
    """Make a folder that only this user can enter, with a path short enough for sockets, and remove it at the end."""
    folder = tempfile.mkdtemp(prefix="datamodels-")  # mode 0700
    if len(folder) > LONGEST:
        os.rmdir(folder)
        folder = tempfile.mkdtemp(prefix="datamodels-", dir="/tmp")
    try:
        yield Path(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _await_end(processes: Iterable[_Process], seconds: float) -> None:
    """Wait until a process has ended, or for at most `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and all(process.ended() is None for process in processes):
        time.sleep(0.02)


def _passing(code: int) -> bool:
    """Return whether starting again may help: the process was killed by a signal, or failed temporarily."""
    return code < 0 or code in (ExitCode.TRANSIENT, ExitCode.TERMINATED)


@dataclasses.dataclass(frozen=True)
class _Process:
    name: str
    popen: subprocess.Popen
    log: Path
    log_start: int
    address_file: Path
    pulse: Pulse | None

    @classmethod
    def start(
        cls,
        name: str,
        command: list[str],
        environ: dict[str, str],
        log: IO[bytes],
        address_file: Path,
        pulse: Pulse | None,
    ) -> _Process:
        begins = log.tell()  # the child shares the position, and moves it when it writes
        # The child gets a session of its own, so that Ctrl-C reaches only the driver, which then stops its children in
        # order. If the driver is killed, the pipe to the child's standard input closes and the child stops by itself.
        popen = subprocess.Popen(
            command, env=environ, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True
        )
        return cls(name, popen, Path(log.name), begins, address_file, pulse)

    def address(self) -> str:
        """Wait until the process serves, and return its address. Raises StageError if it ends or hangs before."""
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline:
            with contextlib.suppress(FileNotFoundError):
                return json.loads(self.address_file.read_text())["address"]
            self.raise_if_ended(None)
            time.sleep(0.02)
        raise StageError(f"{self.name} did not serve within {START_TIMEOUT:.0f} s; its log is {self.log}")

    def ended(self) -> int | None:
        """Return the exit code, negative for a signal; None while the process runs."""
        return self.popen.poll()

    def kill_if_silent(self) -> None:
        """Kill the process if its heartbeat stopped. A process that is suspended or hangs ignores other signals."""
        if self.pulse is not None and self.pulse.silent():
            self.popen.kill()

    def raise_if_ended(self, cause: Exception | None) -> None:
        code = self.ended()
        if code is not None:
            raise self.error(code) from cause

    def error(self, code: int) -> StageError:
        """Describe how the process ended, and what it said of that."""
        if code < 0 and self.pulse is not None and self.pulse.silent():
            how = f"made no progress for {self.pulse.limit:g} s and was killed; its log is {self.log}; if a batch may"
            longer = f"take longer, set {TrainerSettings.prefix}_HEARTBEAT to more seconds"
            return StageError(f"{self.name} {how} {longer}", ExitCode.TRANSIENT)
        log = self._log()
        if code < 0:
            return StageError(f"{self.name} {ends.of_signal(-code, log)} (log: {self.log})", ExitCode.TRANSIENT)
        return StageError(f"{self.name} ended with exit code {code}: {ends.said(log)} (log: {self.log})", code)

    def _log(self) -> str:
        with open(self.log, "rb") as log:
            log.seek(self.log_start)
            return log.read().decode(errors="replace")

    def ask_to_stop(self) -> None:
        if self.popen.poll() is None:
            self.popen.terminate()

    def stop(self) -> None:
        self.ask_to_stop()
        try:
            self.popen.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
        assert self.popen.stdin is not None, "it was started with a pipe"
        self.popen.stdin.close()
