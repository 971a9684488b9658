"""What a fit will take, said beforehand: memory from what the solvers keep, seconds from a rehearsal on this machine.

Memory is what the process itself holds at the worst moment, above what it held before; the shards, which are
memory-mapped, come and go as the system likes. It is counted from d, m, n alone, so that a fit that cannot fit is
refused before it starts.

Seconds depend on the data: on how many lambdas a target looks at before its held-out error rises, and how many steps
each takes. The rehearsal is the fit itself, with the same settings, of made-up outputs (a twentieth of the columns
matter, by heavy-tailed weights that explain about half of the variance) over masks of the run's own design at two
smaller sizes, with as many rows for each column as the run has: that decides how well the Gram is conditioned. There
all else being equal, a target takes A d^2 + B d seconds. Where the outputs are there, a few targets of the run itself
tell more; see `rehearse_on`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import threadpoolctl

from datamodels.errors import SettingsError
from datamodels.fit import solve
from datamodels.fit.data import moments, problem, sums
from datamodels.fit.data.prior import Prior
from datamodels.fit.data.problem import NO_COLUMN, Problem
from datamodels.fit.data.rows import CACHE_BYTES, Rows
from datamodels.fit.data.sums import Sums
from datamodels.fit.kernels import popcount
from datamodels.fit.lasso import fista, gap, gram
from datamodels.fit.lasso import leave_out as own
from datamodels.run import designs
from datamodels.run.designs import Design
from datamodels.run.runs import Run
from datamodels.run.specs import FitSpec
from datamodels.settings import FitterSettings

REHEARSED = {"gram": (350, 1000), "stream": (250, 500), "saga": (250, 500)}
"""Columns of the rehearsals, about a second in all; a run with no more than the larger is rehearsed as it is."""
REHEARSED_TARGETS = {"gram": 256, "stream": 128, "saga": 128}
REHEARSED_MASKS = 1200
"""Columns of what is rehearsed with masks alone."""
SAMPLED_TARGETS = 64
"""Targets of a problem whose fits are timed where its outputs are there."""
MATTER, EXPLAINED = 0.05, 0.45
"""Share of the columns that matter to a made-up output, and of its variance that they explain."""
HEAP = 1.1
"""Memory that the process holds over that of its arrays, for the allocator gives back late. Measured: 0.9 to 1.3."""
SMALL_BLOCK = 32
"""Targets in a block that is proposed where memory is short; smaller ones save little and cost time."""
CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Size:
    """Of a fit.

    rows     m, models
    columns  d
    targets  n; `own` of them leave out the rows that they are in, themselves
    alpha    share of the columns in each row
    """

    rows: int
    columns: int
    targets: int
    own: int = 0
    alpha: float = 0.5

    @classmethod
    def of_run(cls, run: Run) -> Size:
        """Of the fit of all models of a run."""
        own = sum(example != problem.NOT_IN_POOL for example in run.own.tolist())
        return cls(run.spec.m, run.design.columns, run.n, own, run.spec.alpha)

    @classmethod
    def of(cls, given: Problem) -> Size:
        own = int(np.count_nonzero(given.own_column != NO_COLUMN))
        return cls(given.rows, given.columns, given.n, own, float(np.mean(given.center)))


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes, at the worst moment, above what the process held before.

    rows    the masks as floats, where they are kept so
    gram    Grams and counts
    blocks  of the targets that are solved side by side
    disk    of the scratch folder: masks, outputs, and the tables of SAGA
    """

    rows: int
    gram: int
    blocks: int
    disk: int

    @property
    def peak(self) -> int:
        return round(HEAP * (self.rows + self.gram + self.blocks))


@dataclasses.dataclass(frozen=True)
class Rates:
    """CPU seconds: `shared` once, `target` for each target."""

    shared: float
    target: float


@dataclasses.dataclass(frozen=True)
class Plan:
    """`cpu_seconds` are of all threads together, `seconds` from beginning to end with every thread at work."""

    memory: Memory
    cpu_seconds: float
    seconds: float


def plan(size: Size, settings: FitSpec, *, device: str = "cpu", threads: int = 0, block: int = 0) -> Plan:
    """What a fit of this size will take on this machine; rehearses it for a second or two."""
    rates = rehearse(size, settings, device=device)
    return of_rates(size, settings, rates, device=device, threads=threads, block=block)


