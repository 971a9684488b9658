"""Row f2: a fault of every mode at every storage call of the whole life of a run, at every request to S3, and on
connections between its processes.

1. At each call of an object store, one at a time: the call is not made, loses its answer, finds no space, or returns
   damaged bytes. The step is made again if it raises an error, and the life must go on to its end.
2. At each request to S3, through a proxy: resets, lost and cut answers, stalls and so on; the next try of the request
   is good. No step may fail, and each request must be answered within 30 s of its fault.
3. On connections of trainers, drivers and clients with the aggregator, fitter and query service, through a proxy, while
   runs are made from spec to answers. Each service must answer within 30 s of a fault, and runs must be whole.
"""

from __future__ import annotations

import contextlib
import random
import threading
from pathlib import Path

from datamodels.settings import TelemetrySettings
from datamodels.telemetry import configure_logging
from tests.torture.faults import calls, requests
from tests.torture.faults.wire import MODES, Wire
from tests.torture.kills import forks
from tests.torture.kills.row import start_sampler, stores
from tests.torture.kills.slot import SERVICES, Slot
from tests.torture.rows import Budget, Result

LIVES = 12
"""Lives with faulty connections."""
FAULTS = 3
"""Faults on connections with each service in one life."""


def run(folder: Path, seed: int, budget: Budget) -> Result:
    """Do all three. A round is one fault of the first part; the others are short."""
    configure_logging(TelemetrySettings(level="error"), "torture")  # each fault is a warning
    result = Result()
    with stores(folder) as settings:
        s3 = settings("S3", 0)
        bucket = s3.url.removeprefix("s3://")
        parts = [
            threading.Thread(target=requests.torture, args=(folder / mode, s3.s3_endpoint, bucket, result, [mode]))
            for mode in requests.MODES
        ]
        parts.append(threading.Thread(target=requests.stall, args=(s3.s3_endpoint, bucket, result)))
        parts.append(threading.Thread(target=connections, args=(folder, settings("local", 0), seed, result)))
        for part in parts:
            part.start()
        calls.torture(folder / "calls", budget, result)
        for part in parts:
            part.join()
    return result


def connections(folder: Path, store, seed: int, result: Result) -> None:
    """Make runs while connections go wrong."""
    longest: dict[str, float] = {}
    with forks.server(folder) as server:
        sampler = start_sampler(folder, server)
        slot = Slot(folder / "slot", server, "local", store, f"unix:{folder}/sampler", kills={}, suffix=".wire")
        wires = {name: Wire(f"{folder}/slot/{name}", f"{folder}/slot/{name}.wire") for name in SERVICES}
        with contextlib.closing(slot):
            for number in range(LIVES):
                for name, wire in wires.items():
                    wire.rng, wire.left = random.Random(f"{seed} {number} {name}"), FAULTS
                told = slot.live(number, f"{seed} {number}")
                result.faults += [f"connections, seed {seed}, life {number}: {fault}" for fault in told.faults]
        for name, wire in wires.items():
            wire.close()
            for mode in wire.faults:
                result.outcomes[f"connection with {name}: {mode}"] += 1
            for mode, seconds in wire.longest.items():
                longest[mode] = max(longest.get(mode, 0.0), seconds)
        sampler.kill()
    for mode in MODES:
        seconds = longest.get(mode, 0.0)
        result.figures[f"connections, {mode}: longest recovery"] = f"{seconds:.1f} s"
        if seconds > requests.BAR:
            result.faults.append(f"connections, {mode}: recovery took {seconds:.0f} s")
