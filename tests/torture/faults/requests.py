"""A fault of every mode at every request to S3 of the whole life of a run, and how long recovery takes."""

from __future__ import annotations

import collections
import threading
import time
from collections.abc import Iterable
from pathlib import Path

from datamodels.settings import StoreSettings
from datamodels.storage.s3 import S3Store
from tests.helpers.protocol import FaultyStore
from tests.storage.s3 import proxy
from tests.torture.lives import Life
from tests.torture.rows import Result

MODES = {
    "reset": proxy.RESET,
    "answer lost": proxy.LOSE_ANSWER,
    "stall": proxy.STALL,
    "truncate": proxy.CUT_ANSWER,
    "slow": proxy.SLOW,
    "duplicate": proxy.DUPLICATE,
    "flipped bit": proxy.FLIP_BIT,
    "500": (500, "InternalError"),
    "503": (503, "SlowDown"),
    "409": (409, "ConditionalRequestConflict"),
    "skew": (403, "RequestTimeTooSkewed"),
    "expired": (400, "ExpiredToken"),
}
EVERY = {"skew": 5, "expired": 5}
"""A new client is made after such an answer, which takes long; so only each fifth request gets it."""
BAR = 30.0
"""Seconds that a call may take, its fault and its recovery among them."""
QUICK = 1.0
"""Timeout in seconds of the lives in which each request stalls; with the default, they would last for hours."""


class Timed(FaultyStore):
    """Passes calls to another store, and notes how long the longest took, with its faults and what came after them."""

    longest = 0.0

    def _call(self, name, key, call):
        began = time.monotonic()
        try:
            return super()._call(name, key, call)
        finally:
            self.longest = max(self.longest, time.monotonic() - began)

    def reread(self, key):
        return self._call("reread", key, lambda: self.store.reread(key))


class Faulty:
    """A rule of a proxy: of the requests with one method and path, each other one goes wrong, the first among them."""

    def __init__(self, fault: object, every: int):
        self._fault, self._every = fault, every
        self._seen: collections.Counter[tuple[str, str]] = collections.Counter()
        self._lock = threading.Lock()
        self._spared: set[tuple[str, str]] = set()
        self.faults = self.requests = 0

    def __call__(self, request) -> object:
        what = (request.command, request.path)
        with self._lock:
            self.requests += 1
            self._seen[what] += 1
            if what in self._spared:
                self._spared.remove(what)
                return None
            if self._seen[what] % 2 == 0 or self.requests % self._every:
                return None
            self.faults += 1
            self._spared.add(what)
            return self._fault


def torture(folder: Path, server: str, bucket: str, result: Result, modes: Iterable[str]) -> None:
    """Live a run for each of some modes, with the fault at each request."""
    for mode in modes:
        between, rule = proxy.Proxy(server), Faulty(MODES[mode], EVERY.get(mode, 1))
        between.rule = rule
        settings = StoreSettings(url=f"s3://{bucket}/{mode.replace(' ', '-')}", s3_endpoint=between.address, attempts=5)
        if mode == "stall":
            settings = StoreSettings(**vars(settings) | {"timeout": QUICK})
        (folder / mode).mkdir(parents=True, exist_ok=True)
        life = Life(folder / mode, 0)
        life.store = timed = Timed(S3Store(settings))
        try:
            for step in life.steps:
                step()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a fault
            result.faults.append(f"S3, {mode} at every request: {type(error).__name__}: {error}")
        between.close()
        result.outcomes[f"request to S3: {mode}"] += rule.faults
        result.figures[f"S3, {mode}: longest call"] = f"{timed.longest:.1f} s"
        if timed.longest > BAR:
            result.faults.append(f"S3, {mode}: a call took {timed.longest:.0f} s")


def stall(server: str, bucket: str, result: Result) -> None:
    """Measure how long a read, a write and a listing take that stall once, with the default settings."""
    between = proxy.Proxy(server)
    store = S3Store(StoreSettings(url=f"s3://{bucket}/stall", s3_endpoint=between.address))
    store.create("runs/a", b"1")
    calls = {"GET": lambda: store.read("runs/a"), "PUT": lambda: store.create("runs/b", b"2")}
    calls["list"] = lambda: list(store.list("runs/"))
    for name, call in calls.items():
        between.faults = {{"list": "GET"}.get(name, name): [proxy.STALL]}
        began = time.monotonic()
        call()
        seconds = time.monotonic() - began
        result.figures[f"S3, {name} stalls, default settings"] = f"{seconds:.1f} s"
        if seconds > BAR:
            result.faults.append(f"S3, {name} stalls: recovery took {seconds:.0f} s")
    between.close()
