"""Predict the time that a fit takes, by a rehearsal on this machine.

The time depends on the data: on how many lambdas a target tries before its held-out error rises, and on how many steps
each lambda takes. The rehearsal is the fit itself, with the same settings, of made-up outputs: a twentieth of the
columns matter, by heavy-tailed weights that explain about half of the variance. Masks are drawn at the run's alpha, at
two smaller sizes, with as many rows for each column as the run has, because that decides how well the Gram is
conditioned. All else being equal, a target takes A d^2 + B d seconds. If the outputs exist, a few targets of the run
itself tell more; see `rehearse_on`.
"""

from __future__ import annotations

import dataclasses
import math
import os
import time
from collections.abc import Callable

import numpy as np
import threadpoolctl

from datamodels.fit import memory
from datamodels.fit.data import moments, problem
from datamodels.fit.data.prior import Prior
from datamodels.fit.data.problem import NO_COLUMN, Problem
from datamodels.fit.data.rows import Rows
from datamodels.fit.data.sums import Sums
from datamodels.fit.estimators.base import solver_of, uses_sums
from datamodels.fit.kernels import popcount
from datamodels.fit.memory import Memory, Size
from datamodels.fit.solve import dtype_of
from datamodels.fit.solve import fit as solve
from datamodels.run import designs
from datamodels.run.designs import Design
from datamodels.run.specs import FitSpec

REHEARSED_MASKS = 1200
"""Columns of rehearsals that take masks alone."""
SAMPLED_TARGETS = 64
"""Targets whose fits are timed if there are outputs."""
MATTER, EXPLAINED = 0.05, 0.45
"""Fraction of the columns that matter to a made-up output, and of its variance that they explain."""


