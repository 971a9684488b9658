"""Time LASSO paths of targets that are training examples: ours compared with one subproblem per target, in one run.

    python benchmarks/fit/leave_out.py [--size D,M,N ...] [--targets 3]

Only rows without a target count for it, so targets share no Gram matrix. Ours is the whole fit: the path as far as
`patience` requires, the choice of lambda, the last fit and its certificate. The others compute only the path, for the
same lambdas and for some of the targets. They get the rows that count as float32, and their Gram matrix from our
popcount or from BLAS; the last one is called as people call it. They stop at scikit-learn's tolerance 1e-2. Figures are
CPU seconds of one thread per target.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
import warnings

import numpy as np
import threadpoolctl
from peers import make_problem
from solvers import seconds

from datamodels.fit.data.problem import Problem
from datamodels.fit.data.rows import Rows
from datamodels.fit.kernels import popcount
from datamodels.fit.lasso import leave_out, path
from datamodels.run import designs
from datamodels.run.specs import FitSpec

TOLERANCE = 1e-2


def subproblem(problem: Problem, j: int, lambdas: int) -> dict[str, float]:
    """Return CPU seconds of each part and way, for one target."""
    from scipy.linalg.blas import ssyrk
    from sklearn.linear_model import lasso_path

    x = designs.unpack(problem.masks, problem.columns)
    keep = ~problem.heldout & ~x[:, problem.own_column[j]]
    masks, used = problem.masks[keep], x[keep].astype(np.float32)
    y = problem.outputs[keep, j].astype(np.float32)
    y = (y - y.mean()) / y.std()
    centred = np.asfortranarray(used - used.mean(axis=0))
    counts = popcount.gram(masks, problem.columns)
    mean = np.diag(counts) / len(used)
    gram = (counts - len(used) * np.outer(mean, mean)).astype(np.float32)
    products = centred.T @ y
    grid = np.abs(products).max() / len(y) * path.grid(FitSpec(estimator="lasso"))[:lambdas]
    shared = {"precompute": gram, "Xy": products, "check_input": False, "max_iter": 10_000}
    plain = (used.astype(np.float64), y.astype(np.float64))
    return {
        "popcount": seconds(lambda: popcount.gram(masks, problem.columns)),
        "ssyrk": seconds(lambda: ssyrk(1.0, centred, trans=1)),
        "path": seconds(lambda: lasso_path(centred, y, alphas=grid, tol=TOLERANCE, **shared)),
        "as called": seconds(lambda: lasso_path(*plain, alphas=grid, tol=TOLERANCE)),
    }


def table(size: str, some: int) -> None:
    d, m, n = (int(part) for part in size.split(","))
    problem = dataclasses.replace(make_problem(d, m, n), own_column=np.linspace(0, d - 1, n).astype(np.int32))
    rows, settings = Rows(problem), FitSpec(estimator="lasso")
    outputs, keep = rows.outputs(0, n), rows.keep(0, n)
    start = time.process_time()
    found = leave_out.fitted(rows, settings, outputs, keep)
    ours = (time.process_time() - start) / n
    walked = round(float(found.lambdas.mean()))
    print(f"\nd = {d}, m = {m}, n = {n}: paths of {found.lambdas.mean():.1f} lambdas")
    passes, final = found.passes.sum() / found.lambdas.sum(), (found.weights != 0).sum(axis=1).mean()
    print(
        f"  passes per lambda {passes:.2f}; columns admitted {found.admitted.mean():.0f}, weights at last {final:.0f}"
    )
    parts = [subproblem(problem, int(j), walked) for j in np.linspace(0, n - 1, some)]
    mean = {name: float(np.mean([part[name] for part in parts])) for name in parts[0]}
    lines = {
        "ours, whole fit": ours,
        "scikit-learn, Gram by our popcount": mean["popcount"] + mean["path"],
        "scikit-learn, Gram by ssyrk": mean["ssyrk"] + mean["path"],
        "scikit-learn, as people call it": mean["as called"],
    }
    for name, taken in lines.items():
        print(f"  {name:36} {1e3 * taken:9.1f} ms a target {taken / ours:7.1f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", action="append", help="d,m,n; may be given again and again")
    parser.add_argument("--targets", type=int, default=3, help="targets that the others are timed on")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # peers say when they have not converged
    with threadpoolctl.threadpool_limits(1):
        small = dataclasses.replace(make_problem(40, 300, 4), own_column=np.arange(4, dtype=np.int32))
        rows = Rows(small)
        leave_out.fitted(rows, FitSpec(estimator="lasso"), rows.outputs(0, 4), rows.keep(0, 4))  # compiles
        popcount.gram(small.masks, small.columns)
        for size in arguments.size or ["500,3000,100", "2000,12000,200", "5000,30000,100"]:
            table(size, arguments.targets)


if __name__ == "__main__":
    main()
