"""The memory that the aggregator takes for a part, and what it refuses for lack of memory."""

import subprocess

import numpy as np
import pytest

from datamodels.aggregate.committer import Committer
from datamodels.aggregate.room import FACTOR, Room
from datamodels.errors import BusyError, SpecError
from datamodels.rpc.clients.aggregator import AggregatorClient
from datamodels.settings import ClientSettings
from tests.helpers.waiting import LIMIT
from tests.services.aggregator.test_processes import Process

ROWS, TARGETS = 96, 500_000
SIZE = ROWS * TARGETS * 4
"""183 MiB: large enough that the memory that does not grow with the part is small beside it."""


def peak_of(process: subprocess.Popen) -> int:
    """Return the most memory that a process held since the last call, or since its start, in bytes."""
    with open(f"/proc/{process.pid}/status") as status:
        found = dict(line.split(":", 1) for line in status)
    with open(f"/proc/{process.pid}/clear_refs", "w") as file:
        file.write("5")
    return int(found["VmHWM"].split()[0]) * 1024


def test_a_part_takes_little_more_memory_than_the_outputs_and_the_file(tmp_path, kit):
    """As a real process, from the first message to the commit. Random outputs cannot be compressed."""
    run = kit.make_run(targets=TARGETS, m=ROWS, chunk=ROWS, sub_chunk=ROWS, labels=False)
    small = kit.make_run("warm")
    process = Process(tmp_path)
    process.start()
    try:
        with AggregatorClient(process.wait_until_serving(), ClientSettings(deadline=LIMIT)) as client:
            client.create_run(small)
            client.put(small.name, range(4), np.arange(4), kit.values(range(4)))
            client.create_run(run)
            values = np.random.default_rng(0).standard_normal((ROWS, TARGETS), dtype=np.float32)
            peak_of(process.process)
            before = peak_of(process.process)
            assert client.put(run.name, range(ROWS), np.arange(ROWS), values)
            taken = peak_of(process.process) - before
            print(f"{taken / SIZE:.2f} times the outputs")
            assert SIZE < taken < FACTOR * SIZE
    finally:
        process.kill()


def test_outputs_are_refused_while_there_is_no_memory_for_them(kit, store, run):
    free = [0]
    filled = Room(lambda: free[0])
    with (
        kit.serve(store, room=filled) as server,
        AggregatorClient(server.address, ClientSettings(attempts=1)) as client,
    ):
        client.create_run(run)
        with filled.reserved("other", range(9), 2**24):
            assert client.put(run.name, range(4), np.arange(4), kit.values(range(4)))
        free[0] = 2**30
        with filled.reserved("other", range(9), 2**28):
            free[0] = 0
            with pytest.raises(BusyError, match="models 4 to 8 need 0 MiB of memory, and the aggregator has 0 MiB"):
                client.put(run.name, range(4, 8), np.arange(4, 8), kit.values(range(4, 8)))
            # What is committed already takes no memory.
            assert not client.put(run.name, range(4), np.arange(4), kit.values(range(4)))
        assert client.put(run.name, range(4, 8), np.arange(4, 8), kit.values(range(4, 8)))


def test_a_run_whose_parts_the_machine_cannot_hold_is_refused(kit, store, monkeypatch):
    monkeypatch.setattr("datamodels.machine.memory", lambda: 10_000)
    with pytest.raises(SpecError, match=r"sub_chunk = 400: .* lower it to 166 or less"):
        Committer(store).create(kit.make_run(m=400, chunk=400, sub_chunk=400))
