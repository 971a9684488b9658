"""Fit problems: blocks of targets in threads, each checkpointed until it is finished."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import numpy as np

from datamodels import machine
from datamodels.errors import ExitCode, SettingsError, StageError
from datamodels.fit import device as on_device
from datamodels.fit.contract.block import BlockProgress
from datamodels.fit.data.checkpoint import Checkpoint
from datamodels.fit.data.problem import Problem, Solution, concatenate
from datamodels.fit.data.rows import Rows
from datamodels.fit.data.sums import Sums
from datamodels.fit.estimators import base
from datamodels.run.estimators import ESTIMATORS
from datamodels.run.specs import FitSpec
from datamodels.storage import records
from datamodels.telemetry import carried

BLOCK_TARGETS = {"cpu": 128, "cuda": 4096}
"""Most targets in a block: enough for efficient matrix products, few enough for several threads and small losses."""
FEWEST_BLOCKS = 4
FEWEST_TARGETS = 32
"""A fit has at least this many blocks on a CPU, if each then has this many targets: several threads take part.
At d = 20,000, m = 120,000, a fit of 64 targets in two blocks takes 5% more CPU time than in one."""
BLOCK_BYTES = 2 * 2**30
"""Most memory of a block on a CPU. On a GPU, a block is solved in parts that free memory holds; see `device`."""
SINGLE_PRECISION = 1e-4
"""Smallest tolerance that float32 can reach. Below it, everything is computed in float64. At the end of a path, weights
are large and lambda is small: at lambda_max / 100, float32 has stopped at a gap of 1.2e-5. In float64, `gram` takes 1.5
times as long, measured at d = 2,000, m = 12,000 and a tolerance of 1e-5."""
CHECKPOINT_SECONDS = 15.0
"""Seconds between checkpoints of one block: what a killed fit may lose."""
CHECKPOINT_VERSION = 2
"""Version of the arrays of unfinished blocks: those of another version are not read."""


@dataclasses.dataclass(frozen=True)
class SolveProgress:
    """Progress of a fit.

    fraction  fraction of the work that is done, 0 to 1
    epochs    epochs so far, of all blocks together
    position  mean position of the unfinished targets on their grids of lambda, 0 to lambdas - 1
    gap       largest relative duality gap of the finished targets; 0 before the first
    stage     path, refit or done
    """

    targets: int
    targets_done: int
    fraction: float
    epochs: int
    position: float
    gap: float
    stage: str


def fit(
    problem: Problem,
    settings: FitSpec,
    seed: int,
    *,
    device: str = "cpu",
    threads: int = 0,
    block_targets: int = 0,
    sums: Sums | None = None,
    progress: Callable[[SolveProgress], None] = lambda progress: None,
    checkpoint: Path | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    stop: threading.Event | None = None,
) -> Solution:
    """Fit every target of a problem.

    block_targets  the most targets that are solved together; 0 for what suits the device

    The other arguments are those of `solve_blocks`, and so are the errors.
    """
    grid = blocks(problem, settings, device=device, block_targets=block_targets)
    found: dict[int, Solution] = {}

    def finished(first: int, last: int, solution: Solution) -> None:
        found[first] = solution

    solve_blocks(
        problem,
        settings,
        seed,
        grid,
        grid,
        finished=finished,
        progress=progress,
        checkpoint=checkpoint,
        checkpoint_seconds=checkpoint_seconds,
        stop=stop,
        device=device,
        threads=threads,
        sums=sums,
    )
    return concatenate(found[first] for first, _ in grid)


def blocks(problem: Problem, settings: FitSpec, *, device: str, block_targets: int = 0) -> list[tuple[int, int]]:
    """Divide all targets into blocks (first, last) of nearly equal size, the units of work.

    The blocks depend on the problem, the settings and the kind of device alone.

    block_targets  most targets in a block; 0 for what suits the device
    """
    most = block_size(problem.rows, problem.columns, problem.n, settings, device=device, block_targets=block_targets)
    bounds = np.linspace(0, problem.n, -(-problem.n // most) + 1).round().astype(int).tolist()
    return list(itertools.pairwise(bounds))


def block_size(rows: int, columns: int, targets: int, settings: FitSpec, *, device: str, block_targets: int = 0) -> int:
    """Return the most targets in a block."""
    place = place_of(settings, device)
    most = block_targets or BLOCK_TARGETS[place]
    if place == "cuda":
        return most
    if not block_targets:
        most = min(most, -(-targets // max(1, min(FEWEST_BLOCKS, targets // FEWEST_TARGETS))))
    per_target = rows * (5 * dtype_of(settings).itemsize + 1) + columns * 8 * dtype_of(settings).itemsize
    return max(1, min(most, BLOCK_BYTES // per_target))


def solve_blocks(
    problem: Problem,
    settings: FitSpec,
    seed: int,
    spans: Sequence[tuple[int, int]],
    grid: Sequence[tuple[int, int]],
    *,
    finished: Callable[[int, int, Solution], None],
    progress: Callable[[SolveProgress], None] = lambda progress: None,
    checkpoint: Path | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    stop: threading.Event | None = None,
    device: str = "cpu",
    threads: int = 0,
    sums: Sums | None = None,
) -> None:
    """Solve the blocks `spans` of a grid of blocks.

    On a CPU, the solution of a block has the same bits for the same arguments, whichever other blocks are solved at
    the same time, and however often the fit was stopped and resumed.

    finished    called with (first, last, solution) of each block, one call at a time, from any thread, in any order
    progress    called from time to time, one call at a time, from any thread
    checkpoint  folder of this fit alone, which it resumes from if it was stopped; made if it is missing
    checkpoint_seconds  seconds between checkpoints of one block
    stop        once it is set, the fit saves its state and raises
    device      cpu, cuda or auto
    threads     threads on the CPU; 0 for as many as there are cores
    sums        sums over the rows of `problem`, if they are known already: they save the solver `gram` a pass

    Raises StageError with exit code TERMINATED once `stop` is set, StoreFullError if there is no room for a checkpoint,
    SettingsError if there is no such device, SpecError if the estimator does not take the problem, and what `finished`
    and `progress` raise. The status of a target says if it could not be fitted.
    """
    xp = _array_module(settings, device)
    dtype = dtype_of(settings)
    cores = threads or machine.cores()
    fingerprint = records.digest(
        [
            settings.model_dump(mode="json"),
            seed,
            problem.masks.shape,
            problem.outputs.shape,
            problem.columns,
            place_of(settings, device),
            CHECKPOINT_VERSION,
        ]
    )
    targets = sum(last - first for first, last in spans)
    work = _Work(targets, settings, progress, finished, stop or threading.Event(), checkpoint_seconds)
    kept = [Checkpoint(checkpoint, f"{first:08d}-{last:08d}", fingerprint) for first, last in spans]
    unsolved = []
    for (first, last), there in zip(spans, kept, strict=True):
        solution = there.load_solution()
        if solution is None:
            unsolved.append((first, last, there))
        else:
            work.finished(first, last, solution)
    if not unsolved:
        return
    rows = Rows(problem, xp=xp, dtype=dtype, threads=cores, sums=sums, folder=checkpoint)
    if xp is not np:
        try:
            for (first, last, there), ahead in zip(unsolved, [*unsolved[1:], None], strict=True):
                rows.prepare((first, last), ahead and ahead[:2])
                work.solve(rows, first, last, seed, there)
        finally:
            rows.close()
            del rows
            on_device.release(xp)
        return
    # Solving blocks in parallel also parallelises elementwise work, which the threads of BLAS do not. How many run in
    # parallel depends on the whole grid: matrix products round differently with another number of threads.
    side_by_side = min(len(grid), cores)
    with (
        machine.limit_products(max(1, cores // side_by_side)),
        ThreadPoolExecutor(side_by_side, thread_name_prefix="fit") as pool,
    ):
        for future in [
            pool.submit(carried(work.solve), rows, first, last, seed, there) for first, last, there in unsolved
        ]:
            future.result()


def _array_module(settings: FitSpec, device: str) -> ModuleType:
    there = array_module(device)
    return there if ESTIMATORS[settings.estimator].device else np


def place_of(settings: FitSpec, device: str) -> str:
    """Return where a fit is computed, cpu or cuda. Raises SettingsError as `array_module` does."""
    return "cpu" if _array_module(settings, device) is np else "cuda"


def dtype_of(settings: FitSpec) -> np.dtype:
    """Return the type that the solvers compute in."""
    return np.dtype(np.float32 if settings.tolerance >= SINGLE_PRECISION else np.float64)


def array_module(device: str) -> ModuleType:
    """Return numpy or cupy. Raises SettingsError if `device` is unknown or not available."""
    if device not in ("auto", "cpu", "cuda"):
        raise SettingsError(f"device = {device!r}: must be auto, cpu or cuda")
    if device == "cpu":
        return np
    try:
        import cupy

        if cupy.cuda.runtime.getDeviceCount():
            return cupy
        reason = "no device"
    except ImportError:
        reason = "CuPy is not installed; install the extra fitter-cuda12 or fitter-cuda13"
    except cupy.cuda.runtime.CUDARuntimeError as error:
        reason = str(error)
    if device == "cuda":
        raise SettingsError(f"device = 'cuda': {reason}; or use cpu")
    return np


class _Work:
    """The blocks that are being solved in parallel, and the progress of all."""

    def __init__(self, n: int, settings: FitSpec, progress, finished, stop: threading.Event, checkpoint_seconds: float):
        self._n, self._settings, self._progress, self._finished, self._stop = n, settings, progress, finished, stop
        self._seconds = checkpoint_seconds
        self._lock = threading.Lock()
        self._abort = threading.Event()
        self._fractions: dict[int, float] = {}
        self._positions: dict[int, float] = {}
        self._done, self._epochs, self._gap = 0, 0, 0.0

    def solve(self, rows: Rows, first: int, last: int, seed: int, checkpoint: Checkpoint) -> None:
        try:
            solution = self._solve(rows, first, last, seed, checkpoint)
            checkpoint.save_solution(solution)
            self.finished(first, last, solution)
        except BaseException:
            self._abort.set()
            raise

    def _solve(self, rows: Rows, first: int, last: int, seed: int, checkpoint: Checkpoint) -> Solution:
        saved = time.monotonic()

        def tick(here: BlockProgress) -> None:
            nonlocal saved
            stopping = self._stop.is_set() or self._abort.is_set()
            if stopping or time.monotonic() - saved >= self._seconds:
                checkpoint.save(here.stage, here.arrays())
                saved = time.monotonic()
            if stopping:
                raise StageError("the fit was stopped; it goes on from here when asked again", ExitCode.TERMINATED)
            self._report(
                here.stage, epochs=1, fraction={first: here.fraction * (last - first)}, position={first: here.position}
            )

        kept = checkpoint.load()
        solve, resume = base.solve_of(self._settings), None if kept is None else kept[1]
        if rows.xp is not np:
            solve = functools.partial(on_device.solve, base.solver_of(self._settings), solve)
        return solve(rows, self._settings, first, last, seed=seed, tick=tick, resume=resume)

    def finished(self, first: int, last: int, solution: Solution) -> None:
        with self._lock:
            self._finished(first, last, solution)
            self._done += last - first
            self._gap = max(self._gap, float(solution.gap.max()))
            self._positions.pop(first, None)
        self._report("done" if self._done == self._n else "refit", fraction={first: last - first})

    def _report(self, stage: str, *, epochs: int = 0, fraction=None, position=None) -> None:
        with self._lock:
            self._epochs += epochs
            self._fractions |= fraction or {}
            self._positions |= position or {}
            self._progress(
                SolveProgress(
                    targets=self._n,
                    targets_done=self._done,
                    fraction=sum(self._fractions.values()) / self._n,
                    epochs=self._epochs,
                    position=float(np.mean(list(self._positions.values()) or [0.0])),
                    gap=self._gap,
                    stage=stage,
                )
            )
