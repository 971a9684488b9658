"""Row f3, files: damage each object of a store, and let every call and command read it."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import random
import shutil
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from datamodels.services.aggregator.service import Aggregator
from datamodels.services.fitter.service import FitterService
from datamodels.services.query.service import QueryService

from datamodels.aggregate.committer import Committer
from datamodels.cli.main import main
from datamodels.errors import DatamodelsError, ExitCode
from datamodels.fit.job.fitter import Fitter
from datamodels.query.weights import WeightStore
from datamodels.run import runs
from datamodels.settings import FitterSettings, TelemetrySettings
from datamodels.storage import records
from datamodels.storage.local import LocalStore
from datamodels.telemetry import configure_logging
from datamodels.testing import committed
from tests.helpers.calls import SERVICES
from tests.services.test_every_call import GOOD, NAME, Places, good
from tests.torture.lives import Use
from tests.torture.messages import altered_json, damaged
from tests.torture.rows import GRPC_FAULTS, Budget, Result

ORPHANS = committed.make_run("orphans")
"""A run whose parts no manifest lists, as after a crash. Its readers rely on checksums in the parts."""
LONG = {"Evaluate", "Clusters", "Components", "Conflicts", "Fit", "Support"}
"""Calls that take 20 to 100 ms, and are made for one object in LONG_EVERY."""
LONG_EVERY = 160
ALL_EVERY = 16
"""All other calls are made for one object in so many, and SOME of them, chosen at random, for each."""
SOME = 4
KEEP_EVERY = 100
SHORT = len(GOOD) + 1 - len(LONG) - 2
"""Calls that are not long. The sampler's two read no store."""
COMMANDS_EVERY = 400
WARM = 2 * COMMANDS_EVERY
"""Rounds after which the memory of this process, which reads and runs commands, may no longer grow by GROWTH_MB."""
GROWTH_MB = 200.0
COMMANDS = (
    "status --json",
    "status RUN --json",
    "status RUN --verify",
    "export RUN --output OUT",
    "evaluate RUN",
    "curve RUN",
    "report RUN --output OUT.html",
    "review RUN",
    "leakage RUN",
)
MEMORY = "/dev/shm"
"""Folder in memory, if the system has it: a disk takes most of the time of the readers for writing."""
SIGNED = ".json"
"""Objects that contain their own checksum."""
MANY = 60
"""Kinds of faults after which there is no point in going on."""


class Context:
    """The part of a CallContext that servicers use: a caller who waits, or leaves after the first answer."""

    entry = None  # no service asks for tokens

    def __init__(self, waits: bool):
        self._waits = waits
        self._asked = 0

    def is_active(self) -> bool:
        self._asked += 1
        return self._waits or self._asked == 1

    def watch(self, wake: Callable[[], None]) -> None:
        pass


