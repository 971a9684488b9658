"""LASSO paths of targets that are training examples: exactly, from the Grams of the rows that each one counts.

Such a target leaves out the rows whose subset has itself in it (`problem`), so that no two share a Gram. But little
of its Gram is needed: the columns that ever pull more than lambda. So one target is solved after the other:

- the columns of its rows are packed into bits of their own, which stay in cache;
- columns that pull enough are admitted, and what they have in common is counted by popcount, 64 rows at a time;
- coordinate descent on the columns admitted;
- one pass over the bits for the pull at all columns. The residuals are rounded to some bits for it, so that a product
  is a count again, exact, and some times as fast as a product of matrices; the duality gap allows for the rounding.
  What the last round missed shows in the pull and joins.

The last fit, on all rows, keeps the counts of the path and adds those of the held-out rows. Products with the outputs
are made for all targets of a block in one pass over the rows. The lambdas, the choice and the statuses are those of
`path` and `refit`. Nothing here is random.
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
"""Most columns of a target that are ever admitted; one that wants more is solved elsewhere, where that is no slower."""
OWN_BYTES = 2 * 2**30
"""Most memory of the target that a block is at. It is the same on every machine, so that the solver is too."""


@dataclasses.dataclass(frozen=True, eq=False)
class Fitted:
    """t targets, in raw units.

    solved      bool[t]; False where a target wanted more columns than it may have: it has no weights then
    signal      bool[t]; False where no column of the rows to fit tells anything about the outputs
    weights     float32[t, d]
    intercept, lambda_, gap  float64[t]
    error       float64[t]; smallest held-out mean squared error on the path
    lambdas     int64[t]; looked at on the path
    passes      int64[t]; over the bits of all columns, on the path
    admitted    int64[t]; columns at its end
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
        """Of t targets, none of which is solved yet."""
        solved, signal = np.zeros((2, t), dtype=bool)
        weights = np.zeros((t, d), dtype=np.float32)
        intercept, lambda_, gap, error = np.zeros((4, t))
        lambdas, passes, admitted = np.zeros((3, t), dtype=np.int64)
        return cls(solved, signal, weights, intercept, lambda_, gap, error, lambdas, passes, admitted)


def applies(rows: Rows) -> bool:
    """Whether targets of these rows are solved here: on a CPU, with bits and counts within OWN_BYTES."""
    return rows.xp is np and bytes_of(rows.problem.rows, rows.problem.columns, rows.dtype.itemsize) <= OWN_BYTES


def bytes_of(rows: int, columns: int, itemsize: int) -> int:
    """That one target takes at most, besides what all of a block share."""
    room = min(columns, ADMITTED)
    return (columns + room) * rows // 8 + (4 + itemsize) * room**2


def solve(
    rows: Rows, settings: FitSpec, first: int, last: int, *, tick: Tick, most: int = ADMITTED
) -> tuple[Solution, np.ndarray]:
    """(the targets first <= j < last of `rows.problem`, all of them training examples; bool[n], which of them wanted
    more than `most` columns: there is nothing of them in the solution).

    A block that is interrupted starts again: it has no arrays.
    """
    targets = Targets.read(rows, first, last)
    left = np.zeros(last - first, dtype=bool)
    if not len(targets.able):
        return targets.unfitted(), left

    def told(done: int) -> None:
        share = done / len(targets.able)
        tick(BlockProgress("path", share, share * settings.lambdas))

    outputs, keep = targets.columns(rows.whole)
    if keep is None:
        raise ValueError("these targets count all rows: none of them is a training example")
    found = fitted(rows, settings, outputs, keep, tick=told, most=most)
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
    """Targets with finite outputs that vary, each with rows to fit and held-out rows that count.

    outputs  [m, t], rows in the order of `rows`
    keep     bool[m, t]; which of the rows count
    tick     called before each target with how many are done
    most     columns of a target that are ever admitted
    """
    t = outputs.shape[1]
    found = Fitted.none(t, rows.problem.columns)
    if t:
        bench, sums = _Bench(rows, keep, min(rows.problem.columns, most)), _Sums.of(rows, outputs, keep)
        choice = Choice(grid(settings), np.zeros(t), settings.patience)
        for j in range(t):
            tick(j)
            _Target(bench, settings, sums, choice, outputs[:, j], keep[:, j], j).solve(found)
        found.signal[:], found.lambdas[:] = choice.top > 0, choice.position + 1
        found.error[:] = choice.best_error * sums.spread**2
    return found


@dataclasses.dataclass(frozen=True, eq=False)
class _Sums:
    """Of t targets' outputs z = (outputs - location) / spread over the rows that count.

    location, spread  float64[t]
    fit, heldout      sums over rows; their `rows` are not to be used
    """

    location: np.ndarray
    spread: np.ndarray
    fit: moments.Outputs
    heldout: moments.Outputs

    @classmethod
    def of(cls, rows: Rows, outputs: np.ndarray, keep: np.ndarray) -> _Sums:
        count = np.maximum(keep.sum(axis=0), 1)
        location = np.where(keep, outputs, 0).sum(axis=0, dtype=np.float64) / count
        location = location.astype(outputs.dtype)  # so that rows left out, set to it, are 0 exactly
        centred = np.where(keep, outputs, location)
        location = location.astype(np.float64)
        spread = np.array([np.sqrt(np.sum((centred[:, j] - location[j]) ** 2)) for j in range(len(count))])
        spread = np.where(spread > 0, spread / np.sqrt(count), 1)
        fit, heldout = (
            moments.of_outputs(rows, span, centred[span], location, spread) for span in (rows.fit, rows.heldout)
        )
        return cls(location, spread, fit, heldout)


