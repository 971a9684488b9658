"""Predict the time that a fit takes, by timing two small fits on this machine.

The time depends on the data: on how many lambdas a target tries before its held-out error rises, and on how many steps
each lambda takes. The small fits have the settings of the real one, and made-up outputs: a twentieth of the columns
matter, with heavy-tailed weights that explain about half of the variance. Their masks are drawn at the run's alpha and
have as many rows for each column as the run, because this ratio decides how well the Gram is conditioned. A target
takes A d^2 + B d seconds; two sizes determine A and B. If the run has outputs, `measure_rates_on` also times a few of
its own targets, which is more accurate.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import time
from collections.abc import Callable, Sequence

import numpy as np
import threadpoolctl

from datamodels import machine
from datamodels.fit import memory
from datamodels.fit.data import moments
from datamodels.fit.data.problem import NO_COLUMN, Problem, is_heldout
from datamodels.fit.data.rows import Rows, measured_rows
from datamodels.fit.data.sums import Sums
from datamodels.fit.estimators.base import made_up_prior, solver_of, sums_of, uses_sums
from datamodels.fit.kernels import popcount
from datamodels.fit.lasso import gram, leave_out, shared_gram
from datamodels.fit.memory import Memory, Size
from datamodels.fit.pairs.pairs import Pairs
from datamodels.fit.residual import folds
from datamodels.fit.solve import array_module, dtype_of, place_of
from datamodels.fit.solve import fit as solve
from datamodels.run import designs, precision
from datamodels.run.designs import Design
from datamodels.run.estimators import ESTIMATORS, STREAM
from datamodels.run.specs import FitSpec

TRIAL_MASK_COLUMNS = 1200
"""Columns of the problem on which the work on masks is timed."""
TRIAL_WEIGHTS = 2**18
"""Most weights of one problem that is timed. Those of the panels below are timed apart."""
PANEL_TRIAL_COLUMNS = (2304, 4608)
"""Columns of the problems on which fits from a Gram in panels are timed: more than `sums.LOOKUP_FROM`."""
PANEL_TRIAL_TARGETS = 64
"""Most targets of these problems: as many as a block of the fit has. Each column of the Gram is read once for all."""
SAMPLED_TARGETS = 64
"""Targets of the run whose fits `measure_rates_on` times."""
MATTER, EXPLAINED = 0.05, 0.45
"""Fraction of the columns that matter to a made-up output, and of its variance that they explain."""


@dataclasses.dataclass(frozen=True)
class Rates:
    """CPU seconds of a fit.

    shared  for all targets together
    target  for each target, besides
    """

    shared: float
    target: float


@dataclasses.dataclass(frozen=True)
class Plan:
    """Memory and time of a fit.

    cpu_seconds  sum over all threads
    seconds      time from start to end
    """

    memory: Memory
    cpu_seconds: float
    seconds: float


@dataclasses.dataclass(frozen=True)
class Pods:
    """Time and bytes of a fit whose blocks of targets are shared by pods, each of them a machine like this one.

    pods        number of pods: at most one for each block
    seconds     time from start to end
    hours       hours of all pods together, on which the cost depends
    read_bytes  bytes that each pod reads from the store
    disk_bytes  bytes that each pod needs on its disk
    """

    pods: int
    seconds: float
    hours: float
    read_bytes: int
    disk_bytes: int


def plan(size: Size, settings: FitSpec, *, device: str = "cpu", threads: int = 0, block: int = 0) -> Plan:
    """Predict the memory and time of a fit of this size on this machine. Times small fits for a second or two."""
    rates = measure_rates(size, settings, device=device)
    return of_rates(size, settings, rates, device=device, threads=threads, block=block)


def of_rates(
    size: Size, settings: FitSpec, rates: Rates, *, device: str = "cpu", threads: int = 0, block: int = 0
) -> Plan:
    """Compute a plan from known rates."""
    workers, blocks, _ = memory.blocks(size, settings, device, threads, block)
    cores = threads or machine.cores()
    solving = rates.target * size.targets
    rounds = -(-blocks // workers)  # some threads are idle in the last
    return Plan(
        memory=memory.memory(size, settings, device=device, threads=threads, block=block),
        cpu_seconds=rates.shared + solving,
        seconds=rates.shared / cores + solving * rounds / blocks,
    )


def on_pods(
    size: Size, settings: FitSpec, rates: Rates, pods: int, *, device: str = "cpu", threads: int = 0, block: int = 0
) -> Pods:
    """Compute what a fit takes that pods share. Each of them reads all outputs, and does the work on the masks."""
    workers, blocks, _ = memory.blocks(size, settings, device, threads, block)
    pods, cores = min(pods, blocks), threads or machine.cores()
    mine = -(-blocks // pods)
    solving = rates.target * size.targets / blocks  # of a block, by one thread
    seconds = rates.shared / cores + solving * -(-mine // min(workers, mine))
    found = memory.memory(size, settings, device=device, threads=threads, block=block)
    return Pods(pods, seconds, pods * seconds / 3600, size.rows * memory.OUTPUT_BYTES * size.targets, found.disk)


def rehearsed(size: Size, settings: FitSpec, device: str) -> FitSpec:
    """Return the settings by which small fits are timed: those of `stream` if the fit is too large for its solver."""
    solver = solver_of(settings)
    if not (ESTIMATORS[settings.estimator].solver and solver.grams and place_of(settings, device) == "cpu"):
        return settings
    item = dtype_of(settings).itemsize
    shared = size.leave_out == size.targets or gram.bytes_of(size.columns, item) <= gram.GRAM_BYTES
    own = not size.leave_out or leave_out.bytes_of(size.rows, size.columns, item) <= leave_out.LEAVE_OUT_BYTES
    return settings if shared and own else settings.model_copy(update={"solver": STREAM})


def measure_rates(size: Size, settings: FitSpec, *, device: str = "cpu") -> Rates:
    """Time small fits of made-up outputs with one thread, and extrapolate the rates to a fit of this size."""
    if in_panels(size, settings, device):
        return _panel_rates(size, settings)
    settings = rehearsed(size, settings, device)
    solver = solver_of(settings)
    sizes = [min(d, size.columns) for d in solver.trial_columns]
    n = min(size.targets, solver.trial_targets, max(1, TRIAL_WEIGHTS // sizes[-1]))
    if _packed(settings, device):
        n = min(n, memory.blocks(size, settings, device, 0, 0)[2])
    small, large = (made_up(size, d, n, settings) for d in sizes)
    solve(made_up(size, min(20, size.columns), 2, settings), settings, 0, device=device, threads=1)  # compiles
    choices = [0.0, 0.0]
    if ESTIMATORS[settings.estimator].folds:  # features are computed once, so choices have problems of their own
        choices = [_choice_seconds(made_up(size, d, n, settings), settings, device) for d in sizes]
    times = [_target_seconds(made, settings, device, c) for made, c in zip((small, large), choices, strict=True)]
    masks = made_up(size, min(size.columns, TRIAL_MASK_COLUMNS), 1, settings)
    once, counts, squares = _shared_seconds(masks, settings)
    wide, tall = size.columns / masks.columns, size.rows / masks.rows
    if _packed(settings, device):
        tall = _measured(size.rows, size.columns) / _measured(masks.rows, masks.columns)
    return Rates(
        shared=once * wide * tall
        + counts * wide**2 * tall
        + squares * wide**2
        + _extrapolated(choices, (small.columns, large.columns), size.columns),
        target=_extrapolated(times, (small.columns, large.columns), size.columns),
    )


def in_panels(size: Size, settings: FitSpec, device: str) -> bool:
    """Tell whether all targets of a fit are solved from a Gram in panels."""
    by_gram = (
        ESTIMATORS[settings.estimator].solver and solver_of(settings).grams and place_of(settings, device) == "cpu"
    )
    return by_gram and not size.leave_out and gram.in_panels(settings, size.columns, dtype_of(settings).itemsize)


def _panel_rates(size: Size, settings: FitSpec) -> Rates:
    """Time fits of two sizes from Grams in panels. Their work on masks grows with m d^2, that of a target with d^2.

    The small fits have fewer rows than a large one counts at a time, so each row takes longer. So counting is timed on
    as many rows.
    """
    from datamodels.fit.kernels import panels

    times, shared, (_, _, targets) = [], 0.0, memory.blocks(size, settings, "cpu", 0, 0)
    sizes = [min(d, size.columns) for d in PANEL_TRIAL_COLUMNS]
    for d in (sizes[0], *sizes):  # the first time, loops are compiled
        made = made_up(size, d, min(targets, PANEL_TRIAL_TARGETS), settings)
        rows = Rows(made, dtype=dtype_of(settings))
        with threadpoolctl.threadpool_limits(1):
            spans = moments.in_panels(rows)
            if spans is None:
                raise ValueError(f"the masks of {made.rows} made-up models do not fit in panels")
            edge = _timed(functools.partial(moments.edge_of, spans.fit.gram))
            masks = np.resize(made.masks, (moments.PANEL_ROWS, made.masks.shape[1]))
            values = np.full((-(-d // panels.WIDTH), d, panels.WIDTH), 0, dtype=np.int16)  # zeros that are in memory
            counted = functools.partial(panels.add_counts, values, made.center > 0, [masks], size.alpha**2, 1)
            counting = _timed(counted)
            solve_all = functools.partial(shared_gram.solve, rows, settings, 0, made.n, spans=spans)
            solving = _timed(functools.partial(solve_all, tick=lambda progress: None, factor=None))
        wide = size.columns / d
        shared = (counting * size.rows / moments.PANEL_ROWS + edge) * wide**2
        times.append(solving / made.n)
    return Rates(shared=shared, target=_extrapolated(times[1:], sizes, size.columns))


def _extrapolated(seconds: Sequence[float], columns: Sequence[int], d: int) -> float:
    """Return A d^2 + B d, with A and B from the seconds at two numbers of columns, neither below 0."""
    each = [taken / c for taken, c in zip(seconds, columns, strict=True)]
    wider = columns[1] - columns[0]
    square = max(each[1] - each[0], 0) / wider if wider else each[1] / columns[1]
    return square * d**2 + max(each[1] - square * columns[1], 0) * d


def measure_rates_on(problem: Problem, settings: FitSpec, *, device: str = "cpu") -> Rates:
    """Measure the rates on a few targets of a problem.

    Scales the rates of made-up outputs by the ratio of the times: real targets over made-up ones, on the same masks.
    """
    rates, size = measure_rates(Size.of(problem), settings, device=device), Size.of(problem)
    chosen = np.linspace(0, problem.n - 1, min(problem.n, SAMPLED_TARGETS)).astype(int)
    part = dataclasses.replace(problem, outputs=problem.outputs[:, chosen], own_column=problem.own_column[chosen])
    made = dataclasses.replace(part, outputs=_outputs(np.asarray(problem.masks), size.columns, len(chosen)))
    if isinstance(problem.prior, Pairs):
        problem.prior.of(np.zeros(1, dtype=np.int64))  # makes the models behind the features, once for all fits

    def each(of: Problem) -> float:
        return _target_seconds(of, settings, device, _choice_seconds(of, settings, device))

    return dataclasses.replace(rates, target=rates.target * each(part) / each(made))


def made_up(size: Size, d: int, n: int, settings: FitSpec) -> Problem:
    """Make a problem of d columns and n targets, with as many rows per column as `size` has."""
    m = max(20, round(size.rows * d / size.columns))
    alpha = min(max(size.alpha, 1 / d), 1 - 1 / d)
    masks = designs.subsets(Design("uniform", 0, alpha, d), 0, m, compiled_from=0)  # a fit loads a compiler anyway
    own = round(size.leave_out * n / size.targets)
    return Problem(
        masks=masks,
        outputs=_outputs(masks, d, n),
        columns=d,
        center=np.full(d, alpha, dtype=np.float32),
        own_column=np.where(np.arange(n) < n - own, NO_COLUMN, np.arange(n) % d).astype(np.int32),
        heldout=is_heldout(np.arange(m), settings.holdout),
        prior=made_up_prior(settings, n, d),
    )


def _outputs(masks: np.ndarray, d: int, n: int) -> np.ndarray:
    """Make outputs [m, n] in the type that runs store; the masks explain about half of their variance."""
    rng = np.random.default_rng(0)
    truth = rng.standard_t(2.5, size=(d, n)) * (rng.random((d, n)) < MATTER)
    truth[rng.integers(d, size=n), np.arange(n)] += 1  # each target has at least one weight
    signal = designs.unpack(masks, d).astype(np.float32) @ truth.astype(np.float32)
    signal = (signal - signal.mean(axis=0)) / np.maximum(signal.std(axis=0), 1e-6)
    noise = rng.normal(size=signal.shape)
    return (signal * math.sqrt(EXPLAINED) + noise * math.sqrt(1 - EXPLAINED)).astype(precision.DTYPE)


def _choice_seconds(problem: Problem, settings: FitSpec, device: str) -> float:
    """Time the choice that an estimator makes for all targets together; 0 if it makes none."""
    if not ESTIMATORS[settings.estimator].folds:
        return 0.0
    pairs = problem.prior if isinstance(problem.prior, Pairs) else None
    with threadpoolctl.threadpool_limits(1):
        xp = array_module(device)
        known = sums_of(problem, settings) if xp is np else None
        rows = Rows(problem, xp=xp, dtype=dtype_of(settings), sums=known)
        return _timed(lambda: folds.choose(rows, pairs, settings, lambda: None))


def _target_seconds(problem: Problem, settings: FitSpec, device: str, choice: float) -> float:
    """Time a fit; return its CPU seconds for each target, without the work that all targets share.

    choice  CPU seconds of `_choice_seconds`, which are part of that work
    """

    together = problem.n if _packed(settings, device) else 0  # targets share a step

    def fit() -> None:
        known = sums_of(problem, settings)
        solve(problem, settings, 0, device=device, threads=1, block_targets=together, sums=known)

    with threadpoolctl.threadpool_limits(1):
        return max(_timed(fit) - choice - sum(_shared_seconds(problem, settings)), 1e-9) / problem.n


def _sums(problem: Problem) -> Sums:
    made = Sums.empty(problem.columns, problem.n)
    made.add(np.asarray(problem.masks), np.asarray(problem.outputs), problem.heldout)
    return made


def _packed(settings: FitSpec, device: str) -> bool:
    """Tell whether a fit reads packed masks in each step. It then makes no floats of them, but to measure curvature."""
    solver, alone = solver_of(settings), ESTIMATORS[settings.estimator].solver
    streamed = alone and not solver.grams and not solver.table
    return streamed and dtype_of(settings) == np.float32 and place_of(settings, device) == "cpu"


def _measured(rows: int, columns: int) -> int:
    return measured_rows(rows, columns, np.dtype(np.float32).itemsize)


def _shared_seconds(problem: Problem, settings: FitSpec) -> tuple[float, float, float]:
    """Time the work that all targets share.

    Returns the CPU seconds of the parts that grow with m d, m d^2 and d^2. If masks stay packed (`_packed`), the first
    part grows with the rows on which curvature is measured, instead of m.
    """
    rows = Rows(problem, dtype=dtype_of(settings))
    with threadpoolctl.threadpool_limits(1):
        if _packed(settings, "cpu"):
            return _timed(rows.curvature), 0.0, 0.0
        if not uses_sums(problem, settings):
            return _timed(lambda: rows.block(rows.whole)), 0.0, 0.0
        counts = _timed(lambda: popcount.gram(problem.masks, problem.columns))
        rows.sums = sums = _sums(
            dataclasses.replace(problem, outputs=problem.outputs[:, :1], own_column=problem.own_column[:1])
        )
        reading = _timed(lambda: sums.add(problem.masks, problem.outputs[:, :1], problem.heldout))
        return max(reading - counts, 0), counts, _timed(lambda: moments.of_masks(rows))


def _timed(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start
