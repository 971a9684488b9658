"""Compare stored weights of the estimator `prior` with a recipe from which readers make the prior means again.

    python benchmarks/fit/recipe.py [--size D,N ...]

A recipe holds the prepared inputs and the small models of the features (`fit.pairs`), and the factors of the features.
With `prior + ridge`, a row also takes m numbers for each target and a product with the masks; that is left out here, in
favour of the recipe. The weights are a random combination of the features, and of what a fit might have measured, with
heavy tails. Stored weights are those that `residual.kept` keeps, with how much of each was measured. Seconds are CPU
time on one thread: for each target, of TARGETS targets that are made or read together, of one alone, and of all.
"""

from __future__ import annotations

import argparse
import dataclasses
import time

import numpy as np
import threadpoolctl

from datamodels.fit.data import problem
from datamodels.fit.job import fits
from datamodels.fit.pairs import pairs
from datamodels.fit.pairs.pairs import Pairs
from datamodels.fit.residual import kept

SIZES = ["1400,400", "10000,1000", "50000,10000"]
TARGETS = 32


def size_of(value: object) -> int:
    """Return the bytes of the arrays in nested values."""
    if isinstance(value, np.ndarray):
        return value.nbytes
    if isinstance(value, list | tuple):
        return sum(map(size_of, value))
    if dataclasses.is_dataclass(value):
        return sum(size_of(getattr(value, field.name)) for field in dataclasses.fields(value))
    return 0


def recipe_bytes(known: Pairs) -> int:
    """Return the bytes of the models and inputs behind the features of logistic regressions and similarities."""
    total = 0
    for block in known.blocks:
        models, *given = block.args
        total += size_of(models() if callable(models) else models) + size_of(given)
    return total


def made_again(known: Pairs, beta: np.ndarray, targets: np.ndarray) -> np.ndarray:
    return np.tensordot(beta, known.of(targets), 1)


def seconds(work) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def row(d: int, n: int) -> str:
    rng, known, targets = np.random.default_rng(0), pairs.made_up(n, d), np.arange(TARGETS)
    beta = rng.normal(size=len(known.names)).astype(np.float32)
    prior = made_again(known, beta, targets)  # fits the models
    spread = np.sqrt((prior**2).mean(axis=1, keepdims=True))
    measured = (0.3 * spread * rng.standard_t(3, size=prior.shape)).astype(np.float32)
    variance, nothing = np.full((1, d), 0.25), np.zeros(TARGETS)
    weights = kept.largest(prior + measured, variance, known.classes)
    others = {"status": ["ok"] * TARGETS, "lambda_": nothing, "gap": nothing, "heldout_r2": nothing}
    written = fits._encode(problem.of_dense(weights, intercept=nothing, measured=measured, **others), 0)
    fits._decode(written, "", range(TARGETS), d)  # imports
    read = seconds(lambda: fits._decode(written, "", range(TARGETS), d)) / TARGETS
    again = seconds(lambda: made_again(known, beta, targets)) / TARGETS
    alone = seconds(lambda: made_again(known, beta, targets[:1]))
    stored, recipe = len(written) / TARGETS * n, recipe_bytes(known)
    return (
        f"| {d:,} | {n:,} | {stored / 1e6:,.0f} | {recipe / 1e6:,.0f} | {read * 1e3:.2f} | {again * 1e3:.1f} | "
        f"{alone * 1e3:.0f} | {read * n:,.2f} | {again * n:,.1f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", action="append", help="d,n; may be given again and again")
    options = parser.parse_args()
    heads = ["columns", "targets", "stored, MB", "recipe, MB", "read, ms", "made again, ms", "one alone, ms"]
    heads += ["all read, s", "all made, s"]
    print(f"| {' | '.join(heads)} |\n{'|---' * len(heads)}|")
    with threadpoolctl.threadpool_limits(1):
        for size in options.size or SIZES:
            print(row(*map(int, size.split(","))), flush=True)


if __name__ == "__main__":
    main()
