"""Keep a fit within the memory of a GPU: solve its blocks in parts that free memory holds, and give memory back.

The blocks of a fit do not depend on the card, so that a fit on several machines agrees on them. The parts do.
"""

from __future__ import annotations

import gc
from types import ModuleType

import structlog

from datamodels.errors import SettingsError
from datamodels.fit.contract.block import Arrays, Solve, Tick, of_part
from datamodels.fit.data import means, moments, problem
from datamodels.fit.data import rows as row_blocks
from datamodels.fit.data.problem import Solution
from datamodels.fit.data.rows import Rows
from datamodels.fit.lasso import fista, gap, gram
from datamodels.fit.lasso.base import Solver
from datamodels.fit.residual import folds
from datamodels.fit.residual.sample import GRAMS
from datamodels.run.estimators import ESTIMATORS, Estimator
from datamodels.run.specs import FitSpec

log = structlog.get_logger()

SHARE = 0.9
"""Fraction of the free memory that a part is planned to take."""
GIB = 2**30


class Phases:
    """Most bytes of a part of a block on a GPU, beside what all targets share: `fixed + targets * each` of a phase."""

    def __init__(self, m: int, d: int, item: int, solver: Solver, *, by_gram: bool, own: bool, known: Estimator):
        """Compute them for a fit of m models on d columns; a test measures them.

        item     bytes of the type that the solver computes in
        by_gram  whether targets that count all rows are solved from the Gram
        own      whether there are targets that leave out rows
        known    the estimator
        """
        self._phases: list[tuple[float, float]] = []
        if by_gram:
            piece = m / -(-m // moments.PASS_ROWS)
            self._add(8 * d * piece, 2 * item * m + 24 * (piece + d))  # sums over the rows
            self._add(0, (item + 1) * m + (64 + 8 * item) * d)  # steps
        if own or not by_gram:
            long, piece = 5 if solver.table else 4, m / -(-m // gap.PASS_ROWS)
            self._add(min(fista.DEVICE_PASS_BYTES, item * d * m), long * item * m + 14 * item * d + m * own)  # steps
            self._add(8 * d * piece, (24 + 2 * item) * m + 6 * item * d + m * own)  # the certificate
        if known.folds:  # from prior means to weights
            piece = min(m, means.PASS_ROWS)
            each = folds.feature_bytes(known, d) + folds.VECTORS * item * d + 4 * 8 * d
            self._add(8 * d * piece, each + (3 * item + own) * m)

    def _add(self, fixed: float, each: float) -> None:
        self._phases.append((fixed, each))

    def bytes(self, targets: int) -> int:
        """Return the bytes of a part of so many targets."""
        return round(max(fixed + targets * each for fixed, each in self._phases))

    def most(self, room: float) -> int:
        """Return the most targets, at least 1, whose part takes `room` bytes."""
        return max(1, int(min((room - fixed) // each for fixed, each in self._phases)))


def solve(
    solver: Solver,
    call: Solve,
    rows: Rows,
    settings: FitSpec,
    first: int,
    last: int,
    *,
    seed: int,
    tick: Tick,
    resume: Arrays | None = None,
) -> Solution:
    """Fit a block of targets as `call` does, in as many parts as the GPU's free memory asks for.

    A part that runs out of memory is solved again in halves. Raises SettingsError if there is no room for one target.
    """
    size = _part_size(solver, rows, settings, first, last)
    solutions, start = [], first
    while start < last:
        stop = min(start + size, last)
        whole = (start, stop) == (first, last)  # only then are its arrays those of the block
        part = of_part(tick, first, last, start, stop, keep=whole)
        arrays = resume if whole else None
        try:
            solutions.append(call(rows, settings, start, stop, seed=seed, tick=part, resume=arrays))
            start = stop
            continue
        except MemoryError:
            pass  # outside of this clause, no array is kept by the frames of the error
        release(rows.xp)
        if stop - start == 1:
            raise SettingsError(
                f"the GPU has {_unused(rows.xp) / GIB:.1f} GiB free, which is too little to fit one target of "
                f"{rows.problem.rows:,} models on {rows.problem.columns:,} columns: end what else runs on it, take a "
                "card with more memory, or fit on the CPU"
            )
        size = (stop - start + 1) // 2
        log.warning("the GPU ran out of memory; fitting fewer targets at a time", targets=size, before=stop - start)
    return problem.concatenate(iter(solutions))


def _part_size(solver: Solver, rows: Rows, settings: FitSpec, first: int, last: int) -> int:
    """Return the number of targets that free memory holds, once it holds what all targets share."""
    own, known = rows.problem.own_column[first:last] >= 0, ESTIMATORS[settings.estimator]
    by_gram = solver.grams and not own.all() and gram.applies(rows, GRAMS if known.folds else 1)
    if by_gram:
        moments.of_masks(rows)
    given = rows.problem
    phases = Phases(
        given.rows, given.columns, rows.dtype.itemsize, solver, by_gram=by_gram, own=bool(own.any()), known=known
    )
    most = min(phases.most(SHARE * _unused(rows.xp)), last - first)
    return max(part.stop - part.start for part in row_blocks.partition(slice(first, last), most))


def _unused(xp: ModuleType) -> int:
    """Return the bytes of the GPU that nothing uses, including those that the pool keeps."""
    return xp.cuda.Device().mem_info[0] + xp.get_default_memory_pool().free_bytes()


def release(xp: ModuleType) -> None:
    """Give memory that no array uses back to the GPU."""
    gc.collect()
    xp.get_default_memory_pool().free_all_blocks()
    xp.get_default_pinned_memory_pool().free_all_blocks()
