"""Compute influence functions of one trained model of any trainer that has gradients (Koh and Liang 2017,
arXiv:1703.04730, equation 2), for outputs instead of losses.

If a training example gets a little more weight, the weights of a model at its minimum move in the direction
-H^-1 grad loss_i / k, and output j by grad output_j' of that. H is the curvature of the mean loss over the k members of
the model's subset (its Gauss-Newton matrix), with damping.

Gradients are as long as the model has weights. They are projected on DIMENSIONS random directions, which keeps their
products but for noise (CountSketch: Charikar, Chen and Farach-Colton 2002), so memory and time depend little on the
size of the model. The noise differs from model to model, and scores are averaged over models.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable

import numpy as np
from scipy import linalg

from datamodels.errors import InputError
from datamodels.train.gradients.base import BYTES_AT_ONCE, Gradients, slices

DIMENSIONS = 2048
"""Dimensions that gradients are projected on. LDS on the digits by 20 models, whose gradients are 4,810 long: .919 with
1,024 dimensions, .922 with 2,048, .924 without projection."""
FACTORS = 4
"""Most factors of the curvature of each example; more are mixed at random. LDS on the digits, whose curvature has 10:
.916 with 1, .919 with 2, .922 with 4."""
LEAST_DAMPING = 1e-3
"""Damping if the trainer has less weight decay than this. Weight decay adds exactly that to the curvature."""
MOST_MEMBERS = 1024
"""Most members used for the mean curvature, to within a batch. LDS on the digits by 512 of 700: .920, not .922."""
LARGE = 2**34
"""Most bytes of the gradients of one model's losses and outputs. If they are larger, which would take minutes, those of
the last layer are used."""
MOST_FACTORS = 32
"""Most factors of one example that a trainer may give; bounds the batch of examples."""


def scores(found: Gradients, members: np.ndarray, seed: int, tick: Callable[[], None] = lambda: None) -> np.ndarray:
    """Return by how much each example of the pool raises each output, float32[targets, examples].

    members  int[k]; the examples that the model was trained on
    seed     of the random projection
    tick     called after each batch of examples; what it raises stops the work

    If the gradients are LARGE, these are influences through the last layer. If the trainer does not give the curvature,
    the outer products of the gradients of losses take its place: the empirical Fisher matrix. Raises InputError if it
    does not give gradients of losses and outputs. Scores of a model whose training diverged are NaN.
    """
    found, rng = _feasible(found), np.random.default_rng(seed)
    project = _Sketch.draw(found.parameters, rng)
    of_losses = _all_projected(found.of_losses, found.examples, project, tick)
    of_outputs = _all_projected(found.of_outputs, found.targets, project, tick)
    try:
        curvature = _curvature(found, members, project, rng, tick)
    except InputError:
        curvature = of_losses[members].T @ of_losses[members] / np.float32(max(1, len(members)))
    if not np.isfinite(curvature).all():  # the training diverged
        return np.full((found.targets, found.examples), np.nan, dtype=np.float32)
    curvature[np.diag_indices_from(curvature)] += np.float32(max(found.weight_decay, LEAST_DAMPING))
    moved = linalg.solve(curvature, of_outputs.T, assume_a="pos", overwrite_a=True, check_finite=False)
    return (-moved.T / np.float32(max(1, len(members)))) @ of_losses.T


def cost(found: Gradients, members: np.ndarray) -> tuple[float, int]:
    """Estimate (seconds, bytes at the peak besides the result) of `scores`, by timing it on a few examples."""
    found, rng = _feasible(found), np.random.default_rng(0)
    project = _Sketch.draw(found.parameters, rng)
    q, share = project.dimensions, len(members) / max(1, found.examples)
    seconds = 0.0
    for of, count in ((found.of_losses, found.examples), (found.of_outputs, found.targets)):
        rows = next(slices(count, 4 * found.parameters))
        seconds += _timed(functools.partial(_projected, of, rows, project)) * count / (rows.stop - rows.start)
    rows = next(slices(found.examples, MOST_FACTORS * 4 * found.parameters))
    computed = min(found.examples, MOST_MEMBERS / max(share, 1e-9))  # those that are no members are computed, too
    with contextlib.suppress(InputError):
        chosen = np.arange(rows.stop - rows.start) < max(1, share * (rows.stop - rows.start))
        each = _timed(lambda: _of_rows(found, rows, chosen, project, rng))
        seconds += each * computed / (rows.stop - rows.start)
    eye = np.eye(q, dtype=np.float32)
    seconds += _timed(lambda: linalg.solve(eye, np.ones((q, found.targets), dtype=np.float32), assume_a="pos"))
    return seconds, 4 * (q * (found.examples + 3 * found.targets) + 3 * q * q) + 3 * BYTES_AT_ONCE


def _feasible(found: Gradients) -> Gradients:
    """Return the gradients, or those of the last layer if all are LARGE. Raises InputError if it has none."""
    large = 4 * found.parameters * (found.examples + found.targets) > LARGE
    return found.last() if large else found


def _timed(call: Callable[[], object]) -> float:
    call()  # what is done once is of no interest
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _curvature(
    found: Gradients, members: np.ndarray, project: _Sketch, rng: np.random.Generator, tick: Callable[[], None]
) -> np.ndarray:
    """Return the mean curvature of the losses of the members, or of MOST_MEMBERS of them, float32[q, q]."""
    member = np.zeros(found.examples, dtype=bool)
    member[members] = True
    total, count = np.zeros((project.dimensions, project.dimensions), dtype=np.float32), 0
    every = list(slices(found.examples, MOST_FACTORS * 4 * found.parameters))
    for number in rng.permutation(len(every)):
        rows = every[number]
        if count >= MOST_MEMBERS or not member[rows].any():
            continue
        count += int(member[rows].sum())
        total += _of_rows(found, rows, member[rows], project, rng)
        tick()
    return total / np.float32(max(1, count))


def _of_rows(
    found: Gradients, rows: slice, chosen: np.ndarray, project: _Sketch, rng: np.random.Generator
) -> np.ndarray:
    """Return the sum of the curvatures of some losses, float32[q, q]: those of `rows` that are chosen, bool[rows]."""
    factors = found.of_curvature(rows)[chosen]
    if factors.shape[1] > FACTORS:
        mixed = rng.standard_normal((len(factors), FACTORS, factors.shape[1]), dtype=np.float32)
        factors = np.matmul(mixed / np.float32(np.sqrt(FACTORS)), factors)
    flat = project(factors.reshape(-1, found.parameters))
    return flat.T @ flat


def _all_projected(
    of: Callable[[slice], np.ndarray], count: int, project: _Sketch, tick: Callable[[], None]
) -> np.ndarray:
    """Return float32[count, q]: the projected gradients of all rows."""
    found = np.empty((count, project.dimensions), dtype=np.float32)
    for rows in slices(count, 4 * project.parameters):
        found[rows] = _projected(of, rows, project)
        tick()
    return found


def _projected(of: Callable[[slice], np.ndarray], rows: slice, project: _Sketch) -> np.ndarray:
    return project(of(rows))


@dataclasses.dataclass(frozen=True, eq=False)
class _Sketch:
    """A random projection: each weight is added to one of q sums, with a random sign; none if there are at most q.

    parameters  number of weights
    dimensions  q
    order   int64[parameters]; the weights of the first sum, then those of the second, and so on; None for no projection
    starts  int64[q]; the place in `order` of the first weight of each sum
    signs   float32[parameters], in this order
    """

    parameters: int
    dimensions: int
    order: np.ndarray | None = None
    starts: np.ndarray | None = None
    signs: np.ndarray | None = None

    @classmethod
    def draw(cls, parameters: int, rng: np.random.Generator) -> _Sketch:
        if parameters <= DIMENSIONS:
            return cls(parameters, parameters)
        # Each sum gets one weight for sure: an empty one would have the first weight of the next.
        order = rng.permutation(parameters)
        sums = np.concatenate([np.arange(DIMENSIONS), rng.integers(DIMENSIONS, size=parameters - DIMENSIONS)])
        by_sum = np.argsort(sums, kind="stable")
        starts = np.searchsorted(sums[by_sum], np.arange(DIMENSIONS))
        signs = rng.integers(2, size=parameters).astype(np.float32) * 2 - 1
        return cls(parameters, DIMENSIONS, order[by_sum], starts, signs)

    def __call__(self, vectors: np.ndarray) -> np.ndarray:
        """Return float32[rows, q] of vectors [rows, parameters]."""
        if self.order is None or self.starts is None:
            return vectors
        return np.add.reduceat(vectors[:, self.order] * self.signs, self.starts, axis=1)
