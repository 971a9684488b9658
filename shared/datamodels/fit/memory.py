"""Compute the memory that a fit needs, and refuse a fit that needs more than the machine has.

It is the most memory that the process holds at any time, above what it held before. Memory-mapped shards do not count:
the system drops them when it needs the memory. It is computed from d, m and n alone.
"""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from pathlib import Path
from types import ModuleType

import numpy as np

from datamodels import machine
from datamodels.errors import SettingsError
from datamodels.fit import device as on_device
from datamodels.fit.data import moments, problem, scratch, sums
from datamodels.fit.data import rows as row_blocks
from datamodels.fit.data.problem import NO_COLUMN, Problem
from datamodels.fit.data.rows import CACHE_BYTES, DEVICE_MASKS
from datamodels.fit.estimators import base
from datamodels.fit.lasso import fista, gap, gram, leave_out
from datamodels.fit.pairs import pairs
from datamodels.fit.residual import folds
from datamodels.fit.residual import lasso as residual
from datamodels.fit.residual.sample import GRAMS
from datamodels.fit.solve import array_module, block_size, dtype_of, place_of
from datamodels.run import precision
from datamodels.run.estimators import ESTIMATORS
from datamodels.run.runs import Run
from datamodels.run.specs import FitSpec
from datamodels.settings import FitterSettings

