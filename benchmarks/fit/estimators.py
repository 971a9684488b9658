"""Compare the LDS of the estimators by number of models, on real models.

    python benchmarks/fit/estimators.py [--spec digits] [--home FOLDER] [--models 500,2000,10000]

Trains the models of the spec if the folder does not have them. Then fits each estimator to the first models, for each
of the numbers given, and evaluates its predictions of the unseen subsets, with a 95% interval (see `quality.evaluate`).
R^2 is the median over targets of the held-out R^2. Seconds are CPU seconds of the fit on one thread.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import threadpoolctl

from datamodels.aggregate import manifest
from datamodels.analyze.quality.unseen import Unseen
from datamodels.fit.data import prior, problem, shards
from datamodels.fit.data.problem import Problem
from datamodels.fit.solve import fit
from datamodels.run import runs, specs
from datamodels.run.runs import Run
from datamodels.runners import pipeline
from datamodels.runners.local import LocalRunner
from datamodels.runners.view import TerminalView
from datamodels.settings import StoreSettings
from datamodels.storage import ObjectStore, open_store

CONTESTANTS = {
    "lasso": {"solver": "gram"},
    "weighted": {"estimator": "weighted"},
    "ridge": {"estimator": "ridge"},
    "difference": {"estimator": "difference"},
    "influence": {"estimator": "influence"},
}


def train(spec: str, home: Path, trainers: int) -> tuple[Run, ObjectStore]:
    settings = dataclasses.replace(StoreSettings(), url=f"file://{home.absolute() / 'store'}")
    store = open_store(settings)
    runner = LocalRunner(home, store=settings, trainers=trainers)
    result = pipeline.run(specs.load(spec), runner=runner, store=store, view=TerminalView(), until="aggregate")
    return result.run, store


def problems(run: Run, store: ObjectStore, home: Path, sizes: list[int]) -> Iterator[Problem]:
    """Yield the problem of the first models, for each of the sizes."""
    found = shards.materialise(store, run, manifest.read_newest(store, run.name), home / "bench" / run.name)
    known, order = prior.of_run(run, runs.load_dataset(run.spec)), np.argsort(found.model_index)
    for m in sizes:
        rows = order[:m]
        data = problem.of_run(run, found.masks[rows], found.outputs[rows], found.model_index[rows])
        yield dataclasses.replace(data, prior=known)


def table(parts: Iterable[Problem], run: Run, unseen: Unseen) -> None:
    print(f"{'models':>8}  {'estimator':<12}{'LDS':>7}  {'95% interval':<16}{'R2':>8}{'weights':>9}{'CPU s':>8}")
    for part in parts:
        for name, changes in CONTESTANTS.items():
            started = time.process_time()
            solution = fit(part, run.spec.fit.model_copy(update=changes), run.spec.seed, threads=1)
            seconds = time.process_time() - started
            found = unseen.predicted_by(solution).evaluate()
            low, high = found.interval
            print(
                f"{part.rows:>8,}  {name:<12}{found.lds:>7.3f}  {f'{low:.3f} to {high:.3f}':<16}"
                f"{np.nanmedian(solution.heldout_r2):>8.3f}{len(solution.weights) / solution.n:>9.0f}{seconds:>8.1f}",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spec", default="digits")
    parser.add_argument("--home", type=Path, default=Path(".datamodels"))
    parser.add_argument("--models", default="500,2000,10000")
    parser.add_argument("--trainers", type=int, default=2)
    options = parser.parse_args()
    run, store = train(options.spec, options.home, options.trainers)
    with threadpoolctl.threadpool_limits(1):
        unseen = Unseen.read(run, manifest.read_newest(store, run.name), store)
        sizes = [int(m) for m in options.models.split(",")]
        table(problems(run, store, options.home, sizes), run, unseen)


if __name__ == "__main__":
    main()