class _Bench:
    """What the targets of a block are worked on with, one after the other.

    words  uint64[v, m, 8]; the masks, in the order of `rows`, made once for all blocks
    work   the arrays of one target; see `compiled_own.Work`
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
            pull=np.zeros(d),
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
    """One target, number j of a block, from its rows to its place in `Fitted`. All but that is of standardised outputs.

    fit, heldout   rows that count
    middle, end    words; where the former end, and the latter
    """

    def __init__(
        self, bench: _Bench, settings: FitSpec, sums: _Sums, choice: Choice, y: np.ndarray, keep: np.ndarray, j: int
    ):
        self._bits, self._loops, self._work = bench.bits, bench.loops, bench.work
        self._settings, self._sums, self._choice, self._j = settings, sums, choice, j
        self._center = bench.rows.problem.center.astype(np.float64)
        fit, heldout = (np.flatnonzero(keep[span]) + span.start for span in (bench.rows.fit, bench.rows.heldout))
        self._fit, self._heldout = len(fit), len(heldout)
        self._middle = bench.bits.compact(bench.words, fit, self._work.bits, 0)
        self._end = bench.bits.compact(bench.words, heldout, self._work.bits, self._middle)
        for chosen, low in ((fit, 0), (heldout, 64 * self._middle)):
            self._work.outputs[low : low + len(chosen)] = (y[chosen] - sums.location[j]) / sums.spread[j]
        self._size = 0

    def solve(self, found: Fitted) -> None:
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

    def _aim(self, sums: moments.Outputs, rows: int, words: int) -> tuple[float, float]:
        """Sets the work's means and products to those of the first words; returns the outputs' mean and variance.

        sums  of their rows
        """
        work, j = self._work, self._j
        ones = self._bits.ones(work.bits, words, len(work.mean))
        work.mean[:] = ones / rows
        mean = sums.total[j] / rows
        work.products[:] = sums.products[j] / rows - mean * (work.mean - self._center)
        work.products[(ones == 0) | (ones == rows)] = 0  # a column that never varies tells nothing but rounding
        return mean, max(sums.square[j] / rows - mean**2, 0.0)

    def _path(self, found: Fitted) -> float | None:
        """The lambda where the held-out error is smallest, with the weights there; None where there is no room."""
        work, settings, loops, choice, j = self._work, self._settings, self._loops, self._choice, self._j
        mean, zero, spread = *self._aim(self._sums.fit, self._fit, self._middle), self._sums.spread[j]
        work.pull[:], work.place[:], work.fitted[:] = work.products, -1, 0
        above = choice.top[j] = lambda_max(np.abs(work.products).max())
        size, theta = 0, work.theta[:0]
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
            if choice.reached(j, self._heldout_error(mean)):
                size, theta = self._size, work.theta[: self._size].copy()
            above = lambda_
        work.theta[:size], work.theta[size : self._size] = theta, 0
        found.admitted[j] = self._size
        return choice.top[j] * choice.grid[choice.best[j]]

    def _heldout_error(self, mean: float) -> float:
        """Mean squared error on the held-out rows, at the intercept that is best for the rows to fit."""
        work, span = self._work, slice(64 * self._middle, 64 * self._middle + self._heldout)
        shift = mean - work.theta[: self._size] @ work.mean[work.columns[: self._size]]
        miss = work.fitted[span] + shift - work.outputs[span]
        return float(miss @ miss) / self._heldout

    def _refit(self, lambda_: float) -> tuple[float, float, float] | None:
        """Goes on from the weights with all rows; (lambda, gap, mean of the outputs), or None where there is no room.

        The gap is that of the weights in float32, as they are saved.
        """
        work, loops, settings, spread = self._work, self._loops, self._settings, self._sums.spread[self._j]
        mean, zero = self._aim(self._sums.fit + self._sums.heldout, self._fit + self._heldout, self._end)
        if lambda_ == 0:  # no signal
            return float(np.abs(work.products).max()) + ROUNDING, 0.0, mean
        rows = (self._end, self._fit, self._heldout)
        self._size = loops.keep(work, self._size, self._middle, self._end, self._fit + self._heldout)
        loops.predict(work, self._size, self._end)
        goal = settings.tolerance
        gap = loops.look(work, self._size, *rows, zero, spread, lambda_, goal)
        if gap > goal:
            self._size, _, gap = loops.advance(
                work, self._size, *rows, self._end, zero, spread, lambda_, lambda_, goal, settings.max_epochs
            )
        return None if gap < 0 else (lambda_, gap, mean)