class Victim:
    """A store with a run of every kind of object, whose objects are damaged one at a time."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.root = folder / "store"
        places = Places(folder)
        self.store = places.store
        runs.create(self.store, ORPHANS)
        committed.commit(self.store, ORPHANS, stop=60)
        for key in list(self.store.list(f"aggregate/{ORPHANS.name}/manifest/")):
            self.store.delete(key)
        for _, name, ask in calls(self.store, folder / "warm"):
            if name in LONG:
                ask()  # keeps its answer in the store
        self.objects = {key: (self.root / key).read_bytes() for key in sorted(self.store.list(""))}
        self._written: set[str] = set()

    def damage(self, rng: random.Random) -> tuple[str, str]:
        """Damage an object, and perhaps repair the checksums of it; returns its key and what was done."""
        folders = sorted({key.rpartition("/")[0] for key in self.objects})
        folder = rng.choice(folders)  # else most would be parts
        key = rng.choice([key for key in self.objects if key.rpartition("/")[0] == folder])
        data = self.objects[key]
        kind = rng.random()
        if kind < 0.05:
            (self.root / key).unlink()
            return key, "gone"
        if kind < 0.1:
            other = rng.choice(sorted(self.objects))
            self._write(key, self.objects[other])
            return key, f"replaced by {other}"
        if key.endswith(SIGNED) and kind < 0.7:
            body = json.loads(altered_json(json.dumps(json.loads(data)["body"]), rng))
            with contextlib.suppress(ValueError):  # not JSON: NaN
                self._write(key, records.canonical({"body": body, "sha256": records.digest(body)}))
            return key, "altered and signed"
        changed = damaged(data, rng)
        self._write(key, changed)
        if not key.endswith(SIGNED) and kind < 0.6:
            self._sign(data, changed)
            return key, "damaged and signed"
        return key, "damaged"

    def _sign(self, data: bytes, changed: bytes) -> None:
        """Put the checksum of an object into all records that have the earlier one."""
        old, new = (hashlib.sha256(each).hexdigest() for each in (data, changed))
        for key, known in self.objects.items():
            if key.endswith(SIGNED) and old.encode() in known:
                body = json.loads(known.decode().replace(old, new))["body"]
                self._write(key, records.canonical({"body": body, "sha256": records.digest(body)}))

    def _write(self, key: str, data: bytes) -> None:
        (self.root / key).write_bytes(data)
        self._written.add(key)

    def heal(self) -> None:
        """Restore all objects, and remove those that readers have added. Readers never change an object."""
        present = set(self.store.list(""))
        for key in present.difference(self.objects):
            self.store.delete(key)
        for key in self._written.union(self.objects.keys() - present):
            (self.root / key).write_bytes(self.objects[key])
        self._written.clear()


def calls(store: LocalStore, scratch: Path) -> Iterator[tuple[str, str, Callable[[], Any]]]:
    """Yield (service, name of the call, function that makes it) with services that know nothing of the store yet."""
    shutil.rmtree(scratch, ignore_errors=True)
    fitter = Fitter(store, FitterSettings(scratch=str(scratch), device="cpu", threads=1))
    committer = Committer(store)
    servicers = {
        "Aggregator": Aggregator(committer, 1),
        "Query": QueryService(WeightStore(store, refresh=0)),
        "Fitter": FitterService(fitter, 1),
    }
    try:
        for full, service in SERVICES.items():
            servicer = servicers.get(full.rpartition(".")[2].removesuffix("Service"))
            if servicer is None:
                continue  # the sampler reads no store
            for method in service.methods:

                def ask(method=method, servicer=servicer):
                    request = good(method)
                    answer = getattr(servicer, method.name)(
                        iter([request]) if method.client_streaming else request, Context(method.name != "WatchRun")
                    )
                    if method.server_streaming:
                        answer = list(answer)
                    if method.name == "Fit" and list(fitter.watch(NAME))[-1].error.endswith("see the fitter's log"):
                        raise RuntimeError(list(fitter.watch(NAME))[-1].error)
                    return answer

                yield service.name, method.name, ask
        yield "Aggregator", "GetProgress of orphans", lambda: committer.progress(ORPHANS.name)
    finally:
        servicers["Query"].operations.close()
        fitter.close()


def outcome(ask: Callable[[], Any]) -> str:
    """Make a call and return the name of its code. Raises what is no error of this package."""
    try:
        ask()
    except DatamodelsError as error:
        return f"{error.grpc_code} {type(error).__name__}"
    return "OK"


def command(line: str, victim: Victim) -> str:
    """Run a command and return its exit code."""
    out = victim.folder / "out"
    words = line.replace("RUN", NAME).replace("OUT", str(out)).split()
    noise = io.StringIO()
    with contextlib.redirect_stdout(noise), contextlib.redirect_stderr(noise):
        try:
            code = main([*words, "--store", victim.store.url, "--home", str(victim.folder / "home")])
        except SystemExit as error:
            code = error.code
    for path in (out, *victim.folder.glob("out*")):
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
    if "Traceback" in noise.getvalue():
        raise RuntimeError(noise.getvalue()[-3000:])
    return f"exit {ExitCode(code).name}"


class Reader:
    """Reads a damaged store, and notes in a result how each reading ended."""

    def __init__(self, victim: Victim, result: Result):
        self._victim = victim
        self._result = result

    def read(self, number: int, where: str, rng: random.Random) -> None:
        """Make the calls and, in some rounds, run a command. `where` is how to repeat it."""
        for _, name, ask in calls(self._victim.store, self._victim.folder / "scratch"):
            often = name not in LONG and (number % ALL_EVERY == 0 or rng.random() < SOME / SHORT)
            if often or number % LONG_EVERY == 0:
                self.note(f"{where}: {name}", lambda ask=ask: outcome(ask))
        if number % COMMANDS_EVERY == 0:
            line = rng.choice(COMMANDS)
            self.note(f"{where}: {line}", lambda: command(line, self._victim))

    def note(self, where: str, ask: Callable[[], str]) -> None:
        detail = ""
        try:
            code = ask()
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is a fault
            line = traceback.extract_tb(error.__traceback__)[-1]
            code = f"INTERNAL {type(error).__name__} in {Path(line.filename).name}:{line.lineno}"
            detail = traceback.format_exc()[-2500:]
        if code.split()[0] in GRPC_FAULTS and not self._result.outcomes[code]:  # one example of each is enough
            self._result.faults.append(f"{where}: {code} {detail}")
        self._result.outcomes[code] += 1


def run(folder: Path, seed: int, budget: Budget) -> Result:
    """Damage an object in each round, read it in every way, and restore it."""
    result, threads = Result.resume(folder, seed, budget), threading.active_count()
    configure_logging(TelemetrySettings(level="error"), "torture")  # each damage is a warning
    here = Path(tempfile.mkdtemp(dir=MEMORY if os.access(MEMORY, os.W_OK) else folder))
    victim = Victim(here)
    reader = Reader(victim, result)
    warm, memory = budget.done + WARM, 0.0
    for number in budget:
        rng = random.Random(f"{seed} {number}")
        key, how = victim.damage(rng)
        result.outcomes[f"object {how.split(' by ')[0]}"] += 1
        reader.read(number, f"seed {seed}, round {number}, {key} {how}", rng)
        victim.heal()
        if number <= warm:
            memory = Use.of().memory / 2**20
        if number % KEEP_EVERY == 0:
            result.keep(folder, seed, budget)
        if len(result.faults) > MANY:
            break
    for _, name, ask in calls(victim.store, here / "scratch"):
        if (code := outcome(ask)) != "OK":
            result.faults.append(f"{name} fails after all objects were restored: {code}")
    shutil.rmtree(here)
    result.figures["objects"] = f"{budget.done:,} damaged, of {len(victim.objects)}"
    result.figures["threads"] = f"{threads} to {threading.active_count()}"
    now = Use.of().memory / 2**20
    result.figures["memory, MB"] = f"{memory:.0f} to {now:.0f}"
    if now > memory + GROWTH_MB:
        result.faults.append(f"memory grew from {memory:.0f} to {now:.0f} MB")
    return result
