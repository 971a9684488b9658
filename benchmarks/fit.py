"""LASSO paths for many targets over shared masks: seconds and exactness of our solvers and of others, in one run.

    python benchmarks/fit.py [--quick] [--size D,M,N ...] [--lambdas 20] [--targets 8]

Masks have exactly half of the columns, the truth is sparse and heavy-tailed, R^2 is 0.3 to 0.6. First the whole fit by
each of our solvers, as a run makes it: lambda chosen on held-out rows, last fit, certificate. Then the paths alone, on
the rows to fit: the same grid of lambdas for all; "full" is all of it, "prefix" what a choice by held-out error looks
at, which ends two lambdas past the best. What solvers with a Gram take is beside the time of the Gram and the products
X'Y, which all of them share.

Everybody gets the loosest tolerance, of powers of ten, at which the objective of some targets is within 1e-5 of the
optimum all along the path. What is slow is timed on those targets alone and multiplied; those lines say so. Seconds
are CPU seconds of one thread. A package that is not installed is left out, and named.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
import warnings
from collections.abc import Callable

import numpy as np
import threadpoolctl

from datamodels import sample
from datamodels.fit import moments, path, popcount
from datamodels.fit.descent import Descent
from datamodels.fit.fit import fit
from datamodels.fit.problem import NO_COLUMN, Problem, is_heldout
from datamodels.fit.rows import Rows
from datamodels.sample import Design
from datamodels.spec import FitSpec

SIZES = ["500,3000,100", "2000,12000,500", "5000,30000,1000"]
QUICK = ["300,1800,60"]
HOLDOUT = 0.1
WANTED = 1e-5
"""Largest excess of the objective over the optimum, relative to it."""


def problem(d: int, m: int, n: int, seed: int = 0) -> Problem:
    rng = np.random.default_rng(seed)
    design = Design("uniform", seed, 0.5, d)
    masks = sample.subsets(design, 0, m)
    truth = (rng.standard_t(2.5, size=(d, n)) * (rng.random((d, n)) < 0.05)).astype(np.float32)
    truth[rng.integers(d, size=n), np.arange(n)] += 1  # so that no target is without
    signal = (sample.unpack(masks, d).astype(np.float32) - 0.5) @ truth
    share = rng.uniform(0.3, 0.6, size=n)
    outputs = signal / signal.std(axis=0) * np.sqrt(share) + rng.normal(size=(m, n)) * np.sqrt(1 - share)
    return Problem(
        masks=masks,
        outputs=outputs.astype(np.float16),
        columns=d,
        center=design.inclusion,
        own_column=np.full(n, NO_COLUMN, dtype=np.int32),
        heldout=is_heldout(np.arange(m), HOLDOUT),
    )


class Paths:
    """The rows to fit, centred, with all that is given to every solver.

    x float64[m, d]; z float64[m, n], of unit variance; products float64[n, d]; lambdas float64[n, k]; best
    float64[n, k, d] is the reference, to gaps of 1e-9; prefix int64[n]
    """

    def __init__(self, given: Problem, settings: FitSpec):
        self.given, self.rows = given, Rows(given)
        used = sample.unpack(given.masks[~given.heldout], given.columns)
        self.x = used - used.mean(axis=0)
        y = given.outputs[~given.heldout].astype(np.float64)
        self.z = (y - y.mean(axis=0)) / y.std(axis=0)
        self.counts = popcount.gram(given.masks[~given.heldout], given.columns)
        self.masks = {t: moments.of_counts(self.counts, len(used), np.dtype(t)) for t in (np.float32, np.float64)}
        self.products = (self.x.T @ self.z).T / len(used)
        self.lambdas = np.abs(self.products).max(axis=1)[:, None] * path.grid(settings)
        x_heldout = sample.unpack(given.masks[given.heldout], given.columns) - used.mean(axis=0)
        z_heldout = (given.outputs[given.heldout] - y.mean(axis=0)) / y.std(axis=0)
        self.best = self.descend(np.float64, 1e-9, None, np.arange(given.n))
        errors = [((x_heldout @ theta.T - z_heldout) ** 2).mean(axis=0) for theta in self.best.transpose(1, 0, 2)]
        self.prefix = np.minimum(np.argmin(errors, axis=0) + 3, settings.lambdas)

    def objective(self, targets: np.ndarray, theta: np.ndarray) -> np.ndarray:
        """float64[t, k] of weights [t, k, d]."""
        gram = self.masks[np.float64].gram
        theta = theta.astype(np.float64)
        smooth = np.einsum("tkd,tkd->tk", theta @ gram - 2 * self.products[targets, None], theta)
        return (1 + smooth) / 2 + self.lambdas[targets] * np.abs(theta).sum(axis=2)

    def excess(self, targets: np.ndarray, theta: np.ndarray) -> float:
        best = self.objective(targets, self.best[targets])
        return float((self.objective(targets, theta) / best - 1).max())

    def descend(self, dtype, goal: float, lengths: np.ndarray | None, targets: np.ndarray) -> np.ndarray:
        """[t, k, d]: ours, to relative duality gaps of `goal`, through so many lambdas of each target."""
        solver, lambdas = Descent(self.masks[dtype]), self.lambdas[targets]
        k = np.full(len(targets), lambdas.shape[1]) if lengths is None else lengths[targets]
        found = np.zeros((len(targets), lambdas.shape[1], self.given.columns), dtype=dtype)
        position = np.zeros(len(targets), dtype=np.int64)
        state = solver.start(self.products[targets], np.ones(len(targets)), np.arange(len(targets)), None)
        solver.aim(state, np.arange(len(targets)), lambdas[:, 0])
        while len(state):
            arrived = np.flatnonzero(solver.gaps(state) <= goal)
            mine = state.target[arrived]
            found[mine, position[mine]] = state.theta[arrived]
            position[mine] += 1
            going = position[mine] < k[mine]
            solver.aim(state, arrived[going], lambdas[mine[going], position[mine[going]]])
            if not going.all():
                state = state.take(np.flatnonzero(position[state.target] < k[state.target]))
            solver.step(state, np.full(len(state), goal))
        return found


def ours(paths: Paths) -> Callable:
    return lambda targets, lengths, goal: paths.descend(np.float32, goal, lengths, targets)


def sklearn_shared(paths: Paths, dtype) -> Callable:
    from sklearn.linear_model import lasso_path

    x = np.asfortranarray(paths.x.astype(dtype))
    gram = np.ascontiguousarray(paths.masks[np.float64].gram * len(x)).astype(dtype)

    def solve(targets, lengths, tolerance):
        found = np.zeros((len(targets), paths.lambdas.shape[1], x.shape[1]), dtype=dtype)
        for i, j in enumerate(targets):
            k = lengths[j]
            y, products = paths.z[:, j].astype(dtype), (paths.products[j] * len(x)).astype(dtype)
            options = {"precompute": gram, "Xy": products, "check_input": False, "tol": tolerance, "max_iter": 10_000}
            found[i, :k] = lasso_path(x, y, alphas=paths.lambdas[j, :k], **options)[1].T
        return found

    return solve


def sklearn_plain(paths: Paths) -> Callable:
    from sklearn.linear_model import lasso_path

    def solve(targets, lengths, tolerance):
        found = np.zeros((len(targets), paths.lambdas.shape[1], paths.x.shape[1]))
        for i, j in enumerate(targets):
            k = lengths[j]
            found[i, :k] = lasso_path(paths.x, paths.z[:, j], alphas=paths.lambdas[j, :k], tol=tolerance)[1].T
        return found

    return solve


def celer(paths: Paths) -> Callable:
    from celer import celer_path

    x = np.asfortranarray(paths.x)

    def solve(targets, lengths, tolerance):
        found = np.zeros((len(targets), paths.lambdas.shape[1], x.shape[1]))
        for i, j in enumerate(targets):
            k = lengths[j]
            found[i, :k] = celer_path(x, paths.z[:, j], "lasso", alphas=paths.lambdas[j, :k], tol=tolerance)[1].T
        return found

    return solve


def skglm(paths: Paths) -> Callable:
    from skglm.datafits import Quadratic
    from skglm.penalties import L1
    from skglm.solvers import AndersonCD

    x = np.asfortranarray(paths.x)

    def solve(targets, lengths, tolerance):
        found = np.zeros((len(targets), paths.lambdas.shape[1], x.shape[1]))
        for i, j in enumerate(targets):
            k = lengths[j]
            # Its tolerance is on the subgradient, not relative to anything.
            solver = AndersonCD(tol=tolerance * paths.lambdas[j, 0], fit_intercept=False)
            found[i, :k] = solver.path(x, paths.z[:, j], Quadratic(), L1(1.0), alphas=paths.lambdas[j, :k])[1].T
        return found

    return solve


def loosest(paths: Paths, solve: Callable, targets: np.ndarray, first: float) -> tuple[float, float]:
    """(tolerance, excess): the largest tolerance that keeps to WANTED; the smallest tried where none does."""
    full = np.full(paths.given.n, paths.lambdas.shape[1])
    for tolerance in first * 10.0 ** -np.arange(6):
        excess = paths.excess(targets, solve(targets, full, tolerance))
        if excess <= WANTED:
            break
    return float(tolerance), excess


def seconds(call: Callable) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def table(size: str, lambdas: int, some: int) -> None:
    d, m, n = (int(part) for part in size.split(","))
    given = problem(d, m, n)
    print(f"\nd = {d}, m = {m}, n = {n}, {lambdas} lambdas", flush=True)
    whole_fits(given, lambdas)
    paths = Paths(given, FitSpec(lambdas=lambdas))
    shared_costs(paths)
    chosen = np.linspace(0, n - 1, min(some, n)).astype(int)
    full = np.full(n, lambdas)
    contestants = [("ours, gram float32", ours(paths), 1e-2, False)]
    contestants += [
        (f"scikit-learn, shared Gram {np.dtype(t)}", sklearn_shared(paths, t), 1e-2, False)
        for t in (np.float32, np.float64)
    ]
    contestants += [("scikit-learn, as people call it", sklearn_plain(paths), 1e-2, True)]
    for name, make in (("celer", celer), ("skglm", skglm)):
        if importlib.util.find_spec(name) is None:
            print(f"  {name} is left out: not installed")
        else:
            contestants.append((name, make(paths), 1e-2, True))
    print(
        f"  {'paths alone':36} {'full s':>9} {'prefix s':>9} {'ratio':>7} {'ratio':>7} {'excess':>9} {'tolerance':>9}"
    )
    base = None
    for name, solve, first, slow in contestants:
        tolerance, excess = loosest(paths, solve, chosen, first)
        targets = chosen if slow else np.arange(n)
        times = [
            seconds(
                lambda solve=solve, lengths=lengths, targets=targets, tolerance=tolerance: solve(
                    targets, lengths, tolerance
                )
            )
            * (n / len(targets))
            for lengths in (full, paths.prefix)
        ]
        base = base or times
        ratios = [t / b for t, b in zip(times, base, strict=True)]
        note = f"  ({len(targets)} targets, multiplied)" if slow else ""
        note += "" if excess <= WANTED else "  (never within the excess wanted)"
        print(
            f"  {name:36} {times[0]:9.2f} {times[1]:9.2f} {ratios[0]:7.1f} {ratios[1]:7.1f} {excess:9.1e} "
            f"{tolerance:9.0e}{note}",
            flush=True,
        )


def whole_fits(given: Problem, lambdas: int) -> None:
    print(f"  {'whole fit':36} {'CPU s':>9} {'ratio':>7} {'largest gap':>12} {'held-out R2':>12}")
    for tolerance in (1e-3, 1e-5):
        base = None
        for name in ("gram", "saga"):
            settings = FitSpec(solver=name, lambdas=lambdas, tolerance=tolerance, max_epochs=2000)
            found = []
            taken = seconds(lambda settings=settings, found=found: found.append(fit(given, settings, 0, threads=1)))
            base = base or taken
            (solution,) = found
            print(
                f"  {f'{name}, tolerance {tolerance:.0e}':36} {taken:9.2f} {taken / base:7.1f} "
                f"{solution.gap.max():12.1e} {np.nanmedian(solution.heldout_r2):12.3f}",
                flush=True,
            )


def shared_costs(paths: Paths) -> None:
    from scipy.linalg.blas import ssyrk

    used = np.ascontiguousarray(paths.given.masks[~paths.given.heldout])
    x = paths.x.astype(np.float32)
    y = np.random.default_rng(0).normal(size=(paths.given.columns, paths.given.n)).astype(np.float32)
    gram = paths.masks[np.float32].gram
    times = {
        "popcount": min(seconds(lambda: popcount.gram(used, paths.given.columns)) for _ in range(3)),
        "ssyrk": min(seconds(lambda: ssyrk(1.0, x.T)) for _ in range(3)),
        "products": seconds(lambda: x.T @ paths.z.astype(np.float32)),
        "sgemm": min(seconds(lambda: gram @ y) for _ in range(3)),
    }
    rate = 2 * paths.given.columns**2 * paths.given.n / times["sgemm"] / 1e9
    print(
        f"  Gram: popcount {times['popcount']:.3f} s, ssyrk {times['ssyrk']:.3f} s, "
        f"ratio {times['ssyrk'] / times['popcount']:.1f}; "
        f"X'Y {times['products']:.3f} s; sgemm {rate:.0f} GFLOP/s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one small size")
    parser.add_argument("--size", action="append", help="d,m,n; may be given again and again")
    parser.add_argument("--lambdas", type=int, default=20, help="length of the path")
    parser.add_argument("--targets", type=int, default=8, help="targets that what is slow is timed on")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # peers say when they have not converged; the excess says it here
    with threadpoolctl.threadpool_limits(1):
        small = problem(40, 300, 4)
        fit(small, FitSpec(solver="gram"), 0, threads=1)  # compiles
        for size in arguments.size or (QUICK if arguments.quick else SIZES):
            table(size, arguments.lambdas, arguments.targets)


if __name__ == "__main__":
    main()
