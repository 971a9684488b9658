"""Find conflicts: groups of training examples that harm groups of targets.

The effect of a group of columns on a target is the sum of the target's weights on them. According to the datamodel, the
output falls by this amount if the group is removed. A conflict is a pair of groups whose mean effect over the targets
worsens the output: its interval is below 0, or, if lower outputs are better, above 0. If neither is better, conflicts
are pairs whose effect lowers the output. The intervals hold for all pairs at once. With 95% intervals for single pairs,
five of a hundred pairs would look like conflicts by chance.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy import sparse

from datamodels.analyze.patterns.clusters import clusters
from datamodels.analyze.patterns.names import GROUPS
from datamodels.analyze.patterns.results import Conflicts
from datamodels.analyze.quality.interval import LEVEL, RESAMPLES
from datamodels.analyze.quality.progress import Report
from datamodels.analyze.what_if import pool
from datamodels.errors import InputError
from datamodels.fit.data.problem import Solution
from datamodels.run.runs import Run

MOST = 1000
"""Most groups of each kind."""
FEWEST = 5
"""Fewest targets of a group: with fewer, the intervals of a bootstrap are too narrow."""


def of_fit(
    run: Run,
    solution: Solution,
    *,
    groups: str = "classes",
    k: int = 0,
    progress: Report = lambda fraction: None,
) -> Conflicts:
    """Find conflicts between the classes of a run, named by their labels, or between clusters of columns and targets.

    groups  one of GROUPS
    k       number of clusters of each kind, as for `clusters`; 0 for classes

    Raises InputError for anything else, and if the run has no classes.
    """
    if groups not in GROUPS:
        raise InputError(f"groups = {groups!r}: must be {' or '.join(GROUPS)}")
    seed, fitted = run.spec.seed, solution.modelled
    if groups == "clusters":
        theta, names = solution.theta, None
        sources = clusters(theta.T, k=k, seed=seed, progress=lambda fraction: progress(0.4 * fraction)).cluster
        targets = clusters(theta, k=k, seed=seed, progress=lambda fraction: progress(0.4 * (1 + fraction))).cluster
    else:
        labels = pool.column_labels(run)
        if labels is None or run.target_labels is None:
            raise InputError(f"run {run.name}: columns or targets have no classes; take groups = 'clusters'")
        if k:
            raise InputError(f"k = {k}: takes groups = 'clusters'; the number of classes cannot be chosen")
        names, both = np.unique(np.concatenate([labels, run.target_labels]), return_inverse=True)
        sources, targets = both[: len(labels)], both[len(labels) :]
    sign = run.predicted.sign
    found = conflicts(
        sign * solution.theta,
        sources,
        np.where(fitted, targets, -1),
        same=names is not None,
        seed=seed,
        progress=lambda fraction: progress(0.8 + 0.2 * fraction),
    )
    if sign < 0:
        found = dataclasses.replace(found, effect=-found.effect, interval=-found.interval[:, ::-1])
    if names is None:
        return found
    named = {name: names[getattr(found, name)].astype(np.int32) for name in ("source", "target")}
    return dataclasses.replace(found, **named)


def conflicts(
    theta: sparse.csr_array,
    sources: np.ndarray,
    targets: np.ndarray,
    *,
    same: bool,
    seed: int = 0,
    resamples: int = RESAMPLES,
    progress: Report = lambda fraction: None,
) -> Conflicts:
    """Find conflicts in weights float[n, d], of which positive ones help.

    sources   int[d]; group of each column, below 0 for none
    targets   int[n]; group of each target, below 0 for none, e.g. for a target without weights
    same      whether both kinds of groups have the same numbers, as classes have; then a group has no conflict with
              itself
    progress  called after resamples with the fraction that is done; an exception in it stops the work

    Leaves out groups of fewer than FEWEST targets. Raises InputError if no pair is left, or for more than MOST groups.
    """
    a, b = int(sources.max(initial=-1)) + 1, int(targets.max(initial=-1)) + 1
    if max(a, b) > MOST:
        raise InputError(f"{max(a, b)} groups: must be at most {MOST}")
    effects = _summed(theta, sources, a)
    count = np.bincount(targets[targets >= 0], minlength=b)
    usable = np.tile(count >= FEWEST, (a, 1)) & (np.bincount(sources[sources >= 0], minlength=a) > 0)[:, None]
    if same:
        usable &= np.arange(a)[:, None] != np.arange(b)
    if not usable.any():
        raise InputError(f"no two groups to compare: conflicts need a group of columns and one of {FEWEST} targets")

    rows = [np.flatnonzero(targets == g) for g in range(b)]
    mean, error = np.zeros((2, a, b))
    harmed = np.zeros((a, b))
    for g, own in enumerate(rows):
        if len(own) >= FEWEST:
            mean[:, g], harmed[:, g] = effects[own].mean(axis=0), (effects[own] < 0).mean(axis=0)
            error[:, g] = effects[own].std(axis=0, ddof=1) / np.sqrt(len(own))
    width = _width(effects, rows, mean, np.where(usable, error, 0), seed, resamples, progress)
    low, high = mean - width * error, mean + width * error
    found = usable & (mean < 0)
    source, target = np.nonzero(found)
    order = np.lexsort((mean[found], high[found]))
    source, target = source[order], target[order]
    return Conflicts(
        source=source.astype(np.int32),
        target=target.astype(np.int32),
        effect=mean[source, target],
        interval=np.stack([low[source, target], high[source, target]], axis=1),
        harmed=harmed[source, target],
        sure=(high[source, target] < 0).astype(np.int32),
        pairs=int(np.count_nonzero(usable)),
    )


def _summed(theta: sparse.csr_array, sources: np.ndarray, groups: int) -> np.ndarray:
    """Return float64[n, groups]: sums of weights over the columns of each group."""
    columns = np.flatnonzero(sources >= 0)
    members = sparse.csr_array((np.ones(len(columns)), (columns, sources[columns])), shape=(theta.shape[1], groups))
    return (theta.astype(np.float64) @ members).toarray()


def _width(
    effects: np.ndarray,
    rows: list[np.ndarray],
    mean: np.ndarray,
    error: np.ndarray,
    seed: int,
    resamples: int,
    progress: Report,
) -> float:
    """Return the half width of intervals that hold for all pairs at once, in standard errors.

    It is the LEVEL quantile, over resamples of the targets, of the largest deviation of any pair. `error` is 0 for
    pairs that do not count.
    """
    rng, largest = np.random.default_rng(seed), np.zeros(resamples)
    safe = np.where(error > 0, error, np.inf)
    for r in range(resamples):
        for g, own in enumerate(rows):
            if len(own) >= FEWEST:
                drawn = effects[own[rng.integers(len(own), size=len(own))]].mean(axis=0)
                largest[r] = max(largest[r], (np.abs(drawn - mean[:, g]) / safe[:, g]).max())
        progress((r + 1) / resamples)
    return float(np.quantile(largest, LEVEL))
