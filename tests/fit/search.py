"""Random search for LASSO problems that a solver gets wrong.

    python -m tests.fit.search [--seconds 60 | --problems 1000] [--first SEED | --seed SEED] [--solver gram]

Each seed makes one small problem with the settings of its fit. The check of the solution proves each target's status,
lambda, intercept and weights from the masks and outputs, in float64. A search starts at a random seed. At the first
fault it prints the seed and ends with exit status 1. `test_search` uses the same problems and the same check, and the
folder `cases` has the problems that a solver once got wrong.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import secrets
import sys
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from datamodels.fit.data import problem
from datamodels.fit.data.problem import NO_COLUMN, Problem, Solution, is_heldout
from datamodels.fit.lasso import base, path
from datamodels.fit.solve import fit
from datamodels.run import designs
from datamodels.run.specs import FitSpec
from datamodels.testing import reference

CASES = Path(__file__).parent / "cases"
"""Problems that a solver once got wrong, named after what was wrong."""
EPOCHS = {"gram": 5000, "stream": 2000, "saga": 200}
"""Passes for one lambda, by solver. `gram` converges within them. The others may end as not converged if a problem is
so badly conditioned that methods of first order need more."""
ALWAYS_CONVERGES = ("gram",)
ARRAYS = ("masks", "outputs", "center", "own_column", "heldout")


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """A problem and the settings of its fit."""

    problem: Problem
    settings: FitSpec

    def save(self, file: Path) -> None:
        arrays = {name: getattr(self.problem, name) for name in ARRAYS}
        text = self.settings.model_dump_json(exclude_defaults=True)
        np.savez_compressed(file, **arrays, columns=self.problem.columns, settings=np.array(text))

    @classmethod
    def load(cls, file: Path) -> Case:
        with np.load(file) as arrays:
            given = Problem(**{name: arrays[name] for name in ARRAYS}, columns=int(arrays["columns"]))
            return cls(given, FitSpec(**{"estimator": "lasso"} | json.loads(str(arrays["settings"]))))


def made(seed: int, **settings) -> Case:
    """The problem of a seed; `settings` take the place of those that it draws."""
    rng = np.random.default_rng(seed)
    d, m = int(rng.integers(2, 41)), int(rng.integers(2, 161))
    x, alpha = _masks(rng, d, m)
    n = int(rng.integers(1, 6))
    drawn = {
        "estimator": "lasso",
        "solver": rng.choice(["gram", "stream", "saga"], p=[0.8, 0.1, 0.1]),
        "tolerance": rng.choice([1e-3, 1e-4, 1e-5, 1e-6]),
        "lambdas": int(rng.integers(1, 9)),
        "lambda_ratio": rng.choice([0.5, 0.1, 0.01, 0.003]),
        "patience": int(rng.integers(1, 4)),
    } | settings
    drawn.setdefault("max_epochs", EPOCHS[drawn["solver"]])
    given = Problem(
        masks=designs.pack(x),
        outputs=_outputs(rng, x, n),
        columns=d,
        center=_center(rng, x, alpha),
        own_column=np.where(rng.random(n) < 0.6, rng.integers(d, size=n), NO_COLUMN).astype(np.int32),
        heldout=is_heldout(np.arange(m), rng.choice([0.1, 0.25, 0.5])),
    )
    return Case(given, FitSpec(**drawn))


def _masks(rng: np.random.Generator, d: int, m: int) -> tuple[np.ndarray, float]:
    """(bool[m, d], share of the columns that a row has about): some columns are alike, opposite or constant."""
    alpha = rng.choice([0.05, 0.2, 0.5, 0.8, 0.95])
    x = rng.random((m, d)) < alpha
    if rng.random() < 0.3:  # subsets of one size
        x = np.argsort(np.argsort(x + rng.random((m, d)), axis=1), axis=1) >= d - round(alpha * d)
    if rng.random() < 0.2:  # complementary pairs of subsets
        x[1::2] = ~x[: 2 * (m // 2) : 2]
    for _ in range(rng.integers(0, 3)):
        x[:, rng.integers(d)] = x[:, rng.integers(d)]
    for _ in range(rng.integers(0, 2)):
        x[:, rng.integers(d)] = ~x[:, rng.integers(d)]
    for _ in range(rng.integers(0, 3)):
        x[:, rng.integers(d)] = rng.random() < 0.5
    return x, float(alpha)


def _outputs(rng: np.random.Generator, x: np.ndarray, n: int) -> np.ndarray:
    """[m, n]: sparse linear models of the masks with some noise, or none, on any scale; some of them rounded."""
    m, d = x.shape
    truth = rng.standard_t(2.5, size=(d, n)) * (rng.random((d, n)) < rng.choice([0.1, 0.3, 1.0]))
    y = x @ truth + rng.choice([0.0, 0.01, 1.0, 10.0], size=n) * rng.normal(size=(m, n))
    y = np.where(rng.random(n) < 0.1, np.round(y), y) + rng.choice([0, 0, 3, 1000], size=n)
    return (y * 10.0 ** rng.integers(-2, 2, size=n)).astype(rng.choice([np.float16, np.float32]))


def _center(rng: np.random.Generator, x: np.ndarray, alpha: float) -> np.ndarray:
    """float32[d]: the columns' means, those of the design, or far from either."""
    wrong = rng.random(x.shape[1]).round(1)
    return [x.mean(axis=0), np.full(x.shape[1], alpha), wrong][rng.integers(3)].astype(np.float32)


