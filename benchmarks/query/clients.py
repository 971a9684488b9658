"""Run clients of benchmarks/query/service.py: processes that send each request as soon as the last is answered."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from bare_server import DECODE

TICK = os.sysconf("SC_CLK_TCK")


@dataclasses.dataclass(frozen=True)
class Ask:
    """
    method    full name of a call, /service/Method
    stream    whether its answer is a stream
    requests  as bytes, asked in turn
    decode    what a client does with each answer, by its name in `bare_server.DECODE`
    """

    method: str
    stream: bool
    requests: tuple[bytes, ...]
    decode: str = ""


@dataclasses.dataclass(frozen=True)
class Measured:
    """
    latencies    float64[calls], seconds
    bytes        of all answers
    seconds      from the first call's begin to the last one's end
    server_cpu   seconds of the servers' processes
    """

    latencies: np.ndarray
    bytes: int
    seconds: float
    server_cpu: float

    @classmethod
    def of(cls, parts: Sequence[Measured]) -> Measured:
        """Several as one."""
        latencies = np.concatenate([part.latencies for part in parts])
        return cls(latencies, *(sum(getattr(p, f) for p in parts) for f in ("bytes", "seconds", "server_cpu")))

    @property
    def rate(self) -> float:
        """Calls a second."""
        return len(self.latencies) / self.seconds

    @property
    def megabytes(self) -> float:
        """A second."""
        return self.bytes / self.seconds / 1e6

    @property
    def cpu(self) -> float:
        """Seconds of the servers for a call."""
        return self.server_cpu / len(self.latencies)

    def quantile(self, q: float) -> float:
        return float(np.quantile(self.latencies, q))


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def memory(pid: int) -> dict[str, float]:
    """MB that a process holds without files (anonymous), and all the most that it held."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {name: int(status[field].split()[0]) / 1e3 for name, field in (("now", "RssAnon"), ("peak", "VmHWM"))}


def _start(ready: Any, go: Any) -> None:
    global _ready, _go
    _ready, _go = ready, go
    _ready.release()


def _client(address: str, ask: Ask, first: int, seconds: float) -> tuple[list[float], int, float]:
    """Bytes go as they are, so that a client costs as little as it can."""
    decode = DECODE[ask.decode]
    with grpc.insecure_channel(address, options=[("grpc.max_receive_message_length", -1)]) as channel:
        method = (channel.unary_stream if ask.stream else channel.unary_unary)(ask.method)

        def once(request: bytes) -> int:
            answer = method(request, timeout=60)
            size = 0
            for message in answer if ask.stream else (answer,):
                decode(message)
                size += len(message)
            return size

        once(ask.requests[0])
        _ready.release()
        _go.wait()
        begin, latencies, size = time.monotonic(), [], 0
        while (started := time.monotonic()) < begin + seconds:
            size += once(ask.requests[(first + len(latencies)) % len(ask.requests)])
            latencies.append(time.monotonic() - started)
        return latencies, size, time.monotonic()


class Clients:
    """`most` processes that are there to ask."""

    def __init__(self, most: int):
        context = multiprocessing.get_context("spawn")
        self._ready, self._go = context.Semaphore(0), context.Event()
        self._asked = 0
        self._pool = context.Pool(most, _start, (self._ready, self._go))
        for _ in range(most):  # or their start would be measured with the services'
            self._ready.acquire()

    def __enter__(self) -> Clients:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._pool.terminate()
        self._pool.join()

    def ask(self, servers: Sequence[tuple[str, int]], ask: Ask, clients: int, seconds: float) -> Measured:
        """`clients` processes, each with one call at a time, spread over servers given as (address, pid)."""
        self._go.clear()
        first = [self._asked + i * len(ask.requests) // clients for i in range(clients)]
        tasks = [(servers[i % len(servers)][0], ask, first[i], seconds) for i in range(clients)]
        waiting = self._pool.starmap_async(_client, tasks, chunksize=1)
        for _ in tasks:
            if not self._ready.acquire(timeout=60):
                raise SystemExit(f"{ask.method}: not every client had an answer in a minute")
        before, begin = sum(cpu_seconds(pid) for _, pid in servers), time.monotonic()
        self._go.set()
        latencies, sizes, ends = zip(*waiting.get(timeout=seconds + 120), strict=True)
        spent = sum(cpu_seconds(pid) for _, pid in servers) - before
        self._asked += max(map(len, latencies))  # go on with other questions the next time
        return Measured(np.concatenate(latencies), sum(sizes), max(ends) - begin, spent)
