"""Measure the learning curve of a run: LDS by number of models, on nested prefixes. `trend` extrapolates it."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from datamodels.aggregate import manifest
from datamodels.aggregate.manifest import Snapshot
from datamodels.analyze.quality.trend import Point, recorded
from datamodels.analyze.quality.unseen import Unseen
from datamodels.errors import NotReadyError, ObjectNotFoundError, SupersededError
from datamodels.fit.data import problem, shards
from datamodels.fit.data.problem import Solution
from datamodels.fit.data.shards import Shards
from datamodels.fit.data.sums import Sums
from datamodels.fit.estimators.base import folds_of_sums, prior_of, uses_sums
from datamodels.fit.job import fits, gradients
from datamodels.fit.job.finished import FitRecord, require_fit
from datamodels.fit.pairs.pairs import with_gradients
from datamodels.fit.solve import fit
from datamodels.run.runs import Run
from datamodels.storage import ObjectStore, keys, records

DOUBLINGS = 5
"""There are at least so many points before the last."""
FEWEST = 50
"""Models of the first point, or up to twice as many, if more than DOUBLINGS points are beyond it."""


def sizes(rows: int) -> list[int]:
    """Return the numbers of models of the points: ..., rows / 4, rows / 2, rows."""
    doublings = max(DOUBLINGS, (rows // FEWEST).bit_length() - 1)
    return sorted({rows >> i for i in range(doublings + 1)} - {0})


def of_newest_fit(store: ObjectStore, run: Run, *, threads: int = 0) -> list[Point]:
    """Return the learning curve up to the newest fit of a run. It is measured once, then read from the store.

    Raises NotReadyError if the run has no fit or no unseen subsets, CorruptObjectError, StoreFullError.
    """
    record = require_fit(store, run.name)
    measured = recorded(store, run.name, record.number)
    if measured is not None:
        return measured
    snapshot, run = _fitted(store, run, record), record.of(run)
    unseen = Unseen.read(run, snapshot, store)
    with tempfile.TemporaryDirectory(prefix="datamodels-curve-") as folder:
        rows = shards.materialise(store, run, snapshot, Path(folder) / "shards")
        known = prior_of(run, store)
        used = gradients.used_by(store, run, record)
        if used is not None:
            known = with_gradients(known, run, gradients.materialise(store, used, Path(folder) / "gradients"))
        points = measure(run, rows, unseen, whole=fits.load(store, record), prior=known, threads=threads)
    records.create(store, keys.curve(run.name, record.number), [point.document() for point in points])
    return points


def _fitted(store: ObjectStore, run: Run, record: FitRecord) -> Snapshot:
    """Return the snapshot whose models a fit used; the newest if its own was pruned and no model was added since."""
    try:
        return manifest.read(store, run.name, record.manifest_version)
    except (ObjectNotFoundError, SupersededError):
        newest = manifest.read_newest(store, run.name)
    if newest.rows_below(run.spec.m) != record.rows:
        raise NotReadyError(
            f"run {run.name}: has {newest.rows_below(run.spec.m):,} models by now, and the manifest of fit "
            f"{record.number} with its {record.rows:,} was pruned; fit the run again"
        )
    return newest


def measure(
    run: Run, rows: Shards, unseen: Unseen, *, whole: Solution, prior: Any = None, threads: int = 0
) -> list[Point]:
    """Measure the points of nested prefixes, by model index, of all rows. Leaves out sizes that are too small to fit.

    unseen  the subsets to evaluate on
    whole   the fit of all rows
    prior   what its fit knew beforehand: as `prior_of` returns it, with gradients if it used some
    """

    def point(models: int, solution: Solution) -> Point:
        return Point.of(models, unseen.predicted_by(solution).evaluate())

    order = np.argsort(rows.model_index)
    settings, sums, points, added = run.spec.fit, None, [], 0
    for models in sizes(len(order))[:-1]:
        places = order[:models]
        data = problem.of_run(run, rows.masks[places], rows.outputs[places], rows.model_index[places])
        data = dataclasses.replace(data, prior=prior)
        if np.count_nonzero(data.heldout) < 2:
            continue
        if uses_sums(data, settings):
            sums = sums or Sums.empty(data.columns, data.n, folds_of_sums(settings))
            new = slice(added, models)
            fold = problem.fold_of(data.pairs[new])
            sums.add(data.masks[new], data.outputs[new], data.heldout[new], fold=fold, threads=threads or 1)
            added = models
        found = fit(data, settings, run.spec.seed, threads=threads, sums=sums)
        points.append(point(models, found))
    return [*points, point(len(order), whole)]
