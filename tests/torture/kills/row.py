"""Row f1: SIGKILLs of the aggregator, trainers, driver, fitter and query service, alone and together.

Each life is that of a run, from its spec to answers of the query service, on a local store or on S3. All processes are
forked from one that has imported everything. They kill themselves at writes that a seed chooses, and are started again
until the run is done. Then the invariants must hold, and the fit must be what it is without kills. Null controls are
aggregators that break a promise; the same check must find each of them.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from datamodels.settings import ServeSettings, StoreSettings, TelemetrySettings
from tests.helpers.waiting import eventually
from tests.storage.conftest import CREDENTIALS, make_bucket, run_ministack
from tests.torture.broken import STORES
from tests.torture.kills import forks, roles
from tests.torture.kills.slot import Slot, Told
from tests.torture.rows import Budget, Result

PLACES = ("local", "S3")
SLOTS = 6
"""Lives at a time: on each of the places in turn. Most of the time, processes wait for others to be back."""
CONTROLS = 6
"""Lives with a null control in which it may be found out."""


@contextlib.contextmanager
def stores(folder: Path) -> Iterator[Callable[[str, int], StoreSettings]]:
    """Start an S3 server. Yields a function that returns the settings of a new store at a place, with a number."""
    before = dict(os.environ)
    os.environ |= CREDENTIALS | {"AWS_EC2_METADATA_DISABLED": "true", "NO_PROXY": "127.0.0.1"}
    try:
        with run_ministack(folder) as (address, _):

            def settings(place: str, number: int) -> StoreSettings:
                if place == "local":
                    return StoreSettings(url=f"file://{folder}/store-{number}-{os.getpid()}")
                return StoreSettings(url=f"s3://{make_bucket(address)}", s3_endpoint=address)

            yield settings
    finally:
        os.environ.clear()
        os.environ |= before


class Lives:
    """Lives numbers of a budget in several slots, and keeps what they were like in a file, to go on from."""

    def __init__(self, folder: Path, seed: int, budget: Budget):
        self.told: list[Told] = []
        self._seed, self._numbers, self._lock = seed, iter(budget), threading.Lock()
        self._file = folder / f"lives-{seed}.jsonl"
        if self._file.exists():
            self.told = [Told(**json.loads(line)) for line in self._file.read_text().splitlines()]
        self._done = {told.number for told in self.told}

    def live(self, slot: Slot, place: int) -> None:
        """Live in a slot, until the budget is spent."""
        while True:
            with self._lock:
                number = next((n for n in self._numbers if n not in self._done), None)
            if number is None:
                return
            told = slot.live(number, f"{self._seed} {number}")
            with self._lock:
                self.told.append(told)
                with self._file.open("a") as file:
                    file.write(json.dumps(dataclasses.asdict(told)) + "\n")


def run(folder: Path, seed: int, budget: Budget) -> Result:
    """Live runs under kills, on both places beside each other, and then with the null controls. A round is a life."""
    result = Result()
    with stores(folder) as settings, forks.server(folder) as server:
        sampler, address = start_sampler(folder, server), f"unix:{folder}/sampler"
        lives = Lives(folder, seed, budget)
        with contextlib.ExitStack() as stack:
            threads = []
            for number in range(SLOTS):
                place = PLACES[number % len(PLACES)]
                slot = Slot(folder / f"slot{number}", server, place, settings(place, number), address)
                stack.callback(slot.close)
                threads.append(threading.Thread(target=lives.live, args=[slot, number]))
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        for number, control in enumerate(STORES):
            slot = Slot(folder / control, server, "local", settings("local", SLOTS + number), address, control)
            with contextlib.closing(slot):
                wrong = found(slot, seed, control)
            if wrong:
                result.figures[f"null control {control}"] = wrong
            else:
                result.faults.append(f"null control {control}: was not found out")
        sampler.kill()
    _report(lives.told, seed, result)
    return result


def start_sampler(folder: Path, server: str) -> forks.Forked:
    """Start a sampler at the socket FOLDER/sampler. It writes nothing, and is not killed."""
    path = folder / "sampler"
    path.unlink(missing_ok=True)
    given = (ServeSettings(socket=str(path)), TelemetrySettings(level="error"))
    environ = os.environ | {name: value for one in given for name, value in one.environ().items()}
    log, deaths = str(folder / "sampler.log"), str(folder / "deaths")
    order = forks.Order("sampler", f"{roles.__name__}:service", ("sampler",), environ, log, deaths)
    process = forks.Forked(server, order)
    eventually(path.exists, while_true=lambda: process.poll() is None)
    return process


def found(slot: Slot, seed: int, control: str) -> str:
    """Return what was found wrong with a null control; empty if nothing."""
    for number in range(CONTROLS):
        told = slot.live(number, f"{seed} {control} {number}")
        wrong = [fault for fault in told.faults if fault.startswith(("I1", "I3"))] or told.faults
        if wrong:
            return f"life {number + 1}: {wrong[0][:200]}"
    return ""


def _report(told: list[Told], seed: int, result: Result) -> None:
    for one in told:
        result.outcomes[f"lives, {one.place}"] += 1
        for name, times in one.killed.items():
            result.outcomes[f"kills of {name}, {one.place}"] += times
        result.faults += [f"seed {seed}, life {one.number}, {one.place}: {fault}" for fault in one.faults]
    total = sum(sum(one.killed.values()) for one in told)
    result.figures["kills"] = f"{total:,}"
    writes: collections.Counter[str] = collections.Counter()
    for one in told:
        writes.update(one.writes)
    for what, times in writes.items():
        name, _, event = what.partition(" ")
        result.outcomes[f"at {event} of {name}"] += times