def faults(case: Case) -> list[str]:
    """What is wrong with the solution of a case; empty if nothing is. Numbers that overflow on the way are wrong."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        try:
            solution = fit(case.problem, case.settings, 0, threads=1)
        except RuntimeWarning as warning:
            return [f"the fit warns: {warning}"]
    return check(case, solution)


def check(case: Case, solution: Solution) -> list[str]:
    """What is wrong with a solution, target by target."""
    found = ((j, _fault(case, solution, j)) for j in range(case.problem.n))
    return [f"target {j} ({solution.status[j]}, gap {solution.gap[j]:.3g}): {fault}" for j, fault in found if fault]


def _fault(case: Case, solution: Solution, j: int) -> str | None:
    expected = _unfitted(case, j)
    if expected is not None and solution.status[j] in expected:
        return None
    if expected is not None and problem.OK not in expected:
        return f"the status must be one of {expected}"
    return _misfit(case, solution, j)


def _unfitted(case: Case, j: int) -> tuple[str, ...] | None:
    """The statuses that a target may have if it cannot be fitted; None if it can. With ok, either is right."""
    _, y = reference.design_of(case.problem, j)
    x_fit, y_fit = reference.design_of(case.problem, j, heldout=False)
    if not np.isfinite(case.problem.outputs[:, j]).all():
        return (problem.NOT_FINITE,)
    if len(y_fit) < 2 or len(y_fit) == len(y):
        return (problem.NO_ROWS,)
    if y.min() == y.max():
        return (problem.CONSTANT,)
    if y_fit.min() == y_fit.max() or (x_fit == x_fit[0]).all():
        return (problem.NO_SIGNAL,)
    # Some solvers standardise by all rows, and some by those to fit.
    top, spreads = reference.lambda_max(x_fit, y_fit), (y.std(), y_fit.std())
    if top < 0.5 * base.ROUNDING * min(spreads):
        return (problem.NO_SIGNAL,)
    return (problem.NO_SIGNAL, problem.OK) if top < 2 * base.ROUNDING * max(spreads) else None


def _misfit(case: Case, solution: Solution, j: int) -> str | None:
    """What is wrong with the weights of a target that can be fitted."""
    settings, gap, lambda_ = case.settings, solution.gap[j], solution.lambda_[j]
    x, y = reference.design_of(case.problem, j)
    weights = solution.dense([j])[0].astype(np.float64)
    ratio = lambda_ / reference.lambda_max(*reference.design_of(case.problem, j, heldout=False)) / path.grid(settings)
    if np.abs(ratio - 1).min() > 1e-3:
        return f"lambda {lambda_:.6g} is not on the path"
    miss = y - x @ weights - solution.intercept[j]
    rounding = 1e-6 * (np.abs(y).max() + np.abs(weights).sum())
    if abs(miss.mean()) > rounding:
        return f"the residuals are {miss.mean():.3g} on average"
    certified = reference.gap(x, y, weights, lambda_)
    if solution.status[j] == problem.NOT_CONVERGED and settings.solver not in ALWAYS_CONVERGES:
        return None if gap > settings.tolerance else "the gap is within the tolerance"
    if solution.status[j] != problem.OK:
        return f"the status must be {problem.OK}; the weights have a gap of {certified:.3g}"
    if not gap <= settings.tolerance:
        return "the gap is above the tolerance"
    if case.problem.own_column[j] in solution.row(j)[0]:
        return "the target's own column has a weight"
    if certified <= settings.tolerance:
        return None
    # Gaps are upper bounds, and this one may be looser than the solver's.
    best = reference.objective(x, y, *reference.lasso(x, y, lambda_, tolerance=settings.tolerance / 10)[:2], lambda_)
    excess = (reference.objective(x, y, weights, solution.intercept[j], lambda_) - best) / (y.var() / 2)
    return None if excess <= settings.tolerance + 1e-7 else f"the objective is {excess:.3g} above the optimum"


def first_fault(seeds: Iterable[int], **settings) -> tuple[int, Case, list[str]] | None:
    """(seed, case, what is wrong) of the first of the seeds whose solution has a fault; None if there is none."""
    for seed in seeds:
        case = made(seed, **settings)
        found = faults(case)
        if found:
            return seed, case, found
    return None


def main(arguments: Sequence[str] | None = None) -> int:
    """Searches as the command line says; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--seconds", type=float, default=60.0, help="length of the search")
    length.add_argument("--problems", type=int, help="number of problems, instead of seconds")
    parser.add_argument("--first", type=int, help="first seed; by default it is random")
    parser.add_argument("--seed", type=int, help="the only seed")
    parser.add_argument("--solver", choices=list(EPOCHS), help="for all problems; by default each seed draws one")
    parser.add_argument("--keep", type=Path, help="file for the case with the fault")
    options = parser.parse_args(arguments)
    done = 0

    def seeds() -> Iterator[int]:
        nonlocal done
        first = secrets.randbits(48) if options.first is None else options.first
        end = time.monotonic() + options.seconds
        for seed in itertools.count(first) if options.seed is None else [options.seed]:
            if done >= options.problems if options.problems else time.monotonic() > end:
                return
            yield seed
            done += 1

    settings = {"solver": options.solver} if options.solver else {}
    try:
        found = first_fault(seeds(), **settings)
    except KeyboardInterrupt:
        print(f"stopped; no fault in {done} problems")
        return 130
    if found is None:
        print(f"no fault in {done} problems")
        return 0
    seed, case, wrong = found
    print(f"seed {seed}: {case.settings.model_dump_json(exclude_defaults=True)}", *wrong, sep="\n  ")
    again = f"--seed {seed}" + (f" --solver {options.solver}" if options.solver else "")
    print(f"To reproduce: python -m tests.fit.search {again}")
    if options.keep:
        case.save(options.keep)
    return 1


if __name__ == "__main__":
    sys.exit(main())
