"""The learning curve of a run: LDS by number of models, measured on nested prefixes. `trend` extrapolates it."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from datamodels import keys, records, shards
from datamodels import run as runs
from datamodels.aggregate import manifest
from datamodels.analyze import evaluate
from datamodels.analyze.evaluate import Evaluation
from datamodels.analyze.trend import Point, from_document
from datamodels.errors import NotReadyError, ObjectNotFoundError
from datamodels.fit import gram, prior, problem
from datamodels.fit import store as fits
from datamodels.fit.fit import fit
from datamodels.fit.problem import Solution
from datamodels.fit.sums import Sums
from datamodels.run import Run
from datamodels.shards import Shards
from datamodels.storage import ObjectStore

DOUBLINGS = 5
"""The first point is of m / 2^5 models."""


def sizes(rows: int) -> list[int]:
    """Numbers of models of the points: rows / 32, rows / 16, ..., rows."""
    return sorted({rows >> i for i in range(DOUBLINGS + 1)} - {0})


def of_newest_fit(store: ObjectStore, run: Run, *, threads: int = 0) -> list[Point]:
    """The learning curve up to the newest fit of a run; measured once, then read from the store.

    Raises NotReadyError where the run has no fit or no unseen subsets, CorruptObjectError, StoreFullError.
    """
    record = fits.read_newest_fit(store, run.name)
    if record is None:
        raise NotReadyError(f"run {run.name}: has no fit yet; `datamodels fit` makes one")
    key = keys.curve(run.name, record.number)
    try:
        return from_document(records.read(store, key))
    except ObjectNotFoundError:
        snapshot, run = manifest.read(store, run.name, record.manifest_version), record.of(run)
    score = evaluate.scorer(run, snapshot, store)
    with tempfile.TemporaryDirectory(prefix="datamodels-curve-") as folder:
        rows = shards.materialise(store, run, snapshot, Path(folder) / "shards")
        points = measure(run, rows, score, whole=fits.load(store, record), threads=threads)
    records.create(store, key, [point.document() for point in points])
    return points


def measure(
    run: Run, rows: Shards, score: Callable[[Solution], Evaluation], *, whole: Solution, threads: int = 0
) -> list[Point]:
    """The points of nested prefixes, by model index, of the rows that there are. Sizes too small to fit are left out.

    score  evaluates a fit; see `evaluate.scorer`
    whole  the fit of all rows
    """
    order = np.argsort(rows.model_index)
    known = prior.of_run(run, runs.load_dataset(run.spec)) if run.spec.fit.estimator == "weighted" else None
    settings, sums, points, added = run.spec.fit, None, [], 0
    for models in sizes(len(order))[:-1]:
        places = order[:models]
        given = problem.of_run(run, rows.masks[places], rows.outputs[places], rows.model_index[places])
        given = dataclasses.replace(given, prior=known)
        if np.count_nonzero(given.heldout) < 2:
            continue
        if gram.from_sums(given, settings):
            sums = sums or Sums.empty(given.columns, given.n)
            new = slice(added, models)
            sums.add(given.masks[new], given.outputs[new], given.heldout[new], threads=threads or 1)
            added = models
        found = fit(given, settings, run.spec.seed, threads=threads, sums=sums)
        points.append(Point.of(models, score(found)))
    return [*points, Point.of(len(order), score(whole))]
