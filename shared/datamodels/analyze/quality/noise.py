"""Measure how far outputs of models are from the predictions of their datamodels. Intervals are based on this."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from datamodels.aggregate.manifest import Snapshot
from datamodels.analyze.quality import unseen as quality
from datamodels.fit.data import problem
from datamodels.fit.data.problem import Solution
from datamodels.run import designs
from datamodels.run.runs import Run
from datamodels.storage import ObjectStore

MOST = 2000
"""Most models that are read: enough to know a standard deviation within 2%."""


@dataclasses.dataclass(frozen=True, eq=False)
class Noise:
    """Errors of predictions. float64[n] each; NaN for targets with fewer than 3 subsets.

    deviation  root mean square of the output of a model less its prediction
    misfit     the same of the mean of infinitely many models on one subset, as a share of the standard deviation of
               predictions over subsets. A predicted difference is wrong by this share of itself
    """

    deviation: np.ndarray
    misfit: np.ndarray


def measure(run: Run, snapshot: Snapshot, store: ObjectStore, solution: Solution) -> Noise:
    """Measure the noise of a fit from committed outputs.

    Uses models on unseen subsets, or, if there are none, the models that lambda was chosen on. The latter are one per
    subset, so the chance in training counts as misfit; and the final weights were fitted to them, too. Raises
    CorruptObjectError.
    """
    modelled = solution.modelled
    squares, models = np.zeros(run.n), np.zeros(run.n, dtype=np.int64)
    misfit, first, second, subsets = (np.zeros(run.n) for _ in range(4))
    center = None
    for index, outputs in _groups(run, snapshot, store):
        mask = designs.subsets(run.design, index, index + 1)
        counts = quality.counting_subsets(run, mask, modelled)
        counts = np.ones(run.n, dtype=bool) if counts is None else counts[0]
        prediction = solution.predict(designs.unpack(mask, run.design.columns))[0]
        errors = outputs.astype(np.float64) - prediction
        squares += counts * (errors**2).sum(axis=0)
        models += counts * len(errors)
        chance = errors.var(axis=0, ddof=1) / len(errors) if len(errors) > 1 else 0.0
        misfit += counts * (errors.mean(axis=0) ** 2 - chance)
        center = prediction if center is None else center  # the variance is a difference of squares
        first += counts * (prediction - center)
        second += counts * (prediction - center) ** 2
        subsets += counts
    enough = subsets >= 3
    safe = np.maximum(subsets, 1)
    signal = second / safe - (first / safe) ** 2
    ratio = np.divide(misfit / safe, signal, out=np.zeros(run.n), where=signal > 1e-12 * second / safe)
    return Noise(
        deviation=np.where(enough, np.sqrt(squares / np.maximum(models, 1)), np.nan),
        misfit=np.where(enough, np.sqrt(np.maximum(ratio, 0)), np.nan),
    )


def _groups(run: Run, snapshot: Snapshot, store: ObjectStore) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (subset, outputs [r, n] of models trained on it) for the first MOST models that can be used."""
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
        seen += int(np.count_nonzero(rows))
        of = np.array([run.spec.subset_index(int(model)) for model in found.model_index])
        for subset in np.unique(of[rows]).tolist():
            yield subset, found.outputs[rows & (of == subset)]
