"""Check what two models on each unseen subset say of the LDS that twenty give: bias, spread, and coverage of intervals.

    python benchmarks/analyses/few_models.py [--home FOLDER] [--trials 100]

Trains 20 models of the digits on each of 1,000 unseen subsets, and fits the first 250, 1,000 and 3,000 models. Each
trial draws some of the subsets and some of the models of each. The truth is the mean LDS of as many
subsets with all 20 models.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import numpy as np
import threadpoolctl

from datamodels.aggregate import manifest
from datamodels.analyze.quality.evaluate import evaluate
from datamodels.analyze.quality.unseen import Unseen
from datamodels.fit.data import problem, shards
from datamodels.fit.solve import fit
from datamodels.run import specs
from datamodels.runners import pipeline
from datamodels.runners.local import LocalRunner
from datamodels.runners.view import View
from datamodels.settings import StoreSettings
from datamodels.storage import open_store

FITS = (250, 1000, 3000)
SUBSETS, MANY = 1000, 20
DRAWS = ((100, 2), (100, 4), (50, 4), (100, 20))
"""Numbers of subsets and of models on each, of a trial."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, default=Path(".datamodels"))
    parser.add_argument("--trials", type=int, default=100)
    options = parser.parse_args()
    settings = dataclasses.replace(StoreSettings(), url=f"file://{options.home.absolute() / 'store'}")
    store = open_store(settings, create=True)
    changes = {"name": "evaluated", "m": max(FITS), "evaluate": {"subsets": SUBSETS, "models": MANY}}
    changes["fit"] = {"estimator": "lasso"}
    spec = specs.parse(specs.load("digits").document() | changes)
    runner = LocalRunner(options.home, store=settings, trainers=2)
    run = pipeline.run(spec, runner=runner, store=store, view=View(), until="aggregate").run
    snapshot = manifest.read_newest(store, run.name)
    unseen = Unseen.read(run, snapshot, store)
    rows = shards.materialise(store, run, snapshot, options.home / "bench" / run.name)
    order, rng = rows.model_index.argsort(), np.random.default_rng(0)
    print("| models | evaluated on | truth | mean | standard deviation | intervals that cover | their width |")
    print("|---|---|---|---|---|---|---|")
    with threadpoolctl.threadpool_limits(1):
        for m in FITS:
            first = order[:m]
            data = problem.of_run(run, rows.masks[first], rows.outputs[first], rows.model_index[first])
            predicted = fit(data, spec.fit, spec.seed, threads=1).predict(unseen.members)
            for subsets, models in DRAWS:
                measure(m, predicted, unseen.outputs, subsets, models, options.trials, rng)


def measure(
    m: int,
    predicted: np.ndarray,
    outputs: np.ndarray,
    subsets: int,
    models: int,
    trials: int,
    rng: np.random.Generator,
) -> None:
    """Print the row of a number of subsets and of models; arrays are float[SUBSETS, n] and float[SUBSETS, MANY, n]."""
    truth, found = [], []
    for trial in range(trials):
        rows = rng.choice(len(outputs), subsets, replace=False)
        chosen = rng.permuted(np.tile(np.arange(MANY), (subsets, 1)), axis=1)[:, :models]
        truth.append(evaluate(predicted[rows], outputs[rows], resamples=1).lds)
        found.append(evaluate(predicted[rows], outputs[rows[:, None], chosen], seed=trial, resamples=200))
    true, values = np.mean(truth), np.array([each.lds for each in found])
    covered = np.mean([each.interval[0] <= true <= each.interval[1] for each in found])
    width = np.mean([each.interval[1] - each.interval[0] for each in found])
    print(
        f"| {m:,} | {subsets} x {models} | {true:.4f} | {values.mean():.4f} | {values.std(ddof=1):.4f} | {covered:.0%} "
        f"| {width:.4f} |",
        flush=True,
    )


if __name__ == "__main__":
    main()
