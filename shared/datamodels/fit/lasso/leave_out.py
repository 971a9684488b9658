"""Compute exact LASSO paths of targets that are training examples, each from its own Gram.

Such a target leaves out the rows with its own column (`problem`), so no two of these targets share a Gram. But only a
small part of each Gram is needed: the columns whose |neg_grad| is above lambda at some time. So targets are solved
one after the other, in these steps:

- pack the columns of the rows that count into bits, which stay in cache;
- admit columns whose |neg_grad| is large enough, and count the rows that each two of them share by popcount, 64 rows at
  a time;
- do coordinate descent on the admitted columns;
- compute neg_grad at all columns in one pass over the bits. For this, residuals are rounded to a few bits, so that each
  product is a sum of counts: exact, and several times as fast as a matrix product. The duality gap includes the effect
  of the rounding. A column that was missed so far has a large neg_grad then, and is admitted.

The last fit, on all rows, keeps the counts of the path and adds those of the held-out rows. Products with the outputs
are computed for all targets of a block in one pass over the rows. The lambdas, the choice between them and the statuses
are the same as in `path` and `refit`. Nothing here is random.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from datamodels.fit.contract.block import BlockProgress, Tick
from datamodels.fit.contract.choice import Choice
from datamodels.fit.contract.targets import Targets
from datamodels.fit.data import moments
from datamodels.fit.data.problem import Solution
from datamodels.fit.data.rows import Rows
from datamodels.fit.lasso.base import ROUNDING, lambda_max
from datamodels.fit.lasso.path import PATH_SLACK, grid
from datamodels.run.specs import FitSpec

ADMITTED = 4096
"""Most columns that are admitted for a target. Targets that need more are solved by `fista`, which is then as fast."""
LEAVE_OUT_BYTES = 3 * 2**30
"""Most memory of the target that is being solved: enough for d = 50,000 and m = 6 d, which takes 2.2 GB. It is the
same on every machine, so that a fit takes the same solver on each."""


@dataclasses.dataclass(frozen=True, eq=False)
class Fitted:
    """The solutions of t targets, in raw units.

    solved      bool[t]; False, and no weights, if the target needed more columns than may be admitted
    signal      bool[t]; False if no column is correlated with the outputs in the rows to fit
    weights     float32[t, d]
    intercept, lambda_, gap  float64[t]
    error       float64[t]; smallest held-out mean squared error on the path
    lambdas     int64[t]; lambdas tried on the path
    passes      int64[t]; passes over the bits of all columns, on the path
    admitted    int64[t]; columns admitted at the end of the path
    """

    solved: np.ndarray
    signal: np.ndarray
    weights: np.ndarray
    intercept: np.ndarray
    lambda_: np.ndarray
    gap: np.ndarray
    error: np.ndarray
    lambdas: np.ndarray
    passes: np.ndarray
    admitted: np.ndarray

    @classmethod
    def none(cls, t: int, d: int) -> Fitted:
        """Return the solutions of t targets before any is solved."""
        solved, signal = np.zeros((2, t), dtype=bool)
        weights = np.zeros((t, d), dtype=np.float32)
        intercept, lambda_, gap, error = np.zeros((4, t))
        lambdas, passes, admitted = np.zeros((3, t), dtype=np.int64)
        return cls(solved, signal, weights, intercept, lambda_, gap, error, lambdas, passes, admitted)


def applies(rows: Rows) -> bool:
    """Return whether this module solves targets of these rows: on a CPU, if bits and counts fit in LEAVE_OUT_BYTES."""
    return rows.xp is np and bytes_of(rows.problem.rows, rows.problem.columns, rows.dtype.itemsize) <= LEAVE_OUT_BYTES


def bytes_of(rows: int, columns: int, itemsize: int) -> int:
    """Return the most bytes that one target takes, without arrays that all targets of a block share."""
    room = min(columns, ADMITTED)
    return (columns + room) * rows // 8 + (4 + itemsize) * room**2


def solve(
    rows: Rows, settings: FitSpec, first: int, last: int, *, tick: Tick, most: int = ADMITTED
) -> tuple[Solution, np.ndarray]:
    """Fit the targets first <= j < last, all of them training examples. An interrupted block starts again.

    Returns (Solution, bool[n]: which targets needed more than `most` columns, and have no weights in the solution).
    """
    targets = Targets.read(rows, first, last)
    left = np.zeros(last - first, dtype=bool)
    if not len(targets.able):
        return targets.unfitted(), left

    def report(done: int) -> None:
        share = done / len(targets.able)
        tick(BlockProgress("path", share, share * settings.lambdas))

    outputs, keep = targets.columns(rows.whole)
    if keep is None:
        raise ValueError("these targets count all rows: none of them is a training example")
    found = fitted(rows, settings, outputs, keep, tick=report, most=most)
    left[targets.able] = ~found.solved
    solution = targets.solution(
        found.weights,
        lambda_=found.lambda_,
        gap=found.gap,
        intercept=found.intercept,
        heldout_r2=targets.heldout_r2(found.error),
        tolerance=settings.tolerance,
        signal=found.signal | ~found.solved,
    )
    return solution, left


def fitted(
    rows: Rows,
    settings: FitSpec,
    outputs: np.ndarray,
    keep: np.ndarray,
    *,
    tick: Callable[[int], None] = lambda done: None,
    most: int = ADMITTED,
) -> Fitted:
    """Fit targets whose outputs are finite and vary. Rows to fit and held-out rows must count for each of them.

    outputs  [m, t], in the order of `rows`
    keep     bool[m, t]; which of the rows count
    tick     called before each target with the number of targets that are done
    most     most columns that are admitted for a target
    """
    t = outputs.shape[1]
    found = Fitted.none(t, rows.problem.columns)
    if t:
        shared, sums = _Shared(rows, keep, min(rows.problem.columns, most)), _Sums.of(rows, outputs, keep)
        choice = Choice(grid(settings), np.zeros(t), settings.patience)
        for j in range(t):
            tick(j)
            _Target(shared, settings, sums, choice, outputs[:, j], keep[:, j], j).solve(found)
        found.signal[:], found.lambdas[:] = choice.top > 0, choice.position + 1
        found.error[:] = choice.best_error * sums.spread**2
    return found


@dataclasses.dataclass(frozen=True, eq=False)
class _Sums:
    """Sums of the standardised outputs z = (outputs - location) / spread of t targets over the rows that count.

    location, spread  float64[t]
    fit, heldout      sums over the rows to fit and over the held-out rows. Do not use their `rows`: it counts all rows
    """

    location: np.ndarray
    spread: np.ndarray
    fit: moments.Outputs
    heldout: moments.Outputs

    @classmethod
    def of(cls, rows: Rows, outputs: np.ndarray, keep: np.ndarray) -> _Sums:
        count = np.maximum(keep.sum(axis=0), 1)
        location = np.where(keep, outputs, 0).sum(axis=0, dtype=np.float64) / count
        location = location.astype(outputs.dtype)  # so that z is exactly 0 for rows that do not count
        centred = np.where(keep, outputs, location)
        location = location.astype(np.float64)
        spread = np.array([np.sqrt(np.sum((centred[:, j] - location[j]) ** 2)) for j in range(len(count))])
        spread = np.where(spread > 0, spread / np.sqrt(count), 1)
        fit, heldout = (
            moments.of_outputs(rows, span, centred[span], location, spread) for span in (rows.fit, rows.heldout)
        )
        return cls(location, spread, fit, heldout)


class _Shared:
    """Arrays that the targets of a block share.

    words  uint64[v, m, 8]; the masks, in the order of `rows`, packed once for all blocks
    work   the arrays of the target that is being solved; see `leave_out_descent.Work`
    """

    def __init__(self, rows: Rows, keep: np.ndarray, room: int):
        from datamodels.fit.kernels import bitwise, leave_out_descent

        self.rows, self.bits, self.loops = rows, bitwise, leave_out_descent
        self.words = rows.once("words", lambda: _words(rows))
        d = rows.problem.columns
        padded = -(-d // bitwise.TILE) * bitwise.TILE
        lines = sum(-(-int(keep[span].sum(axis=0).max()) // 512) for span in (rows.fit, rows.heldout))
        self.work = leave_out_descent.Work(
            bits=np.zeros((padded, 8 * lines), dtype=np.uint64),
            outputs=np.zeros(512 * lines, dtype=rows.dtype),
            fitted=np.zeros(512 * lines, dtype=rows.dtype),
            planes=np.zeros((max(leave_out_descent.PLANES), 8 * lines), dtype=np.uint64),
            common=np.zeros((max(leave_out_descent.PLANES), padded), dtype=np.int32),
            mean=np.zeros(d),
            products=np.zeros(d),
            neg_grad=np.zeros(d),
            columns=np.zeros(room, dtype=np.int64),
            place=np.zeros(d, dtype=np.int64),
            theta=np.zeros(room),
            near=np.zeros((room + bitwise.TILE, 8 * lines), dtype=np.uint64),
            counts=np.empty((room + bitwise.TILE, room + bitwise.TILE), dtype=np.int32),
            gram=np.empty((room, room), dtype=rows.dtype),
            eights=np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little").astype(rows.dtype),
        )


def _words(rows: Rows) -> np.ndarray:
    masks = rows.problem.masks
    parts = -(-masks.shape[1] // 64)
    words = np.zeros((parts, len(masks), 64), dtype=np.uint8)
    for part in range(parts):
        block = masks[:, 64 * part : 64 * part + 64][rows.order]
        words[part, :, : block.shape[1]] = block
    return words.view("<u8").astype(np.uint64, copy=False)


class _Target:
    """Solves one target, number j of a block. All quantities are those of standardised outputs.

    fit, heldout  number of rows to fit and of held-out rows that count
    middle, end   the words at which the rows to fit and the held-out rows end
    """

    def __init__(
        self, shared: _Shared, settings: FitSpec, sums: _Sums, choice: Choice, y: np.ndarray, keep: np.ndarray, j: int
    ):
        self._bits, self._loops, self._work = shared.bits, shared.loops, shared.work
        self._settings, self._sums, self._choice, self._j = settings, sums, choice, j
        self._center = shared.rows.problem.center.astype(np.float64)
        fit, heldout = (np.flatnonzero(keep[span]) + span.start for span in (shared.rows.fit, shared.rows.heldout))
        self._fit, self._heldout = len(fit), len(heldout)
        self._middle = shared.bits.compact(shared.words, fit, self._work.bits, 0)
        self._end = shared.bits.compact(shared.words, heldout, self._work.bits, self._middle)
        for chosen, low in ((fit, 0), (heldout, 64 * self._middle)):
            self._work.outputs[low : low + len(chosen)] = (y[chosen] - sums.location[j]) / sums.spread[j]
        self._size = 0

    def solve(self, found: Fitted) -> None:
        """Write the solution to its place in `found`."""
        work, j, spread = self._work, self._j, self._sums.spread[self._j]
        lambda_ = self._path(found)
        last = None if lambda_ is None else self._refit(lambda_)
        if last is None:
            return
        lambda_, found.gap[j], mean = last
        chosen = work.columns[: self._size]
        raw = (work.theta[: self._size] * spread).astype(np.float32)
        found.lambda_[j], found.weights[j, chosen], found.solved[j] = lambda_ * spread, raw, True
        found.intercept[j] = self._sums.location[j] + spread * mean - raw.astype(np.float64) @ work.mean[chosen]

    def _standardise(self, sums: moments.Outputs, rows: int, words: int) -> tuple[float, float]:
        """Set the means and products of the columns over the first `words` words.

        sums   sums over the rows in these words
        rows   number of these rows

        Returns (mean, variance) of the outputs.
        """
        work, j = self._work, self._j
        ones = self._bits.ones(work.bits, words, len(work.mean))
        work.mean[:] = ones / rows
        mean = sums.total[j] / rows
        work.products[:] = sums.products[j] / rows - mean * (work.mean - self._center)
        work.products[(ones == 0) | (ones == rows)] = 0  # for a column that never varies, they are only rounding
        return mean, max(sums.square[j] / rows - mean**2, 0.0)

    def _path(self, found: Fitted) -> float | None:
        """Walk the path; return the lambda with the smallest held-out error, or None if there is no room for columns.

        The weights are then those at this lambda.
        """
        work, settings, loops, choice, j = self._work, self._settings, self._loops, self._choice, self._j
        mean, zero, spread = *self._standardise(self._sums.fit, self._fit, self._middle), self._sums.spread[j]
        work.neg_grad[:], work.place[:], work.fitted[:] = work.products, -1, 0
        choice.top[j] = lambda_max(np.abs(work.products).max())
        size, theta, above = 0, work.theta[:0], choice.top[j]
        while not choice.done[j]:
            lambda_ = choice.current(j)
            if lambda_ > 0:
                self._size, rounds, gap = loops.advance(
                    work, self._size, self._middle, self._fit, 0, self._end, zero, spread, lambda_, above,
                    PATH_SLACK * settings.tolerance, settings.max_epochs,
                )  # fmt: skip
                found.passes[j] += rounds
                if gap < 0:
                    return None
            if choice.record_error(j, self._heldout_error(mean)):
                size, theta = self._size, work.theta[: self._size].copy()
            above = lambda_
        work.theta[:size], work.theta[size : self._size] = theta, 0
        found.admitted[j] = self._size
        return choice.top[j] * choice.grid[choice.best[j]]

    def _heldout_error(self, mean: float) -> float:
        """Return the mean squared error on the held-out rows, at the intercept that is best for the rows to fit."""
        work, span = self._work, slice(64 * self._middle, 64 * self._middle + self._heldout)
        shift = mean - work.theta[: self._size] @ work.mean[work.columns[: self._size]]
        miss = work.fitted[span] + shift - work.outputs[span]
        return float(miss @ miss) / self._heldout

    def _refit(self, lambda_: float) -> tuple[float, float, float] | None:
        """Fit all rows, starting from the weights of the path.

        Returns (lambda, gap, mean of the outputs), or None if there is no room for columns. The gap is that of the
        weights in float32, as they are saved.
        """
        work, loops, settings, spread = self._work, self._loops, self._settings, self._sums.spread[self._j]
        mean, zero = self._standardise(self._sums.fit + self._sums.heldout, self._fit + self._heldout, self._end)
        if lambda_ == 0:  # no signal
            return float(np.abs(work.products).max()) + ROUNDING, 0.0, mean
        rows = (self._end, self._fit, self._heldout)
        self._size = loops.keep(work, self._size, self._middle, self._end, self._fit + self._heldout)
        loops.predict(work, self._size, self._end)
        goal = settings.tolerance
        gap = loops.measure(work, self._size, *rows, zero, spread, lambda_, goal)
        if gap > goal:
            self._size, _, gap = loops.advance(
                work, self._size, *rows, self._end, zero, spread, lambda_, lambda_, goal, settings.max_epochs
            )
        return None if gap < 0 else (lambda_, gap, mean)
