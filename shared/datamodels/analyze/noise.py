"""How far models lie from what their datamodel predicts: what intervals are made of."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from datamodels import sample
from datamodels.aggregate.manifest import Snapshot
from datamodels.analyze import quality
from datamodels.fit import problem
from datamodels.fit.problem import Solution
from datamodels.run import Run
from datamodels.storage import ObjectStore

MOST = 2000
"""Models looked at: the error of a standard deviation is 2% then."""


@dataclasses.dataclass(frozen=True, eq=False)
class Noise:
    """float64[n] each; NaN where fewer than 3 subsets tell.

    deviation  root mean square of the output of a model less its prediction
    misfit     what is left of that in the mean of many models on one subset, as a share of the standard deviation of
               predictions over subsets: by so much of itself a foretold difference is wrong
    """

    deviation: np.ndarray
    misfit: np.ndarray


def measure(run: Run, snapshot: Snapshot, store: ObjectStore, solution: Solution) -> Noise:
    """The noise of a fit, from committed outputs.

    Over models on unseen subsets, where there are any; else over those that lambda was chosen on. Of the latter there
    is one a subset, so that what training adds by chance counts as misfit; and the weights have seen them in the end.
    Raises CorruptObjectError.
    """
    modelled = solution.modelled
    squares, models = np.zeros(run.n), np.zeros(run.n, dtype=np.int64)
    misfit, told, told_squares, subsets = (np.zeros(run.n) for _ in range(4))
    for index, outputs in _groups(run, snapshot, store):
        mask = sample.subsets(run.design, index, index + 1)
        counts = quality.countable(run, mask, modelled)
        counts = np.ones(run.n, dtype=bool) if counts is None else counts[0]
        prediction = solution.predict(sample.unpack(mask, run.design.columns))[0].astype(np.float64)
        errors = outputs.astype(np.float64) - prediction
        squares += counts * (errors**2).sum(axis=0)
        models += counts * len(errors)
        chance = errors.var(axis=0, ddof=1) / len(errors) if len(errors) > 1 else 0.0
        misfit += counts * (errors.mean(axis=0) ** 2 - chance)
        told += counts * prediction
        told_squares += counts * prediction**2
        subsets += counts
    enough = subsets >= 3
    safe = np.maximum(subsets, 1)
    signal = told_squares / safe - (told / safe) ** 2
    ratio = np.divide(misfit / safe, signal, out=np.zeros(run.n), where=signal > 1e-12)
    return Noise(
        deviation=np.where(enough, np.sqrt(squares / np.maximum(models, 1)), np.nan),
        misfit=np.where(enough, np.sqrt(np.maximum(ratio, 0)), np.nan),
    )


def _groups(run: Run, snapshot: Snapshot, store: ObjectStore) -> Iterator[tuple[int, np.ndarray]]:
    """(subset, float16[r, n] outputs of models trained on it), for the first MOST models that tell."""
    m, seen = run.spec.m, 0
    unseen = any(part.last > m for part in snapshot.parts)
    for part in snapshot.parts:
        index = np.arange(part.first, part.last)
        chosen = index[index >= m if unseen else problem.is_heldout(index, run.spec.fit.holdout)]
        if seen >= MOST:
            return
        if not len(chosen):
            continue
        found = part.read(store, run.name)
        rows = np.isin(found.model_index, chosen)
        seen += np.count_nonzero(rows)
        of = np.array([run.spec.subset_index(int(model)) for model in found.model_index])
        for subset in np.unique(of[rows]).tolist():
            yield subset, found.outputs[rows & (of == subset)]
