"""Compare the CPU seconds of fits by `prior` and `pooled` with those by `lasso`, at the sizes of the fit benchmark.

    python benchmarks/fit/estimator_cost.py [--size D,M,N ...] [--quick]

Each fit works as that of a run: sums over the models first, if the estimator uses them, then blocks of targets, on one
thread. The features of `prior` are part of it. Outputs are of two kinds:

- `useless`: those of benchmarks/fit/solvers.py, of which the features of pairs say nothing;
- `useful`: half of the weights' variance comes from a random combination of the features.

"first" includes importing everything and loading the compiled loops: each fit has a process of its own. "again" is a
second fit in the same process. Ratios are over `lasso` of the same size and kind.
"""

from __future__ import annotations

import argparse
import dataclasses
import subprocess
import sys
import time

import numpy as np
import threadpoolctl
from peers import make_problem

SIZES = ["100,200,10", "200,500,50", "500,3000,100", "2000,12000,500", "5000,30000,1000"]
QUICK = SIZES[:3]
KINDS = ("useless", "useful")
ESTIMATORS = ("lasso", "pooled", "prior")
ONCE = 2e9
"""d m n from which there is no second fit."""


def made(d: int, m: int, n: int, kind: str):
    """Return a problem without a prior, and a function that makes the prior."""
    from datamodels.fit.pairs import pairs
    from datamodels.run import designs

    problem = make_problem(d, m, n)
    if kind == "useful":
        rng, features = np.random.default_rng(1), pairs.made_up(n, d)
        known = features.of(np.arange(n))
        known /= np.sqrt((known**2).mean(axis=(1, 2), keepdims=True)) + 1e-12
        theta = np.tensordot(rng.uniform(0, 1, len(known)).astype(np.float32), known, 1).T
        signal = (designs.unpack(problem.masks, d).astype(np.float32) - 0.5) @ theta
        outputs = problem.outputs.astype(np.float32) + signal / signal.std(axis=0)
        problem = dataclasses.replace(problem, outputs=outputs.astype(np.float16))
    return problem, lambda: pairs.made_up(n, d)


def one(size: str, kind: str, estimator: str) -> None:
    d, m, n = map(int, size.split(","))
    problem, prior = made(d, m, n, kind)
    times: list[float] = []
    for _ in range(1 if d * m * n >= ONCE else 2):
        started = time.process_time()
        found = fitted(problem, prior, estimator)
        times.append(time.process_time() - started)
    way = "" if found.choice is None else found.choice["way"]
    print(f"{times[0]}|{times[-1]}|{way}")


def fitted(problem, prior, estimator: str):
    from datamodels.fit.estimators.base import sums_of
    from datamodels.fit.solve import fit
    from datamodels.run.specs import FitSpec

    settings = FitSpec(estimator=estimator)
    if estimator == "prior":
        problem = dataclasses.replace(problem, prior=prior())
    return fit(problem, settings, 0, threads=1, sums=sums_of(problem, settings))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", action="append", help="d,m,n; may be given again and again")
    parser.add_argument("--quick", action="store_true", help="the three small sizes")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        with threadpoolctl.threadpool_limits(1):
            one(options.size[0], *options.one)
        return
    print("columns, models, targets  outputs   estimator  first s  ratio  again s  ratio  chosen", flush=True)
    for size in options.size or (QUICK if options.quick else SIZES):
        for kind in KINDS:
            base: tuple[float, float] | None = None
            for estimator in ESTIMATORS:
                command = [sys.executable, __file__, "--size", size, "--one", kind, estimator]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                *numbers, way = done.stdout.splitlines()[-1].split("|")
                first, again = map(float, numbers)
                base = base or (first, again)
                print(
                    f"{size:<26}{kind:<10}{estimator:<10}{first:>8.2f}{first / base[0]:>7.1f}{again:>9.2f}"
                    f"{again / base[1]:>7.1f}  {way}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
