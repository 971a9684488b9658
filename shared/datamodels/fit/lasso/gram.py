"""Compute exact LASSO paths of a block of targets from Grams of the masks: the solver `gram`.

Targets that count all rows share one Gram, see `shared_gram`. From 16,000 columns on, it is kept as whole numbers of 16
bits in files, see `kernels.panels`. Each target that is a training example has a Gram of its own, see `leave_out`.
Problems that are too large for either, and training examples on a GPU, are solved by `fista`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from types import ModuleType

import numpy as np

from datamodels.fit.contract.block import Arrays, Tick, of_part
from datamodels.fit.data import moments, problem
from datamodels.fit.data.moments import Spans
from datamodels.fit.data.problem import Solution
from datamodels.fit.data.rows import Rows
from datamodels.fit.lasso import fista, leave_out, shared_gram
from datamodels.fit.lasso.base import Solver
from datamodels.run.estimators import ESTIMATORS
from datamodels.run.specs import FitSpec

GRAM_BYTES = 8 * 2**30
"""Most memory of the Grams: counts of the rows to fit, of the held-out rows and of all rows, and floats of two of them.
It is enough for d = 20,000 in float32. It is the same on every machine, so that a fit takes the same solver on each."""
PANELS_FROM = 16_000
"""Columns from which the Gram is kept in panels (`kernels.panels`) in any case. At d = 8,000, m = 48,000, n = 64, a fit
takes half as long with them, and a fifth of the memory. But sums are kept for later fits only with fewer columns."""
PANEL_BYTES = 16 * 2**30
"""Most bytes of the Grams in panels: enough for d = 65,000. They are in files, which the system keeps in memory as far
as there is room. Each step of a block reads one of them once."""
DEVICE_SHARE = 0.7
"""Most memory of the Grams on a GPU, as a fraction of its memory: enough for d = 50,000 on one of 80 GB."""


def applies(rows: Rows, together: int = 1) -> bool:
    """Tell whether targets that share a Gram are solved from it.

    together  how many such Grams a GPU has to hold at the same time
    """
    return fits(rows.problem.columns, rows.dtype.itemsize, rows.xp, together)


def fits(columns: int, itemsize: int, xp: ModuleType = np, together: int = 1) -> bool:
    """Tell what `applies` does, from the size of a problem."""
    times = 1 if xp is np else together
    return times * bytes_of(columns, itemsize) <= most_bytes(xp)


def bytes_of(columns: int, itemsize: int) -> int:
    """Return the bytes of the Grams of the masks, while they are made."""
    return columns**2 * (3 * 4 + 2 * itemsize)


def spans(rows: Rows, settings: FitSpec) -> Spans | None:
    """Return the moments from which targets that share a Gram are solved; None if they are streamed."""
    if not rows.fit.stop:
        return None  # no target can be fitted
    if rows.xp is np and rows.sums is None and in_panels(settings, rows.problem.columns, rows.dtype.itemsize):
        found = moments.in_panels(rows)
        if found is not None:
            return found
    return moments.of_masks(rows) if applies(rows) else None


def in_panels(settings: FitSpec, columns: int, itemsize: int) -> bool:
    """Tell whether the Gram is kept in panels, on a CPU. Estimators that use it elsewhere, too, need floats."""
    alone = ESTIMATORS[settings.estimator].solver
    better = (alone and columns >= PANELS_FROM) or bytes_of(columns, itemsize) > GRAM_BYTES
    return better and panel_bytes_of(columns) <= PANEL_BYTES


def panel_bytes_of(columns: int) -> int:
    """Return the bytes of the Grams in panels, of the rows to fit and of all rows."""
    return 2 * np.dtype(np.int16).itemsize * columns**2


def most_bytes(xp: ModuleType) -> float:
    """Return the most bytes that Grams may take on the device of an array module."""
    return DEVICE_SHARE * xp.cuda.Device().mem_info[1] if xp.__name__ == "cupy" else GRAM_BYTES


def solve(
    rows: Rows,
    settings: FitSpec,
    first: int,
    last: int,
    *,
    seed: int,
    tick: Tick,
    resume: Arrays | None = None,
    factor: Callable[[np.ndarray], np.ndarray] | None = None,
) -> Solution:
    """Fit a block of targets; see `contract.block.Solve`.

    An interrupted block starts again, unless `fista` solves all of it.

    factor  returns penalty factors [t, d] of targets int64[t] that share a Gram; None if the penalty has none
    """

    def streamed(start: int, stop: int) -> Solution:
        alone = (start, stop) == (first, last)  # otherwise the arrays could be those of another part
        return fista.solve(
            rows,
            settings,
            start,
            stop,
            seed=seed,
            tick=of_part(tick, first, last, start, stop, keep=alone),
            resume=resume if alone else None,
        )

    def one_kind(start: int, stop: int, is_own: bool) -> Solution:
        part = of_part(tick, first, last, start, stop, keep=False)
        if is_own and leave_out.applies(rows):
            solution, left = leave_out.solve(rows, settings, start, stop, tick=part)
            return completed(solution, left, lambda a, b: streamed(start + a, start + b))
        if not is_own:
            found = spans(rows, settings)
            if found is not None:
                return shared_gram.solve(rows, settings, start, stop, spans=found, tick=part, factor=factor)
        return streamed(start, stop)

    runs = _runs(rows.problem.own_column[first:last] >= 0)
    return problem.concatenate(one_kind(first + a, first + b, is_own) for a, b, is_own in runs)


def completed(solution: Solution, left: np.ndarray, solve: Callable[[int, int], Solution]) -> Solution:
    """Return the solution with the targets `left`, bool[n], replaced by what `solve(first, last)` returns for them."""
    return problem.concatenate(
        solve(first, last) if missing else problem.rows_of(solution, first, last)
        for first, last, missing in _runs(left)
    )


def _runs(kinds: np.ndarray) -> Iterator[tuple[int, int, bool]]:
    """Yield (first, last, kind) of the longest runs of one kind, bool[n], in order."""
    bounds = [0, *(np.flatnonzero(np.diff(kinds)) + 1).tolist(), len(kinds)]
    return ((a, b, bool(kinds[a])) for a, b in itertools.pairwise(bounds))


SOLVER = Solver(solve, trial_columns=(350, 1000), trial_targets=256, grams=True)
