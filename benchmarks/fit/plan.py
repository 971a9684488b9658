"""Compare the memory and CPU seconds that `datamodels.plan.fit` estimates for a fit with what the fit then takes.

    python benchmarks/fit/plan.py [--size D,M,N,SOLVER[,OWN] ...] [--threads 1]

Each size has a process of its own. Memory is the largest of what the process holds without files (RssAnon), looked at
every few milliseconds, above what it held when the fit began. Masks have half of the columns, and the truth is that of
benchmarks/fit/solvers.py, not that of the made-up outputs; OWN of the targets leave out the rows that they are in.
"made_up" is the plan from made-up outputs, "sampled" the one from a few targets of the problem itself.
"""

from __future__ import annotations

import argparse
import dataclasses
import subprocess
import sys
import threading
import time

import numpy as np
import threadpoolctl
from peers import make_problem

from datamodels.fit import memory
from datamodels.fit.data.problem import Problem
from datamodels.fit.data.sums import Sums
from datamodels.fit.estimators.base import uses_sums
from datamodels.fit.solve import fit
from datamodels.plan import fit as plan
from datamodels.run.specs import FitSpec

SIZES = [
    "500,3000,1000,gram",
    "1000,6000,500,gram",
    "1000,1500,500,gram",
    "2000,12000,500,gram",
    "3000,18000,500,gram",
    "500,3000,500,stream",
    "1000,6000,500,stream",
    "1000,6000,256,stream,256",
    "1000,6000,256,saga",
]
LOOK_SECONDS = 0.003


class Watched:
    """Measures the peak memory of this process, without files, while the body runs: bytes above those before it."""

    def __enter__(self):
        self.peak, self._before, self._over = 0, memory.held_memory(), threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def _look(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            self.peak = max(self.peak, memory.held_memory() - self._before)

    def __exit__(self, *exc_info: object) -> None:
        self._over.set()
        self._thread.join()


def whole(problem: Problem, settings: FitSpec, threads: int) -> None:
    """Fit as a run does."""
    known = None
    if uses_sums(problem, settings):
        known = Sums.empty(problem.columns, problem.n)
        with threadpoolctl.threadpool_limits(threads, user_api="blas"):
            known.add(problem.masks, problem.outputs, problem.heldout, threads=threads)
    fit(problem, settings, 0, threads=threads, sums=known)


def compare(text: str, threads: int) -> None:
    d, m, n, solver, *own = text.split(",")
    d, m, n, own = int(d), int(m), int(n), int(own[0]) if own else 0
    settings, problem = FitSpec(solver=solver), make_problem(d, m, n)
    if own:
        own_column = np.where(np.arange(n) < own, np.arange(n) % d, -1).astype("i4")
        problem = dataclasses.replace(problem, own_column=own_column)
    size = memory.Size.of(problem)
    fit(make_problem(40, 300, 4), settings, 0, threads=1)  # compiles
    with Watched() as watched:  # before planning, because the fit would reuse what a plan leaves in the heap
        whole(problem, settings, threads)
    started = time.process_time()
    made_up = plan.plan(size, settings, threads=threads)
    trial = time.process_time() - started
    sampled = plan.of_rates(size, settings, plan.measure_rates_on(problem, settings), threads=threads)
    started = time.process_time()
    whole(problem, settings, threads)
    taken = time.process_time() - started
    planned = made_up.memory.peak
    print(
        f"{text:26} {planned / 1e6:8.0f} {watched.peak / 1e6:8.0f} {planned / watched.peak:6.2f} "
        f"{made_up.cpu_seconds:10.2f} {sampled.cpu_seconds:8.2f} {taken:8.2f} "
        f"{made_up.cpu_seconds / taken:10.2f} {sampled.cpu_seconds / taken:8.2f} {trial:10.2f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", action="append", help="d,m,n,solver[,own]; may be given again and again")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        compare(arguments.one, arguments.threads)
        return
    print(
        f"{'':26} {'MB':>8} {'MB':>8} {'':6} {'CPU s':>10} {'CPU s':>8} {'CPU s':>8} {'':10} {'':8} {'CPU s':>10}\n"
        f"{'d, m, n, solver, own':26} {'planned':>8} {'taken':>8} {'ratio':>6} {'made_up':>10} {'sampled':>8} "
        f"{'taken':>8} {'made_up/':>10} {'sampled/':>8} {'trial':>10}",
        flush=True,
    )
    for size in arguments.size or SIZES:
        command = [sys.executable, __file__, "--one", size, "--threads", str(arguments.threads)]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