def of_rates(
    size: Size, settings: FitSpec, rates: Rates, *, device: str = "cpu", threads: int = 0, block: int = 0
) -> Plan:
    """A plan from rates that are known; nothing is run."""
    workers, blocks, _ = _blocks(size, settings, device, threads, block)
    cores = threads or os.cpu_count() or 1
    solving = rates.target * size.targets
    rounds = -(-blocks // workers)  # the last of which leaves threads idle
    return Plan(
        memory=memory(size, settings, device=device, threads=threads, block=block),
        cpu_seconds=rates.shared + solving,
        seconds=rates.shared / cores + solving * rounds / blocks,
    )


def memory(size: Size, settings: FitSpec, *, device: str = "cpu", threads: int = 0, block: int = 0) -> Memory:
    """Counted from the arrays that the solvers keep; its test holds it to what they allocate."""
    m, d, item = size.rows, size.columns, solve.dtype_of(settings).itemsize
    workers, _, a = _blocks(size, settings, device, threads, block)
    floats = m * (d + 1) * item
    kept = floats <= CACHE_BYTES
    grams = settings.solver == "gram" and solve.place_of(settings, device) == "cpu"
    from_gram = grams and size.own < size.targets and gram.bytes_of(d, item) <= gram.GRAM_BYTES
    from_own = grams and size.own > 0 and own.bytes_of(m, d, item) <= own.OWN_BYTES
    streams = (size.own < size.targets and not from_gram) or (size.own > 0 and not from_own)
    known = from_gram and sums.fits(d, size.targets)
    each = _streamed(m, d, a, item, settings.solver == "saga", size.own > 0, kept) if streams else 0
    held = making = counts = 0
    if from_own:
        b = min(a, size.own)
        sums_of = max((3 * item + 2) * m * b + 40 * d * b + moments.PASS_ROWS * 8 * d, 12 * m * b)
        each = max(each, sums_of + own.bytes_of(m, d, item) + 16 * d * b)
    if from_gram:
        spare = round(settings.holdout * m)
        products = 0 if known else moments.PASS_ROWS * 8 * d
        each = max(each, (2 * item + 1) * (spare if known else m) * a + (64 + 8 * item) * d * a + products)
        counts = (4 + 2 * item + (item if spare > d else 0)) * d * d
        if known:
            held = 8 * d * d + 16 * size.targets * d
            piece = 8 * sums.PASS_ROWS
            making = max(3 * piece * size.targets, 8 * size.targets * d + piece * (size.targets + d), 4 * d * d)
        else:
            held = 8 * d * d
        if (
            known and not streams and not from_own
        ):  # of the rows only the held-out ones, and only where their Gram is dearer
            floats = spare * (d + 1) * item if spare <= d else 0
    rows = (floats if kept else 0) + (m * d // 8 if from_own else 0)
    solving = rows + counts + workers * each
    return Memory(
        rows=rows,
        gram=held + counts + max(making - solving, 0),
        blocks=workers * each,
        disk=m * (-(-d // 8) + 2 * size.targets) + (workers * 2 * item * m * a if settings.solver == "saga" else 0),
    )


def _streamed(m: int, d: int, a: int, item: int, saga: bool, own: bool, kept: bool) -> int:
    """Bytes of a block of `a` targets, of the solvers that read the rows again and again."""
    long = 2 if saga else 4  # SAGA's table and outputs are in files
    steps = long * item * m * a + (14 if saga else 20) * item * d * a + (0 if kept else fista.PASS_BYTES)
    certificate = 25 * m * a + 8 * d * a + gap.PASS_ROWS * 8 * d
    return max(steps, certificate) + (m * a if own else 0)


def check(size: Size, settings: FitSpec, how: FitterSettings, held: int) -> None:
    """Raises SettingsError where the fit takes more memory than there is; `held` bytes are taken already.

    Nothing is refused on a GPU, whose memory is not known here, nor of other estimators than the LASSO.
    """
    if settings.estimator != "lasso" or solve.place_of(settings, how.device) != "cpu":
        return
    budget = int(how.memory * GIB) or machine_memory()

    def needed(threads: int, block: int) -> int:
        return held + memory(size, settings, device=how.device, threads=threads, block=block).peak

    if needed(how.threads, how.block) <= budget:
        return
    takes = (
        f"a fit of {size.rows:,} models on {size.columns:,} columns takes {needed(how.threads, how.block) / GIB:.1f}"
    )
    takes += f" GiB of memory, and there are {budget / GIB:.1f}: "
    for threads, block in ((1, how.block), (1, SMALL_BLOCK)):
        if needed(threads, block) <= budget:
            less = f"{how.prefix}_THREADS={threads}" + (f" and {how.prefix}_BLOCK={block}" if block else "")
            raise SettingsError(f"{takes}set {less}, with which it takes {needed(threads, block) / GIB:.1f} GiB")
    raise SettingsError(
        f"{takes}give it a machine with more, or set {how.prefix}_MEMORY if it has more; one block at a time of "
        f"{SMALL_BLOCK} targets takes {needed(1, SMALL_BLOCK) / GIB:.1f} GiB"
    )


def machine_memory() -> int:
    """Bytes that this process may use: the machine's, or its control group's where that is less."""
    found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in CGROUP_LIMITS:
        with contextlib.suppress(OSError, ValueError):
            found = min(found, int(limit.read_text()))
    return found


def held_memory() -> int:
    """Bytes that this process holds without files; 0 where the system does not say."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    return 0


def _blocks(size: Size, settings: FitSpec, device: str, threads: int, block: int) -> tuple[int, int, int]:
    """(blocks at a time, blocks, targets in one)."""
    a = min(solve.block_size(size.rows, size.columns, settings, device=device, block_targets=block), size.targets)
    blocks = -(-size.targets // a)
    return min(threads or os.cpu_count() or 1, blocks), blocks, -(-size.targets // blocks)


def rehearse(size: Size, settings: FitSpec, *, device: str = "cpu") -> Rates:
    """Times smaller fits of made-up outputs like the one to come, with one thread."""
    n = min(size.targets, REHEARSED_TARGETS[settings.solver])
    sizes = [min(d, size.columns) for d in REHEARSED[settings.solver]]
    small, large = (made_up(size, d, n, settings.holdout) for d in sizes)
    solve.fit(made_up(size, min(20, size.columns), 2), settings, 0, device=device, threads=1)  # compiles
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
    """As `rehearse`, but for how much work the outputs are: that of a few targets beside made-up ones, same masks."""
    rates, size = rehearse(Size.of(given), settings, device=device), Size.of(given)
    chosen = np.linspace(0, given.n - 1, min(given.n, SAMPLED_TARGETS)).astype(int)
    part = dataclasses.replace(given, outputs=given.outputs[:, chosen], own_column=given.own_column[chosen])
    made = dataclasses.replace(part, outputs=_outputs(np.asarray(given.masks), size.columns, len(chosen)))
    return dataclasses.replace(
        rates, target=rates.target * _each(part, settings, device) / _each(made, settings, device)
    )


def made_up(size: Size, d: int, n: int, holdout: float = 0.1) -> Problem:
    """A problem of d columns, with as many rows for each as `size` has, n targets and a prior that tells nothing."""
    m = max(20, round(size.rows * d / size.columns))
    alpha = min(max(size.alpha, 1 / d), 1 - 1 / d)
    masks = designs.subsets(Design("uniform", 0, alpha, d), 0, m)
    own = round(size.own * n / size.targets)
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
    """float16[m, n] that the masks explain about half of."""
    rng = np.random.default_rng(0)
    truth = rng.standard_t(2.5, size=(d, n)) * (rng.random((d, n)) < MATTER)
    truth[rng.integers(d, size=n), np.arange(n)] += 1  # so that no target is without
    signal = designs.unpack(masks, d).astype(np.float32) @ truth.astype(np.float32)
    signal = (signal - signal.mean(axis=0)) / np.maximum(signal.std(axis=0), 1e-6)
    noise = rng.normal(size=signal.shape)
    return (signal * math.sqrt(EXPLAINED) + noise * math.sqrt(1 - EXPLAINED)).astype(np.float16)


def _each(given: Problem, settings: FitSpec, device: str) -> float:
    """CPU seconds of one target of a fit, without what all share."""

    def whole() -> None:
        known = _sums(given) if gram.from_sums(given, settings) else None
        solve.fit(given, settings, 0, device=device, threads=1, sums=known)

    with threadpoolctl.threadpool_limits(1):
        return max(_timed(whole) - sum(_shared(given, settings)), 1e-9) / given.n


def _sums(given: Problem) -> Sums:
    made = Sums.empty(given.columns, given.n)
    made.add(np.asarray(given.masks), np.asarray(given.outputs), given.heldout)
    return made


def _shared(given: Problem, settings: FitSpec) -> tuple[float, float, float]:
    """CPU seconds of what all targets share, by what they grow with: m d, m d^2 and d^2."""
    rows = Rows(given, dtype=solve.dtype_of(settings))
    with threadpoolctl.threadpool_limits(1):
        if not gram.from_sums(given, settings):
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
