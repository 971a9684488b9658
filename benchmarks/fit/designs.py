"""Compare the designs `uniform` and `hadamard`: the LDS of as many models of the digits, on the same unseen subsets.

python benchmarks/fit/designs.py [--home FOLDER] [--models 250,500,1000,1399,2798]
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import threadpoolctl

from datamodels.aggregate import manifest
from datamodels.analyze.quality.unseen import Unseen
from datamodels.fit.data import problem, shards
from datamodels.fit.solve import fit
from datamodels.run import specs
from datamodels.runners import pipeline
from datamodels.runners.local import LocalRunner
from datamodels.runners.view import TerminalView
from datamodels.settings import StoreSettings
from datamodels.storage import open_store

KINDS = ("uniform", "hadamard")
ESTIMATORS = ("lasso", "ridge")


def measure(kind: str, home: Path, sizes: list[int]) -> dict[tuple[int, str], float]:
    """Train the models of a design, and return the LDS by number of models and estimator."""
    settings = dataclasses.replace(StoreSettings(), url=f"file://{home.absolute() / 'store'}")
    store, base = open_store(settings), specs.load("digits")
    spec = specs.parse(base.document() | {"m": max(sizes), "design": {"kind": kind}})
    runner = LocalRunner(home, store=settings, trainers=2)
    run = pipeline.run(spec, runner=runner, store=store, view=TerminalView(), until="aggregate").run
    snapshot = manifest.read_newest(store, run.name)
    unseen = Unseen.read(run, snapshot, store)
    rows = shards.materialise(store, run, snapshot, home / "bench" / run.name)
    order, found = rows.model_index.argsort(), {}
    for m in sizes:
        first = order[:m]
        data = problem.of_run(run, rows.masks[first], rows.outputs[first], rows.model_index[first])
        for estimator in ESTIMATORS:
            solution = fit(data, run.spec.fit.model_copy(update={"estimator": estimator}), spec.seed, threads=1)
            found[m, estimator] = unseen.predicted_by(solution).evaluate().lds
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, default=Path(".datamodels"))
    parser.add_argument("--models", default="250,500,1000,1399,2798")
    options = parser.parse_args()
    sizes = [int(m) for m in options.models.split(",")]
    with threadpoolctl.threadpool_limits(1):
        found = {kind: measure(kind, options.home, sizes) for kind in KINDS}
    columns = [(estimator, kind) for estimator in ESTIMATORS for kind in KINDS]
    print("| models | " + " | ".join(f"`{estimator}`, {kind}" for estimator, kind in columns) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for m in sizes:
        print(f"| {m:,} | " + " | ".join(f"{found[kind][m, estimator]:.3f}" for estimator, kind in columns) + " |")


if __name__ == "__main__":
    main()