@dataclasses.dataclass(frozen=True)
class Rates:
    """CPU seconds of a fit: `shared` once, `target` for each target."""

    shared: float
    target: float


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a fit takes. `cpu_seconds` are those of all threads, `seconds` the time from start to end."""

    memory: Memory
    cpu_seconds: float
    seconds: float


def plan(size: Size, settings: FitSpec, *, device: str = "cpu", threads: int = 0, block: int = 0) -> Plan:
    """Predict what a fit of this size takes on this machine. Rehearses it for a second or two."""
    rates = rehearse(size, settings, device=device)
    return of_rates(size, settings, rates, device=device, threads=threads, block=block)


def of_rates(
    size: Size, settings: FitSpec, rates: Rates, *, device: str = "cpu", threads: int = 0, block: int = 0
) -> Plan:
    """Return a plan from known rates; nothing is run."""
    workers, blocks, _ = memory.blocks(size, settings, device, threads, block)
    cores = threads or os.cpu_count() or 1
    solving = rates.target * size.targets
    rounds = -(-blocks // workers)  # some threads are idle in the last
    return Plan(
        memory=memory.memory(size, settings, device=device, threads=threads, block=block),
        cpu_seconds=rates.shared + solving,
        seconds=rates.shared / cores + solving * rounds / blocks,
    )


def rehearse(size: Size, settings: FitSpec, *, device: str = "cpu") -> Rates:
    """Time smaller fits of made-up outputs with one thread, and return the rates of a fit of this size."""
    solver = solver_of(settings)
    n = min(size.targets, solver.rehearsed_targets)
    sizes = [min(d, size.columns) for d in solver.rehearsed]
    small, large = (made_up(size, d, n, settings.holdout) for d in sizes)
    solve(made_up(size, min(20, size.columns), 2), settings, 0, device=device, threads=1)  # compiles
    times = [_each(given, settings, device) for given in (small, large)]
    each = [seconds / given.columns for seconds, given in zip(times, (small, large), strict=True)]
    wider = large.columns - small.columns
    square = max(each[1] - each[0], 0) / wider if wider else each[1] / large.columns
    linear = max(each[1] - square * large.columns, 0)
    masks = made_up(size, min(size.columns, REHEARSED_MASKS), 1)
    floats, counts, squares = _shared(masks, settings)
    wide, tall = size.columns / masks.columns, size.rows / masks.rows
    return Rates(
        shared=floats * wide * tall + counts * wide**2 * tall + squares * wide**2,
        target=square * size.columns**2 + linear * size.columns,
    )


def rehearse_on(given: Problem, settings: FitSpec, *, device: str = "cpu") -> Rates:
    """Rehearse a fit, and scale the rates by the times of a few of its targets over those of made-up ones."""
    rates, size = rehearse(Size.of(given), settings, device=device), Size.of(given)
    chosen = np.linspace(0, given.n - 1, min(given.n, SAMPLED_TARGETS)).astype(int)
    part = dataclasses.replace(given, outputs=given.outputs[:, chosen], own_column=given.own_column[chosen])
    made = dataclasses.replace(part, outputs=_outputs(np.asarray(given.masks), size.columns, len(chosen)))
    return dataclasses.replace(
        rates, target=rates.target * _each(part, settings, device) / _each(made, settings, device)
    )


def made_up(size: Size, d: int, n: int, holdout: float = 0.1) -> Problem:
    """Make a problem of d columns, as many rows per column as `size` has, n targets and a prior that tells nothing."""
    m = max(20, round(size.rows * d / size.columns))
    alpha = min(max(size.alpha, 1 / d), 1 - 1 / d)
    masks = designs.subsets(Design("uniform", 0, alpha, d), 0, m)
    own = round(size.leave_out * n / size.targets)
    return Problem(
        masks=masks,
        outputs=_outputs(masks, d, n),
        columns=d,
        center=np.full(d, alpha, dtype=np.float32),
        own_column=np.where(np.arange(n) < n - own, NO_COLUMN, np.arange(n) % d).astype(np.int32),
        heldout=problem.is_heldout(np.arange(m), holdout),
        prior=Prior(np.ones((n, 1), dtype=np.float32), np.ones((d, 1), dtype=np.float32)),
    )


def _outputs(masks: np.ndarray, d: int, n: int) -> np.ndarray:
    """Return outputs float16[m, n], of which the masks explain about half."""
    rng = np.random.default_rng(0)
    truth = rng.standard_t(2.5, size=(d, n)) * (rng.random((d, n)) < MATTER)
    truth[rng.integers(d, size=n), np.arange(n)] += 1  # so that each target has some
    signal = designs.unpack(masks, d).astype(np.float32) @ truth.astype(np.float32)
    signal = (signal - signal.mean(axis=0)) / np.maximum(signal.std(axis=0), 1e-6)
    noise = rng.normal(size=signal.shape)
    return (signal * math.sqrt(EXPLAINED) + noise * math.sqrt(1 - EXPLAINED)).astype(np.float16)


def _each(given: Problem, settings: FitSpec, device: str) -> float:
    """Return the CPU seconds of one target of a fit, without what all targets share."""

    def whole() -> None:
        known = _sums(given) if uses_sums(given, settings) else None
        solve(given, settings, 0, device=device, threads=1, sums=known)

    with threadpoolctl.threadpool_limits(1):
        return max(_timed(whole) - sum(_shared(given, settings)), 1e-9) / given.n


def _sums(given: Problem) -> Sums:
    made = Sums.empty(given.columns, given.n)
    made.add(np.asarray(given.masks), np.asarray(given.outputs), given.heldout)
    return made


def _shared(given: Problem, settings: FitSpec) -> tuple[float, float, float]:
    """Return the CPU seconds of what all targets share, by what they grow with: m d, m d^2 and d^2."""
    rows = Rows(given, dtype=dtype_of(settings))
    with threadpoolctl.threadpool_limits(1):
        if not uses_sums(given, settings):
            return _timed(lambda: rows.block(rows.whole)), 0.0, 0.0
        counts = _timed(lambda: popcount.gram(given.masks, given.columns))
        rows.sums = sums = _sums(
            dataclasses.replace(given, outputs=given.outputs[:, :1], own_column=given.own_column[:1])
        )
        reading = _timed(lambda: sums.add(given.masks, given.outputs[:, :1], given.heldout))
        return max(reading - counts, 0), counts, _timed(lambda: moments.of_masks(rows))


def _timed(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start