HEAP = 1.1
"""Memory of the process over that of its arrays, because the allocator returns it late. Measured: 0.9 to 1.3."""
SMALL_BLOCK = 32
"""Size of blocks that an error proposes if memory is short; smaller blocks save little and cost time."""
OUTPUT_BYTES = np.dtype(precision.DTYPE).itemsize
GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Size:
    """The size of a fit.

    rows       m, the number of models
    columns    d
    targets    n
    leave_out  number of targets that are training examples, whose fits leave out rows
    alpha      fraction of the columns in each row
    """

    rows: int
    columns: int
    targets: int
    leave_out: int = 0
    alpha: float = 0.5

    @classmethod
    def of_run(cls, run: Run) -> Size:
        """Return the size of the fit of all models of a run."""
        own = sum(example != problem.NOT_IN_POOL for example in run.own.tolist())
        return cls(run.spec.m, run.design.columns, run.n, own, run.spec.alpha)

    @classmethod
    def of(cls, given: Problem) -> Size:
        own = int(np.count_nonzero(given.own_column != NO_COLUMN))
        return cls(given.rows, given.columns, given.n, own, float(np.mean(given.center)))


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes at the peak, above what the process held before.

    rows    the masks as floats, if these are kept
    gram    Grams and counts
    blocks  the blocks of targets that are solved in parallel
    disk    the scratch folder: masks, outputs, tables of residuals, and Grams in panels
    """

    rows: int
    gram: int
    blocks: int
    disk: int

    @property
    def peak(self) -> int:
        return round(HEAP * (self.rows + self.gram + self.blocks))


def memory(size: Size, settings: FitSpec, *, device: str = "cpu", threads: int = 0, block: int = 0) -> Memory:
    """Return the memory of a fit, from the arrays that the solvers keep. A test compares it with what they allocate."""
    m, d, item = size.rows, size.columns, dtype_of(settings).itemsize
    workers, _, a = blocks(size, settings, device, threads, block)
    if place_of(settings, device) == "cuda":
        return _on_gpu(size, settings, a, array_module(device))
    solver = base.solver_of(settings)
    floats = m * (d + 1) * item
    kept = floats <= CACHE_BYTES
    shared, grams = size.targets - size.leave_out, solver.grams
    by_panels = grams and shared > 0 and gram.in_panels(settings, d, item)
    by_gram = grams and shared > 0 and not by_panels and gram.bytes_of(d, item) <= gram.GRAM_BYTES
    by_leave_out = grams and size.leave_out > 0 and leave_out.bytes_of(m, d, item) <= leave_out.LEAVE_OUT_BYTES
    by_rows = (shared > 0 and not by_gram and not by_panels) or (size.leave_out > 0 and not by_leave_out)
    known = by_gram and sums.fits(d, size.targets)
    packed = not solver.table and item == moments.SINGLE  # `fista` then makes no floats of the masks
    each = _by_rows(m, d, a, item, solver.table, size.leave_out > 0, kept, packed) if by_rows else 0
    held = making = counts = 0
    if by_rows:
        making = row_blocks.measured_rows(m, d, item) * (item + 1) * d
    if by_leave_out:
        b = min(a, size.leave_out)
        products = max((3 * item + 2) * m * b + 40 * d * b + moments.PASS_ROWS * 8 * d, 12 * m * b)
        each = max(each, products + leave_out.bytes_of(m, d, item) + 16 * d * b)
    if by_gram:
        spare = round(settings.holdout * m)
        products = 0 if known else moments.PASS_ROWS * 8 * d
        each = max(each, (2 * item + 1) * (0 if known else m) * a + (64 + 8 * item) * d * a + products)
        counts = (4 + 2 * item + (item if known or spare > d else 0)) * d * d
        held = 8 * d * d
        if known:
            held += 16 * size.targets * d
            piece = 8 * sums.PASS_ROWS
            making = max(3 * piece * size.targets, 8 * size.targets * d + piece * (size.targets + d), 4 * d * d)
    if by_panels:
        spare, piece = round(settings.holdout * m), min(m, row_blocks.MEASURED_ROWS)
        adding = (2 * item + 1) * m * a + 3 * 8 * piece * a + 16 * d * a
        walking = (2 * item + 1) * m * a + 3 * 8 * spare * a + (40 + 8 * item) * d * a
        each = max(each, adding, walking)
        held = spare * d // 8
        making = max(making, 2 * min(m, moments.PANEL_ROWS) * d // 8)
    unpacked = by_leave_out or (by_gram and not known) or (by_rows and not packed)
    if ESTIMATORS[settings.estimator].folds:
        unpacked = unpacked or by_rows or by_panels
    rows = (floats if kept and unpacked else 0) + (m * d // 8 if by_leave_out else 0)
    if ESTIMATORS[settings.estimator].folds:
        features = folds.feature_bytes(ESTIMATORS[settings.estimator], d)
        making += pairs.bytes_of(d) if features else 0
        making += folds.bytes_of(m, d, size.targets, features, item, known=known)
        if known:
            held += folds.FEWEST_FOLDS * (4 * d * d + 8 * size.targets * d)
        if shared > 0 and not by_gram and kept:  # the rest beside a prior is then fitted by the rows, as by `fista`
            each = max(each, _by_rows(m, d, a, item, False, False, kept, packed) + item * (m + d) * a)
        each += a * (features + folds.VECTORS * item * d)
    solving = rows + counts + workers * each
    return Memory(
        rows=rows,
        gram=held + counts + max(making - solving, 0),
        blocks=workers * each,
        disk=m * (-(-d // 8) + OUTPUT_BYTES * size.targets)
        + (workers * 2 * item * m * a if solver.table else 0)
        + (gram.panel_bytes_of(d) if by_panels else 0),
    )


def _on_gpu(size: Size, settings: FitSpec, block: int, xp: ModuleType) -> Memory:
    """Return the memory of a fit on a GPU, which solves a block of targets in parts if it has to."""
    m, d, item, solver = size.rows, size.columns, dtype_of(settings).itemsize, base.solver_of(settings)
    card, own = xp.cuda.Device().mem_info[1], size.leave_out > 0
    known, shared = ESTIMATORS[settings.estimator], size.leave_out < size.targets
    together = GRAMS if known.folds else 1
    by_gram = solver.grams and shared and together * gram.bytes_of(d, item) <= gram.most_bytes(xp)
    packed, floats, spare = m * -(-d // 8), m * (d + 1) * item, round(settings.holdout * m)
    rows = packed if packed <= DEVICE_MASKS * card else 0
    if by_gram:
        rows += spare * (d + 1) * item if spare <= d else 0
    if own or not by_gram:
        rows += floats if floats <= CACHE_BYTES else 0
    grams, held = (gram.bytes_of(d, item), (8 + 2 * item) * d * d) if by_gram else (0, 0)
    choosing = folds.bytes_of(m, d, size.targets, folds.feature_bytes(known, d), item) if known.folds else 0
    if known.folds and by_gram:
        choosing += gram.bytes_of(d, item)  # of the rows without a fold, and without those that it holds out in turn
    phases = on_device.Phases(m, d, item, solver, by_gram=by_gram, own=own, known=known)
    part = phases.bytes(min(block, phases.most(on_device.SHARE * (card - rows - held))))
    return Memory(
        rows=rows,
        gram=grams,
        blocks=max(part - (grams - held), choosing, 0),  # the Grams take less once they are made
        disk=m * (-(-d // 8) + OUTPUT_BYTES * size.targets),
    )


def _by_rows(m: int, d: int, a: int, item: int, table: bool, masked: bool, kept: bool, packed: bool) -> int:
    """Return the bytes of a block of `a` targets by a solver that reads the rows again in each epoch."""
    long, piece = 2 if table else 4, 40 * m // -(-m // gap.PASS_ROWS) * a  # the table and the outputs are in files
    steps = long * item * m * a + (14 if table else 20) * item * d * a
    steps += piece if packed else 0 if kept else fista.PASS_BYTES
    certificate = max(28 * m * a, 20 * m * a + piece) + 40 * d * a
    return max(steps, certificate) + (m * a if masked else 0)


def untried(size: Size, settings: FitSpec, device: str) -> str:
    """Return why a fit tries no way with one lambda for all targets, for people; empty if it does, or never would."""
    if not ESTIMATORS[settings.estimator].folds:
        return ""
    xp = array_module(device) if place_of(settings, device) == "cuda" else np
    sizes = size.rows, size.columns, dtype_of(settings).itemsize
    return residual.unable(*sizes, xp, leave_out=size.leave_out > 0)


def check(size: Size, settings: FitSpec, how: FitterSettings, held: int) -> None:
    """Raise SettingsError if the fit needs more memory than the limit. The process holds `held` bytes already.

    Fits on a GPU, whose memory is not known here, and by estimators whose memory is not known are never refused.
    """
    known = ESTIMATORS[settings.estimator]
    if not (known.solver or known.folds) or place_of(settings, how.device) != "cpu":
        return
    budget = int(how.memory * GIB) or machine.memory()

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


def check_disk(size: Size, settings: FitSpec, how: FitterSettings, folder: Path) -> None:
    """Raise SettingsError if the disk of the scratch folder is too small for the fit; `folder` is that of the run."""
    needed = memory(size, settings, device=how.device, threads=how.threads, block=how.block).disk
    there = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(there).free + scratch.size(folder)
    if needed > free:
        raise SettingsError(
            f"a fit of {size.rows:,} models on {size.columns:,} columns and {size.targets:,} targets writes "
            f"{needed / GIB:,.1f} GiB to {folder.parent}, and its disk has room for {free / GIB:,.1f}: set "
            f"{how.prefix}_SCRATCH to a folder with more room, or have fewer columns, in groups (design: "
            "{kind: grouped}) or of a part of the pool"
        )


def held_memory() -> int:
    """Return the bytes that this process holds, without files; 0 if the system does not report them."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    return 0


def blocks(size: Size, settings: FitSpec, device: str, threads: int, block: int) -> tuple[int, int, int]:
    """Return (blocks in parallel, blocks, targets in a block)."""
    most = block_size(size.rows, size.columns, size.targets, settings, device=device, block_targets=block)
    a = min(most, size.targets)
    blocks = -(-size.targets // a)
    workers = min(threads or machine.cores(), blocks) if place_of(settings, device) == "cpu" else 1
    return workers, blocks, -(-size.targets // blocks)
