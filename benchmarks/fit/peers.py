"""Solve LASSO paths for `solvers.py`, by our solvers and those of other packages, each at its best settings.

Each maker returns a function solve(targets int64[t], lengths int64[n], tolerance) -> weights [t, k, d]. Weights beyond
the length of a target are zero.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from datamodels.fit.data import moments
from datamodels.fit.data.problem import NO_COLUMN, Problem, is_heldout
from datamodels.fit.data.rows import Rows, columns
from datamodels.fit.kernels import popcount
from datamodels.fit.lasso import path
from datamodels.fit.lasso.coordinate import Descent
from datamodels.fit.lasso.saga import Saga
from datamodels.run import designs
from datamodels.run.designs import Design
from datamodels.run.specs import FitSpec

HOLDOUT = 0.1
SAGA_EPOCHS = 1000
"""Most epochs for one lambda."""


def make_problem(d: int, m: int, n: int, seed: int = 0) -> Problem:
    rng = np.random.default_rng(seed)
    design = Design("uniform", seed, 0.5, d)
    masks = designs.subsets(design, 0, m)
    truth = (rng.standard_t(2.5, size=(d, n)) * (rng.random((d, n)) < 0.05)).astype(np.float32)
    truth[rng.integers(d, size=n), np.arange(n)] += 1  # so that every target has a weight
    signal = (designs.unpack(masks, d).astype(np.float32) - 0.5) @ truth
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
    """The rows to fit, centred, and everything that all solvers are given.

    x         float64[m, d]
    z         float64[m, n], of unit variance
    products  float64[n, d]
    lambdas   float64[n, k]
    prefix    int64[n]; number of lambdas that a choice by held-out error needs: up to two past the best
    chosen    int64[t]; targets whose optimal paths are known
    best      float64[t, k, d]; those paths, to gaps of 1e-9
    """

    def __init__(self, problem: Problem, settings: FitSpec, chosen: np.ndarray):
        self.problem, self.rows = problem, Rows(problem)
        used = designs.unpack(problem.masks[~problem.heldout], problem.columns)
        self.x = used - used.mean(axis=0)
        y = problem.outputs[~problem.heldout].astype(np.float64)
        self.z = (y - y.mean(axis=0)) / y.std(axis=0)
        self.counts = popcount.gram(problem.masks[~problem.heldout], problem.columns)
        self.masks = {t: moments.of_counts(self.counts, len(used), np.dtype(t)) for t in (np.float32, np.float64)}
        self.products = (self.x.T @ self.z).T / len(used)
        self.lambdas = np.abs(self.products).max(axis=1)[:, None] * path.grid(settings)
        x_heldout = designs.unpack(problem.masks[problem.heldout], problem.columns) - used.mean(axis=0)
        z_heldout = (problem.outputs[problem.heldout] - y.mean(axis=0)) / y.std(axis=0)
        paths = self.descend(np.float32, 1e-5, None, np.arange(problem.n)).transpose(1, 0, 2)
        errors = [((x_heldout @ theta.T.astype(np.float64) - z_heldout) ** 2).mean(axis=0) for theta in paths]
        self.prefix = np.minimum(np.argmin(errors, axis=0) + 3, settings.lambdas)
        self.chosen = chosen
        self.best = self.descend(np.float64, 1e-9, None, chosen)

    def objective(self, theta: np.ndarray) -> np.ndarray:
        """Return float64[t, k]: the objective at weights [t, k, d] of the chosen targets."""
        gram = self.masks[np.float64].gram
        theta = theta.astype(np.float64)
        smooth = np.einsum("tkd,tkd->tk", theta @ gram - 2 * self.products[self.chosen, None], theta)
        return (1 + smooth) / 2 + self.lambdas[self.chosen] * np.abs(theta).sum(axis=2)

    def excess(self, theta: np.ndarray) -> float:
        """Return the largest relative excess of the objective over its optimum, over paths of the chosen targets."""
        return float((self.objective(theta) / self.objective(self.best) - 1).max())

    def descend(self, dtype, goal: float, lengths: np.ndarray | None, targets: np.ndarray) -> np.ndarray:
        """Solve by our solver, to relative duality gaps of `goal`: weights [t, k, d]. `lengths` limits the lambdas."""
        solver, lambdas = Descent(self.masks[dtype]), self.lambdas[targets]
        k = np.full(len(targets), lambdas.shape[1]) if lengths is None else lengths[targets]
        found = np.zeros((len(targets), lambdas.shape[1], self.problem.columns), dtype=dtype)
        position = np.zeros(len(targets), dtype=np.int64)
        state = solver.start(self.products[targets], np.ones(len(targets)), np.arange(len(targets)), None)
        solver.aim(state, np.arange(len(targets)), lambdas[:, 0])
        while len(state):
            arrived = np.flatnonzero(solver.measure(state).gap(state.lambda_) <= goal)
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


def saga(paths: Paths) -> Callable:
    """Solve by our SAGA, the algorithm of the paper: all targets together, each at its own lambda."""
    rows = paths.rows
    y = rows.outputs(0, paths.problem.n)[rows.fit]

    def solve(targets, lengths, goal):
        solver = Saga(rows, rows.fit, batch=256, seed=[0])
        lambdas = paths.lambdas[targets]
        state = solver.start(columns(y, targets), None, np.arange(len(targets)))
        solver.aim(state, lambdas[:, 0])
        found = np.zeros((len(targets), lambdas.shape[1], rows.problem.columns), dtype=np.float32)
        position, spent = np.zeros((2, len(targets)), dtype=np.int64)
        measure, epochs = solver.measure(state), 0
        while len(state):
            mine = state.target
            arrived = (measure.gap(state.lambda_) <= goal) | (spent[mine] >= SAGA_EPOCHS)
            found[mine[arrived], position[mine[arrived]]] = state.theta[:-1, arrived].T
            position[mine[arrived]] += 1
            spent[mine[arrived]] = 0
            going = position[mine] < lengths[targets[mine]]
            state = state if going.all() else state.take(np.flatnonzero(going))
            if len(state):
                solver.aim(state, lambdas[state.target, position[state.target]])
                solver.epoch(state, epochs)
                measure, epochs = solver.calm(state), epochs + 1
                spent[state.target] += 1
        return found

    return solve


class Adelie:
    """Solves by adelie's covariance method. adelie needs an older NumPy than ours, so it runs in a separate Python.

    seconds  CPU seconds of the last call, measured by that Python
    """

    def __init__(self, paths: Paths, python: Path):
        self._paths, self._python, self.seconds = paths, python, 0.0

    def __call__(self, targets, lengths, tolerance):
        paths = self._paths
        with tempfile.TemporaryDirectory() as folder:
            asked, made = Path(folder, "given.npz"), Path(folder, "made.npz")
            np.savez(
                asked,
                gram=paths.masks[np.float64].gram,
                products=paths.products[targets],
                lambdas=paths.lambdas[targets],
                lengths=lengths[targets],
                tolerance=tolerance,
            )
            script = Path(__file__).parent / "adelie_paths.py"
            subprocess.run([self._python, script, asked, made], check=True, env={"OMP_NUM_THREADS": "1"})
            with np.load(made) as arrays:
                self.seconds = float(arrays["seconds"])
                return arrays["weights"]
