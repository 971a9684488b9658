"""Compare predictions for the whole pool, and their intervals, with models that are trained on it.

python -m benchmarks.analyses.whole_pool STORE RUN [MODELS]
"""

import sys

import numpy as np

from datamodels.aggregate import manifest
from datamodels.analyze.quality import noise
from datamodels.analyze.what_if import pool
from datamodels.analyze.what_if.counterfactual import before_interval
from datamodels.analyze.what_if.retrain import Retrainer
from datamodels.api import open_store
from datamodels.fit.job import fits
from datamodels.fit.job.finished import require_fit
from datamodels.run import runs
from datamodels.run.dataset import NOT_IN_POOL


def main(url: str, name: str, models: int = 20) -> None:
    store = open_store(url)
    run = runs.read(store, name)
    record = require_fit(store, name)
    solution = fits.load(store, record)
    known = noise.measure(run, manifest.read(store, name, record.manifest_version), store, solution)
    targets = np.flatnonzero((run.own == NOT_IN_POOL) & solution.modelled)
    whole = pool.whole(run)
    true = np.nanmean(Retrainer(run, runs.load_dataset(run.spec), models).outputs([whole])[0], axis=0)[targets]
    predicted = solution.predict(whole[None])[0][targets]
    low, high = np.array([before_interval(run, solution, known, int(j)) for j in targets]).T
    print(f"{name}: {len(targets)} targets, {models} models of the whole pool")
    print(f"predicted {predicted.mean():.4g}, true {true.mean():.4g}; too high for {(predicted > true).mean():.1%}")
    print(f"interval covers {((low <= true) & (true <= high)).mean():.1%}; median width {np.median(high - low):.4g}")


if __name__ == "__main__":
    main(*sys.argv[1:3], *map(int, sys.argv[3:]))
