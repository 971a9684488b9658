"""Compute the baseline `feldman_zhang`: influence as Feldman and Zhang (2020, arXiv:2008.03703, equation 2) define it.

It is the share of right models among those trained with an example, less the share among those trained without it; if
lower outputs are better, the same of wrong models. The estimator `influence` computes it (`fit.estimators.difference`),
here from the outputs of the run's own models.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from pathlib import Path

import numpy as np

from datamodels.aggregate import manifest
from datamodels.fit.data import problem, shards
from datamodels.fit.solve import fit
from datamodels.outputs import Output
from datamodels.run.estimators import ESTIMATORS
from datamodels.run.runs import Run
from datamodels.storage import ObjectStore

ESTIMATOR = next(name for name, known in ESTIMATORS.items() if known.shares)
"""Name of the estimator that computes it. The baseline `influence` is another method: influence functions."""


@dataclasses.dataclass(frozen=True, eq=False)
class Shares:
    """Shares of models that are right, with and without each column.

    attribution  float32[n, d]: share of models above the output's threshold with a column, less the share without it
    right        float64[n]: share of all models that are right; if it is 0 or 1, the attribution is 0
    models       number of models
    seconds      time of the computation
    """

    attribution: np.ndarray
    right: np.ndarray
    models: int
    seconds: float

    def doubt(self, output: Output) -> str:
        """Say why the attribution is 0 for all targets and columns; empty if it is not."""
        if self.attribution.any():
            return ""
        threshold = output.judged().threshold
        if (self.right == 1).all():
            why = f"no model has an output {output.worse} the threshold {threshold:g}"
        else:
            why = f"no target is right in some models and wrong in others, at the threshold {threshold:g}"
        return f"its scores are all 0, because {why}; --threshold gives another one"


def attribution(shares: Shares) -> np.ndarray:
    """Return float32[n, d]: the scores."""
    return shares.attribution


def of_run(run: Run, store: ObjectStore) -> Shares:
    """Compute the shares from all committed models that a fit may use.

    Raises NotReadyError if there are none, InputError if the output has no threshold, CorruptObjectError.
    """
    started, output = time.perf_counter(), run.output.judged()
    with tempfile.TemporaryDirectory(prefix="datamodels-baselines-") as folder:
        snapshot = manifest.read_newest(store, run.name)
        rows = shards.materialise(store, run, snapshot, Path(folder) / "shards")
        data = problem.of_run(run, rows.masks, rows.outputs, rows.model_index)
        settings = run.spec.fit.model_copy(update={"estimator": ESTIMATOR})
        found = fit(data, settings, run.spec.seed)
        right = output.right(rows.outputs).mean(axis=0, dtype=np.float64)
        return Shares(found.dense(range(run.n)), right, len(rows.model_index), time.perf_counter() - started)
