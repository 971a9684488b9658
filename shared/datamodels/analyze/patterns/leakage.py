"""Find test examples that are in the training pool, or nearly: pairs of a target and an example, ranked for review.

By inputs, if the data set can be loaded. The score of a pair is its distance, divided by the distance of the target to
its FIFTH nearest example: 0 is a copy, and 1 is ordinary, whatever the scale of the data. Pictures are compared by
windows: one window of the target with all windows of the example that are shifted by at most OFF pixels, each with mean
0 and unit length. So a shift, another brightness or another contrast does not hide a copy. Other inputs are compared by
the run's `fit.features`, each standardised over the pool.

By weights alone, if the data set cannot be loaded. The score is the example's share of all weights that help the
target; of the sizes of all weights, if neither high nor low outputs are better. A copy does help its target, but easy
targets need no copy, and others have many good helpers. So this finds few copies: on planted copies its average
precision is 0.06, and that of inputs 0.96 (`make bench-planted`).

Each pair also has the weight of the example: its effect on the target. `patterns.closeness` judges pairs by inputs:
what of them is equal, and whether chance explains it.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator

import numpy as np

from datamodels.analyze.patterns import closeness
from datamodels.analyze.patterns.closeness import Closeness
from datamodels.analyze.patterns.names import BY_INPUTS, BY_WEIGHTS
from datamodels.errors import InputError, NotReadyError, SpecError
from datamodels.fit.data import examples, problem
from datamodels.fit.data.problem import Solution
from datamodels.run import runs
from datamodels.run.dataset import NOT_IN_POOL, Dataset
from datamodels.run.runs import Run

FIFTH = 5
"""Rank of the nearest example that counts as ordinary. Copies of a target are missed if there are more than four."""
EACH = 3
"""Examples of each target that are ranked by weights."""
OFF = 1
"""Largest shift of a picture in each direction, in pixels."""
SMALLEST_WINDOW = 4
"""Smallest side of a window, in pixels; smaller pictures are compared by features."""
POOL_SAMPLE = 1000
"""Pool examples whose distances to the others show what chance does."""
TARGETS_AT_ONCE, EXAMPLES_AT_ONCE = 1024, 4096
"""Sizes of a block of distances, to bound memory."""


@dataclasses.dataclass(frozen=True, eq=False)
class Pairs:
    """Suspected pairs, most suspect first.

    by       BY_INPUTS or BY_WEIGHTS
    target   int32[k]
    example  int32[k]; examples of the pool or, by weights, columns
    score    float64[k]; by inputs: relative distance, smallest first; by weights: share of helpful weights, largest
             first
    weight   float32[k]; weight of the example's column for the target; NaN if the target has no weights
    measured float64[k]; how much of each weight was measured, the rest is the prior; None as `Solution.measured`
    reason   why inputs could not be compared, if that was tried
    close    by inputs: what is equal, and whether chance explains it; None by weights
    """

    by: str
    target: np.ndarray
    example: np.ndarray
    score: np.ndarray
    weight: np.ndarray
    measured: np.ndarray | None = None
    reason: str = ""
    close: Closeness | None = None

    def rows(self) -> Iterator[tuple[int, int, float, float, float | None]]:
        """Return the target, the example, the score, the weight, and how much of it was measured, of each pair."""
        measured = [None] * len(self.target) if self.measured is None else self.measured.tolist()
        columns = (values.tolist() for values in (self.target, self.example, self.score, self.weight))
        return zip(*columns, measured, strict=True)


def outsiders(run: Run) -> np.ndarray:
    """Return int64[t]: the targets that are not training examples. Raises InputError if there are none."""
    found = np.flatnonzero(run.own == NOT_IN_POOL)
    if not len(found):
        raise InputError(f"run {run.name}: all its targets are training examples, so none can have leaked")
    return found


def find(run: Run, solution: Solution, k: int) -> Pairs:
    """Return the k most suspect pairs: by inputs if the run's data set can be loaded here, else by weights.

    Raises InputError and NotReadyError as `by_inputs` and `by_weights` do.
    """
    try:
        return by_inputs(run, runs.load_dataset(run.spec), solution, k)
    except SpecError as error:
        reason = " ".join(str(error).split())
        return dataclasses.replace(by_weights(run, solution, k), reason=reason)


def by_weights(run: Run, solution: Solution, k: int) -> Pairs:
    """Return the k pairs whose example has the largest share of the helpful weights of its target.

    Raises InputError for k < 1 and as `outsiders` does, NotReadyError if no example helps any target.
    """
    _check(k)
    targets = outsiders(run)
    theta = solution.theta[targets].tocoo()
    gain = run.predicted.sign * theta.data if run.predicted.directed else np.abs(theta.data)
    helps = gain > 0
    row, column, weight, gain = theta.row[helps], theta.col[helps], theta.data[helps], gain[helps]
    if not len(weight):
        raise NotReadyError(f"run {run.name}: no example helps any target; more models are needed")
    mass = np.bincount(row, gain, minlength=theta.shape[0])
    order = np.lexsort((column, -gain, row))
    place = np.arange(len(order)) - np.searchsorted(row[order], row[order])
    order = order[place < EACH]
    share = gain[order] / mass[row[order]]
    best = np.argsort(-share, kind="stable")[:k]
    chosen = order[best]
    target, column = (index.astype(np.int32) for index in (targets[row[chosen]], column[chosen]))
    return Pairs(BY_WEIGHTS, target, column, share[best], weight[chosen], solution.measured_at(target, column))


def by_inputs(run: Run, dataset: Dataset, solution: Solution, k: int) -> Pairs:
    """Return the k pairs with the nearest inputs; at most FIFTH - 1 examples of each target.

    Raises InputError as `by_weights` does, SpecError if the data set is not the run's or its x are not numbers.
    """
    _check(k)
    targets = outsiders(run)
    examples.require_same(run, dataset)
    if not dataset.x.size:
        raise SpecError(f"run {run.name}: its data set has no inputs to compare, only numbers of examples")
    nearest, distance = _nearest(*views(run, dataset, dataset.targets(run.spec.targets).x[targets]))
    relative = _relative(distance)[:, : FIFTH - 1]
    best = np.argsort(relative, axis=None, kind="stable")[:k]
    row, place = np.unravel_index(best, relative.shape)
    target, example = targets[row], nearest[row, place]
    columns = np.array([run.design.column_of(int(c)) for c in example], dtype=np.int64)
    weight = [_weight(solution, int(j), int(c)) for j, c in zip(target, columns, strict=True)]
    return Pairs(
        BY_INPUTS,
        target.astype(np.int32),
        example.astype(np.int32),
        relative[row, place],
        np.array(weight, dtype=np.float32),
        solution.measured_at(target, columns),
        close=_closeness(run, dataset, targets, nearest, relative).of(row, place),
    )


def _closeness(run: Run, dataset: Dataset, targets: np.ndarray, nearest: np.ndarray, relative: np.ndarray) -> Closeness:
    """Judge all pairs of targets int[t] and their nearest examples, by distances within the pool."""
    few = np.unique(np.linspace(0, len(dataset.x) - 1, min(len(dataset.x), POOL_SAMPLE)).astype(np.int64))
    among = _relative(_nearest(*views(run, dataset, dataset.x[few]), themselves=few)[1])
    compared = closeness.compared(run, dataset, pictures=_picture_shape(dataset) is not None, shift=OFF)
    return closeness.judge(run, dataset, compared, targets, nearest[:, : FIFTH - 1], relative, among)


def _relative(distance: np.ndarray) -> np.ndarray:
    """Return distances float64[t, FIFTH] divided by the last of each row; 0 if the last is 0."""
    ordinary = distance[:, -1:]
    return np.divide(distance, ordinary, out=np.zeros_like(distance), where=ordinary > 0)


def _check(k: int) -> None:
    if k < 1:
        raise InputError(f"k = {k}: must be at least 1")


def _weight(solution: Solution, target: int, column: int) -> float:
    if solution.status[target] in problem.UNFITTED:
        return np.nan
    columns, weights = solution.row(target)
    place = np.searchsorted(columns, column)
    there = place < len(columns) and columns[place] == column
    return float(weights[place]) if there else 0.0


Views = list[Callable[[np.ndarray], np.ndarray]]


def views(run: Run, dataset: Dataset, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, Views]:
    """Return how to compare targets with the pool: (targets float32[t, f], pool, views).

    Each view turns a part of the pool into float32[examples, f]. The distance of a pair is the smallest over views.
    """
    pool = dataset.x
    shape = _picture_shape(dataset)
    if shape is not None:
        h, w = shape[:2]
        places = list(itertools.product(range(2 * OFF + 1), repeat=2))

        def window(pictures: np.ndarray, top: int, left: int) -> np.ndarray:
            pictures = pictures.reshape(len(pictures), *shape)
            part = pictures[:, top : top + h - 2 * OFF, left : left + w - 2 * OFF]
            return _unit(part.reshape(len(part), -1).astype(np.float32))

        return window(x, OFF, OFF), pool, [functools.partial(window, top=top, left=left) for top, left in places]
    theirs, pool = (examples.features(run, values).astype(np.float64) for values in (x, pool))
    mean, spread = pool.mean(axis=0), pool.std(axis=0)
    spread[spread == 0] = 1

    def standard(features: np.ndarray) -> np.ndarray:
        return ((features - mean) / spread).astype(np.float32)

    return standard(theirs), pool, [standard]


def _picture_shape(dataset: Dataset) -> tuple[int, ...] | None:
    """Return (h, w) or (h, w, 3) of pictures that are large enough for windows; None for anything else."""
    shape = dataset.image_shape
    usable = shape is not None and min(shape[:2]) >= SMALLEST_WINDOW + 2 * OFF and dataset.x.dtype.kind in "fiub"
    return shape if usable else None


def _unit(rows: np.ndarray) -> np.ndarray:
    rows = rows - rows.mean(axis=1, keepdims=True)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(length > 0, length, 1)


def _nearest(
    targets: np.ndarray, pool: np.ndarray, views: Views, themselves: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return (int64[t, FIFTH], float64[t, FIFTH]): the nearest examples and their distances, nearest first.

    themselves  int64[t]; the pool example that each target is, which is not its own neighbour; None if they are none
    """
    themselves = np.full(len(targets), NOT_IN_POOL) if themselves is None else themselves
    parts = [slice(first, first + TARGETS_AT_ONCE) for first in range(0, len(targets), TARGETS_AT_ONCE)]
    found = [_nearest_of(targets[part], pool, views, themselves[part]) for part in parts]
    return np.concatenate([index for index, _ in found]), np.concatenate([distance for _, distance in found])


