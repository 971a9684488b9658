"""Measure what it costs to look at a run's Job, by listing all its pods and by watching those that matter.

    python -m benchmarks.cluster.watching [--pods 1000,3000,100000]

The API server is the small one of the tests, over HTTP, with pods of 9 kB, the size of a trainer's. 20 of them run, and
all others have succeeded. A driver looks every two seconds. Listing was what drivers did up to version 0.2.0; of that,
one look is measured, and of watching the 30 looks of a minute. Each way has a process of its own, whose memory is that
beyond what it had before the first look.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

from datamodels.runners.cluster.api import NOT_SUCCEEDED, connect
from datamodels.runners.cluster.watching import Watching
from tests.runners.cluster import conftest as fake

RUNNING = 20
LOOKS = 30
"""Of a minute."""
OF_JOB = "batch.kubernetes.io/job-name=train"


def look(kubeconfig: str, watches: bool, answers: Any) -> None:
    """Look once by listing, or as often as in a minute by watching, and send what it took."""
    plain = connect(kubeconfig=kubeconfig)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    cpu = time.process_time()
    with Watching(plain) if watches else contextlib.nullcontext(plain) as cluster:
        for _ in range(LOOKS if watches else 1):
            cluster.job("train")
            cluster.warnings("Job", "train")
            assert len(cluster.pods(OF_JOB, NOT_SUCCEEDED if watches else "")) >= RUNNING
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    answers.send((time.process_time() - cpu, memory * 1024))


def measured(pods: int, watches: bool) -> dict[str, Any]:
    """Return requests, bytes, CPU seconds and memory of one look by listing, or of LOOKS by watching."""
    with tempfile.TemporaryDirectory() as folder, fake.served(Path(folder)) as api:
        api.page, api.finished = 500, pods - RUNNING
        for number in range(RUNNING):
            api.add_pod(f"p{number}", job="train", status={"phase": "Running", "message": "x" * 8000})
        ours, theirs = multiprocessing.Pipe()
        process = multiprocessing.get_context("spawn").Process(target=look, args=(api.kubeconfig, watches, theirs))
        process.start()
        cpu, memory = ours.recv()
        process.join()
        return {
            "pods": pods,
            "way": "watches" if watches else "lists",
            "looks": LOOKS if watches else 1,
            "requests": len(api.calls),
            "MB": round(api.sent / 1e6, 2),
            "cpu_seconds": round(cpu, 3),
            "memory_MB": round(memory / 1e6),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pods", default="1000,3000,100000")
    for pods in map(int, parser.parse_args().pods.split(",")):
        for watches in (False, True):
            print(json.dumps(measured(pods, watches)), flush=True)


if __name__ == "__main__":
    main()
