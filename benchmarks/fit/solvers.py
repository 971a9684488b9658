"""Compare our LASSO solvers with others, in one run: seconds and exactness of paths for many targets over shared masks.

    python benchmarks/fit/solvers.py [--quick] [--size D,M,N ...] [--lambdas 20] [--targets 8]

Masks have exactly half of the columns, the truth is sparse and heavy-tailed, and R^2 is 0.3 to 0.6. The first part
times the whole fit by each of our solvers, as in a run: choice of lambda on held-out rows, last fit, certificate. The
second part times the paths alone, on the rows to fit, with the same grid of lambdas for all. "full" is the whole grid;
"prefix" is the part that a choice by held-out error needs, which ends two lambdas past the best. The time of the Gram
matrix and of the products X'Y is not included: all solvers that use a Gram share it.

Each solver gets the loosest tolerance, of powers of ten, at which the objective of some targets is within 1e-5 of the
optimum along the whole path. Slow solvers are timed on those targets alone, and their times are multiplied; their lines
say so. Seconds are CPU seconds of one thread. A package that is not installed is left out, and named.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import os
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import peers
import threadpoolctl

from datamodels.fit.data.problem import Problem
from datamodels.fit.kernels import popcount
from datamodels.fit.lasso.coordinate import Descent
from datamodels.fit.solve import BLOCK_TARGETS, fit
from datamodels.run.specs import FitSpec

SIZES = ["500,3000,100", "2000,12000,500", "5000,30000,1000"]
QUICK = ["300,1800,60"]
WANTED = 1e-5
"""Largest excess of the objective over the optimum, relative to it."""
WHOLE_TARGETS = 64
"""Most targets for timing `saga`, which is slow."""
STEPS = 10


def seconds(call: Callable) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def loosest(paths: peers.Paths, solve: Callable, first: float) -> tuple[float, float]:
    """Return (tolerance, excess) for the largest tolerance whose excess is at most WANTED, else for the smallest."""
    full = np.full(paths.problem.n, paths.lambdas.shape[1])
    for tolerance in first * 10.0 ** -np.arange(6):
        excess = paths.excess(solve(paths.chosen, full, tolerance))
        if excess <= WANTED:
            break
    return float(tolerance), excess


def table(size: str, lambdas: int, some: int, adelie: Path | None) -> None:
    d, m, n = (int(part) for part in size.split(","))
    problem = peers.make_problem(d, m, n)
    print(f"\nd = {d}, m = {m}, n = {n}, {lambdas} lambdas", flush=True)
    whole_fits(problem, lambdas)
    paths = peers.Paths(
        problem, FitSpec(estimator="lasso", lambdas=lambdas), np.linspace(0, n - 1, min(some, n)).astype(int)
    )
    shared_costs(paths)
    batched_steps(paths)
    print(
        f"  {'paths alone':36} {'full s':>9} {'prefix s':>9} {'ratio':>7} {'ratio':>7} {'excess':>9} {'tolerance':>9}"
    )
    base = None
    for name, solve, first, targets in solvers(paths, adelie):
        tolerance, excess = loosest(paths, solve, first)
        times = [
            timed(solve, targets, lengths, tolerance) * (n / len(targets))
            for lengths in (np.full(n, lambdas), paths.prefix)
        ]
        base = base or times
        ratios = [t / b for t, b in zip(times, base, strict=True)]
        note = f"  ({len(targets)} targets, multiplied)" if len(targets) < n else ""
        note += "" if excess <= WANTED else "  (never within the excess wanted)"
        print(
            f"  {name:36} {times[0]:9.2f} {times[1]:9.2f} {ratios[0]:7.1f} {ratios[1]:7.1f} {excess:9.1e} "
            f"{tolerance:9.0e}{note}",
            flush=True,
        )


def solvers(paths: peers.Paths, adelie: Path | None) -> Iterator[tuple[str, Callable, float, np.ndarray]]:
    """Yield (name, solve, first tolerance to try, targets to time)."""
    every, some = np.arange(paths.problem.n), paths.chosen
    yield "ours, gram float32", peers.ours(paths), 1e-2, every
    for dtype in (np.float32, np.float64):
        yield f"scikit-learn, shared Gram {np.dtype(dtype)}", peers.sklearn_shared(paths, dtype), 1e-2, every
    if adelie is None:
        print("  adelie is left out: no --adelie")
    else:
        yield "adelie, shared Gram", peers.Adelie(paths, adelie), 1e-4, some
    yield "ours, saga", peers.saga(paths), 1e-2, every[:WHOLE_TARGETS]  # fewer would not do its products justice
    yield "scikit-learn, as people call it", peers.sklearn_plain(paths), 1e-2, some
    for name, make in (("celer", peers.celer), ("skglm", peers.skglm)):
        if importlib.util.find_spec(name) is None:
            print(f"  {name} is left out: not installed")
        else:
            yield name, make(paths), 1e-2, some


def timed(solve: Callable, targets: np.ndarray, lengths: np.ndarray, tolerance: float) -> float:
    taken = seconds(lambda: solve(targets, lengths, tolerance))
    return getattr(solve, "seconds", taken)  # a solver in another process measures its own time


def whole_fits(problem: Problem, lambdas: int) -> None:
    some = dataclasses.replace(
        problem, outputs=problem.outputs[:, :WHOLE_TARGETS], own_column=problem.own_column[:WHOLE_TARGETS]
    )
    print(f"  {f'whole fit, {some.n} targets':36} {'CPU s':>9} {'ratio':>7} {'largest gap':>12} {'held-out R2':>12}")
    for tolerance in (1e-3, 1e-5):
        base = None
        for name in ("gram", "saga"):
            settings = FitSpec(solver=name, lambdas=lambdas, tolerance=tolerance, max_epochs=2000)
            found = []
            taken = seconds(lambda settings=settings, found=found: found.append(fit(some, settings, 0, threads=1)))
            base = base or taken
            (solution,) = found
            print(
                f"  {f'{name}, tolerance {tolerance:.0e}':36} {taken:9.2f} {taken / base:7.1f} "
                f"{solution.gap.max():12.1e} {np.nanmedian(solution.heldout_r2):12.3f}",
                flush=True,
            )
    if (os.cpu_count() or 1) > 1:
        settings = FitSpec(solver="gram", lambdas=lambdas)
        walls = [min(wall(lambda t=t: fit(problem, settings, 0, threads=t)) for _ in range(2)) for t in (1, 2)]
        ratio = walls[0] / walls[1]
        print(f"  gram, {problem.n} targets by the clock: {walls[0]:.2f} s, with two threads {ratio:.2f}x")


def wall(call: Callable) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def shared_costs(paths: peers.Paths) -> None:
    from scipy.linalg.blas import ssyrk

    used = np.ascontiguousarray(paths.problem.masks[~paths.problem.heldout])
    x = paths.x.astype(np.float32)
    times = {
        "popcount": min(seconds(lambda: popcount.gram(used, paths.problem.columns)) for _ in range(3)),
        "ssyrk": min(seconds(lambda: ssyrk(1.0, x.T)) for _ in range(3)),
        "products": seconds(lambda: x.T @ paths.z.astype(np.float32)),
    }
    print(
        f"  Gram: popcount {times['popcount']:.3f} s, ssyrk {times['ssyrk']:.3f} s, "
        f"ratio {times['ssyrk'] / times['popcount']:.1f}; X'Y {times['products']:.3f} s"
    )


def batched_steps(paths: peers.Paths) -> None:
    """Compare complete proximal steps of a block of targets with their matrix product alone."""
    d, targets = paths.problem.columns, np.arange(min(paths.problem.n, BLOCK_TARGETS["cpu"]))
    solver = Descent(paths.masks[np.float32], small=0)
    state = solver.start(paths.products[targets], np.ones(len(targets)), targets, None)
    solver.aim(state, targets, paths.lambdas[targets, -1])
    goal = np.full(len(targets), 1e-9)

    def steps():
        for _ in range(STEPS):
            solver.step(state, goal)
            solver.measure(state).gap(state.lambda_)

    steps()  # from here on weights are dense
    gram, theta = paths.masks[np.float32].gram, np.ascontiguousarray(state.theta)
    ours = min(seconds(steps) for _ in range(5)) / STEPS
    product = min(seconds(lambda: [theta @ gram for _ in range(STEPS)]) for _ in range(5)) / STEPS
    rate = 2 * d**2 * len(targets) / 1e9
    print(
        f"  batched steps: {rate / ours:.0f} GFLOP/s, {product / ours:.0%} of sgemm's {rate / product:.0f} "
        f"({len(targets)} targets, {np.count_nonzero(theta) / theta.size:.0%} weights)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one small size")
    parser.add_argument("--size", action="append", help="d,m,n; may be given again and again")
    parser.add_argument("--lambdas", type=int, default=20, help="length of the path")
    parser.add_argument("--targets", type=int, default=8, help="targets that what is slow is timed on")
    parser.add_argument("--adelie", type=Path, help="a Python that has adelie; its NumPy is older than ours")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # peers say when they have not converged; the excess says it here
    with threadpoolctl.threadpool_limits(1):
        small = peers.make_problem(40, 300, 4)
        fit(small, FitSpec(solver="gram"), 0, threads=1)  # compiles
        for size in arguments.size or (QUICK if arguments.quick else SIZES):
            table(size, arguments.lambdas, arguments.targets, arguments.adelie)


if __name__ == "__main__":
    main()