def _nearest_of(
    targets: np.ndarray, pool: np.ndarray, views: Views, themselves: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    index, squares = np.zeros((len(targets), 0), dtype=np.int64), np.zeros((len(targets), 0))
    own = np.einsum("tf,tf->t", targets, targets)[:, None]
    for first in range(0, len(pool), EXAMPLES_AT_ONCE):
        part = pool[first : first + EXAMPLES_AT_ONCE]
        nearest = np.full((len(targets), len(part)), np.inf)
        for view in views:
            seen = view(part)
            np.minimum(nearest, own + np.einsum("ef,ef->e", seen, seen) - 2 * (targets @ seen.T), out=nearest)
        inside = np.flatnonzero((themselves >= first) & (themselves < first + len(part)))
        nearest[inside, themselves[inside] - first] = np.inf
        index = np.concatenate([index, np.broadcast_to(np.arange(first, first + len(part)), nearest.shape)], axis=1)
        squares = np.concatenate([squares, nearest], axis=1)
        order = np.argsort(squares, axis=1, kind="stable")[:, :FIFTH]
        index, squares = np.take_along_axis(index, order, axis=1), np.take_along_axis(squares, order, axis=1)
    # The distance of a copy is 0 up to rounding.
    noise = 1e-5 * (own + 1)
    return index, np.sqrt(np.where(squares > noise, squares, 0.0))
