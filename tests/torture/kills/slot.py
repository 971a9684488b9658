"""Run after run, from the spec to answers of the query service, by processes that kill themselves at their writes."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import os
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from datamodels.errors import DatamodelsError, DeadlineError, ExitCode, StoreUnavailableError, UnavailableError
from datamodels.rpc.clients.query import QueryClient
from datamodels.run import runs, specs, trust
from datamodels.settings import (
    AggregatorSettings,
    ClientSettings,
    FitterSettings,
    QuerySettings,
    ServeSettings,
    StoreSettings,
    TelemetrySettings,
)
from datamodels.storage import open_store
from datamodels.testing import linear
from tests.helpers.waiting import LIMIT, eventually
from tests.torture.kills import roles
from tests.torture.kills.check import BLOCK, violations
from tests.torture.kills.doom import Doom
from tests.torture.kills.forks import Forked, Order

SERVICES = ("aggregator", "fitter", "query")
"""Services that are killed."""
LAST = {
    "local": {"aggregator": 36, "fitter": 24, "query": 8, "trainer": 5, "driver": 12},
    "S3": {"aggregator": 14, "fitter": 12, "query": 3, "trainer": 5, "driver": 12},
}
"""At most which of its writes each process is killed at. On a local store, the write of an object counts as three. The
steps in `roles` count, too."""
LATEST = 0.01
"""Half of the kills come up to so many seconds after a write began, and half before."""
KILLS = {"aggregator": 9, "fitter": 6, "query": 7, "trainer": 8, "driver": 6}
"""Most kills of each process in one life."""
TOGETHER = 0.2
"""Share of the kills with which others of the processes are killed, too."""


@dataclasses.dataclass
class Told:
    """What a life was like.

    killed  names of the processes that were killed
    writes  what was about to be written or done when processes killed themselves
    faults  what must not happen
    """

    number: int
    place: str
    killed: dict[str, int] = dataclasses.field(default_factory=dict)
    writes: dict[str, int] = dataclasses.field(default_factory=dict)
    faults: list[str] = dataclasses.field(default_factory=list)


class Slot:
    """Services over one store, which start again when they are killed, and the runs that are made with them.

    server   socket of the server of forks
    control  the promise that the store of the aggregator breaks, for null controls
    kills    most kills of each process in one life
    suffix   added to the sockets of the services for their clients, if something is between them
    """

    def __init__(
        self,
        folder: Path,
        server: str,
        place: str,
        store: StoreSettings,
        sampler: str,
        control: str = "",
        kills: Mapping[str, int] = KILLS,
        suffix: str = "",
    ):
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._server, self._place, self._control = folder, server, place, control
        self._settings = store
        self.store = open_store(store)
        self._log = str(folder / "log")
        self._deaths, self._writes = folder / "deaths", folder / "writes"
        for file in (self._deaths, self._writes):
            file.write_text("")
        self._roots = str(folder / "scratch"), store.url.removeprefix("file://") if place == "local" else ""
        self._kills = kills
        addresses = {name: f"unix:{folder / name}{suffix}" for name in SERVICES}
        self._clients = ClientSettings(**addresses, sampler=sampler)
        given = (
            store,
            self._clients,
            AggregatorSettings(publish_interval=0.05, preflight_writers=2),
            FitterSettings(scratch=str(folder / "scratch"), device="cpu", threads=1, block=BLOCK),
            QuerySettings(refresh=0.1),
            TelemetrySettings(level="error"),
        )
        self._environ = os.environ | {name: value for one in given for name, value in one.environ().items()}
        self._rng = random.Random()
        self._left: collections.Counter[str] = collections.Counter()
        self._running: dict[str, Forked] = {}
        self._lock = threading.Lock()
        self._stopping = False
        self._errors: list[str] = []
        self._threads = [threading.Thread(target=self._keep, args=[name], daemon=True) for name in SERVICES]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        self._stopping = True
        with self._lock:
            for process in self._running.values():
                process.kill()
        for thread in self._threads:
            thread.join()

    def live(self, number: int, seed: str) -> Told:
        """Make a run from start to end under kills, and check it."""
        told = Told(number, self._place)
        self._begin(seed)
        files = self._deaths, self._writes
        before = [len(file.read_text()) for file in files]
        document = {
            "name": f"life{number}",
            "dataset": {"load": "datamodels.testing.linear:load"},
            "trainer": {"class": f"{roles.__name__}:Mine"},
            "m": 24,
            "chunk": 8,
            "sub_chunk": 4,
            "evaluate": {"subsets": 4, "models": 2},
            "fit": {"estimator": ("difference", "ridge")[number % 2]},
        }
        spec = specs.parse(document)
        trust.trust_spec(spec)
        run = runs.resolve(spec, linear.load())
        record = self._folder / f"acknowledged-{number}"
        record.unlink(missing_ok=True)
        if self._driven(document, record, told):
            self._asked(run.name, told)
        self._left.clear()
        told.faults += violations(self.store, run, roles.acknowledged(record))
        with self._lock:
            told.faults += self._errors
        deaths, writes = (
            f.read_text()[n:].splitlines() for f, n in zip((self._deaths, self._writes), before, strict=True)
        )
        told.killed, told.writes = dict(collections.Counter(deaths)), dict(collections.Counter(writes))
        return told

    def _begin(self, seed: str) -> None:
        """Allow as many kills as a life has, and start all services anew, so that they may be killed."""
        with self._lock:
            before = {name: self._running.get(name) for name in SERVICES}
            self._rng = random.Random(seed)
            self._left = collections.Counter(self._kills)
            self._errors = []
            for process in filter(None, before.values()):
                process.kill()
        eventually(lambda: all(self._running.get(name) not in (None, was) for name, was in before.items()))

    def _driven(self, document: dict[str, Any], record: Path, told: Told) -> bool:
        """Start drivers until one ends well. Returns whether one does."""
        environ = self._environ | {"TORTURE_ACKNOWLEDGED": str(record)}
        with self._lock:
            dooms = [doom for _ in range(self._left["trainer"]) if (doom := self._doom("trainer"))]
        before = self._trainers_killed()
        ends = time.monotonic() + LIMIT
        while time.monotonic() < ends:
            with self._lock:
                trainers = {
                    "server": self._server,
                    "environ": environ,
                    "log": self._log,
                    "deaths": str(self._deaths),
                    "orphans": self._rng.random() < 0.5,
                }
                own = self._doom("driver")
            left = dooms[self._trainers_killed() - before :]
            arguments = (document, trainers, [dataclasses.asdict(doom) for doom in left])
            code = self._run("driver", f"{roles.__name__}:drive", arguments, environ, own)
            if code == ExitCode.DONE:
                return True
            if code not in (-9, ExitCode.TRANSIENT):
                told.faults.append(f"the driver ended with exit code {code}: {self._end_of_log()}")
                return False
        told.faults.append(f"no driver ended well within {LIMIT:.0f} s: {self._end_of_log()}")
        return False

    def _trainers_killed(self) -> int:
        return self._deaths.read_text().splitlines().count("trainer")

    def _asked(self, run: str, told: Told) -> None:
        """Ask the query service, again and again, while it is killed. Equal questions must get equal answers."""
        found: dict[str, str] = {}
        with QueryClient(self._clients.query, dataclasses.replace(self._clients, attempts=1)) as client:
            questions: Sequence[Callable[[], Any]] = (
                lambda: client.evaluate(run).found.evaluation.lds,
                lambda: client.clusters(run, k=2).found,
                lambda: client.components(run, k=2).found,
                lambda: client.conflicts(run).found,
                lambda: client.clusters(run, columns=True, k=2).found,
                lambda: client.top(run, 0, 3),
            )
            for turn in range(2):
                for number, question in enumerate(questions):
                    try:
                        answer = str(self._patiently(question))
                    except DatamodelsError as error:
                        told.faults.append(f"question {number} of run {run}: {type(error).__name__}: {error}")
                        return
                    if found.setdefault(str(number), answer) != answer:
                        told.faults.append(f"question {number} of run {run}: the answers differ in turn {turn}")

    @staticmethod
    def _patiently(question: Callable[[], Any]) -> Any:
        ends = time.monotonic() + LIMIT
        while True:
            try:
                return question()
            except (UnavailableError, DeadlineError, StoreUnavailableError):
                if time.monotonic() > ends:
                    raise
                time.sleep(0.05)

    def _keep(self, name: str) -> None:
        """Start a service, and start it again whenever it is killed."""
        settings = ServeSettings(socket=str(self._folder / name))
        environ = self._environ | settings.environ()
        arguments = (name, self._control if name == "aggregator" else "")
        while not self._stopping:
            with self._lock:
                doom = self._doom(name)
            code = self._run(name, f"{roles.__name__}:service", arguments, environ, doom)
            if code != -9 and not self._stopping:
                with self._lock:
                    self._errors.append(f"{name} ended with exit code {code}: {self._end_of_log()}")
                time.sleep(1)

    def _run(self, name: str, call: str, arguments: tuple, environ: dict[str, str], doom: Doom | None) -> int:
        """Run a process until it ends, and perhaps kill others with it. Returns its exit code."""
        with self._lock:
            order = Order(name, call, arguments, environ, self._log, str(self._deaths), doom)
            process = self._running[name] = Forked(self._server, order)
        code = process.wait()
        assert code is not None
        with self._lock:
            del self._running[name]
            if code == -9 and doom is not None and self._rng.random() < TOGETHER:
                for other in self._rng.sample(sorted(self._running), min(len(self._running), self._rng.randint(1, 3))):
                    self._running[other].kill()
        return code

    def _doom(self, name: str) -> Doom | None:
        """Return when the next process of a name kills itself. The caller holds the lock."""
        if not self._left[name]:
            return None
        self._left[name] -= 1
        delay = self._rng.uniform(0, LATEST) if self._rng.random() < 0.5 else 0.0
        return Doom(self._rng.randint(1, LAST[self._place][name]), delay, *self._roots, str(self._writes), name)

    def _end_of_log(self) -> str:
        """Return the last line that a process wrote."""
        with contextlib.suppress(FileNotFoundError):
            return Path(self._log).read_text().rstrip().rpartition("\n")[2][-1000:]
        return ""
