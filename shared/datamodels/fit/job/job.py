"""Fit a run: from its manifest to committed weights."""

from __future__ import annotations

import dataclasses
import os
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from datamodels import machine, words
from datamodels.aggregate import manifest
from datamodels.errors import ExitCode, NotReadyError, SettingsError, StageError
from datamodels.fit import memory
from datamodels.fit.data import examples, problem, scratch, shards
from datamodels.fit.data.problem import Problem, Solution
from datamodels.fit.data.sums import Kept, Sums
from datamodels.fit.estimators.base import folds_of_sums, prior_of, reads_rows, uses_sums
from datamodels.fit.job import finished, fits, gradients, metrics
from datamodels.fit.job.eta import Eta
from datamodels.fit.job.finished import FitRecord
from datamodels.fit.kernels import compiling
from datamodels.fit.pairs.pairs import with_gradients
from datamodels.fit.solve import SolveProgress, array_module, blocks, solve_blocks
from datamodels.run import runs
from datamodels.run.estimators import ESTIMATORS
from datamodels.settings import FitterSettings
from datamodels.storage import ObjectStore

SHARDS_SHARE = 0.05
"""Fraction of progress spent reading outputs; the rest is solving."""
SHARDS = "shards"
"""Folder of the shards, in the folder of the run. The next fit uses it again, and the sums beside it."""
GRADIENTS = "gradients"
"""Folder of the scores by gradients, in the folder of the fit."""
SUMS_ROWS = 16_384
"""Rows that are added to the sums between two checks whether to stop."""


Told = Callable[[float, int, str, float | None], None]


@dataclasses.dataclass(frozen=True)
class Share:
    """The share number `index` of a run that `of` processes fit together. Raises SettingsError."""

    index: int = 0
    of: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.of:
            raise SettingsError(f"share {self.index} of {self.of} of a fit: must be 0 to {self.of - 1}")

    def spans(self, grid: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        """Return whole blocks of the grid, so that the number of processes changes no result."""
        return list(grid[self.index :: self.of])

    @property
    def suffix(self) -> str:
        """Suffix of the names of files that only this process uses."""
        return "" if self.of == 1 else f".{self.index}-{self.of}"


WHOLE = Share()


class FitJob:
    """The fit of a run's newest manifest. The constructor only reads the manifest.

    settings  JSON values of a spec's fit section; by default those that the run was created with

    Raises RunNotFoundError, SpecError if the settings are wrong, NotReadyError if no model is committed yet or the
    store lacks features or gradients that the fit needs, StoreError.
    """

    def __init__(self, store: ObjectStore, name: str, settings: dict[str, Any] | None = None):
        self._store = store
        self.run = runs.read(store, name)
        if settings is not None:
            self.run = self.run.with_fit(settings)
        runs.require_threshold(self.run)
        self._snapshot = manifest.read_newest(store, name)
        parts = shards.parts_of_fit(self.run, self._snapshot)
        if not any(part.rows for part in parts):
            raise NotReadyError(
                f"run {name}: no manifest lists outputs of the models 0 to {self.run.spec.m - 1} yet; train some, then "
                "publish a manifest"
            )
        examples.require(store, self.run)
        self._settings = self.run.spec.fit.model_dump(mode="json")
        made_from = self._settings
        if ESTIMATORS[self.run.spec.fit.estimator].shares and self.run.output.threshold:
            made_from = made_from | {"threshold": self.run.output.threshold}
        self._gradients = gradients.find(store, self.run)
        if self._gradients is not None:
            made_from = made_from | {"gradients": [block.sha256 for block in self._gradients.blocks]}
        self.digest = finished.digest(name, [sha256 for part in parts for sha256 in part.written], made_from)

    def finished(self) -> FitRecord | None:
        """Return the newest fit of the run if it is of the same data and settings, or None."""
        newest = finished.read_newest_fit(self._store, self.run.name)
        return newest if newest is not None and newest.digest == self.digest else None

    def solve(
        self,
        settings: FitterSettings,
        *,
        progress: Told,
        stop: threading.Event,
        share: Share = WHOLE,
    ) -> FitRecord | None:
        """Fit a share of the targets and commit each of its blocks; resume an earlier attempt that was stopped.

        progress  called with (fraction of the work done, targets done, what is going on, seconds left or None)
        stop      once it is set, the fit saves its state and raises StageError

        Returns the record of the whole fit, which the process that finds all blocks there commits; None if blocks of
        others are still missing. Raises StageError, StoreError, SettingsError.
        """
        home = Path(settings.scratch) / f"{self.run.name}{share.suffix}"

        def check() -> None:
            if stop.is_set():
                raise StageError("the fit was stopped before it began; ask for it again", ExitCode.TERMINATED)

        def waiting() -> None:
            check()
            progress(0.0, 0, "waiting for another fitter", None)

        def compiles() -> None:
            progress(SHARDS_SHARE, 0, compiling.WORDS, None)

        with scratch.alone(home, waiting), metrics.RUNNING.track_inprogress(), compiling.announced(compiles):
            return self.finished() or self._again() or self._solve(home, settings, progress, stop, check, share)

    def _again(self) -> FitRecord | None:
        """Return the finished fit of the same data and settings, or None. Make it the newest if it is not."""
        earlier = finished.find(self._store, self.run.name, self.digest)
        if earlier is None:
            return None
        written = {(block.first, block.last): block.sha256 for block in earlier.blocks}
        return fits.commit(self._store, earlier, list(written), written)

    def _solve(
        self, home: Path, settings: FitterSettings, progress, stop: threading.Event, check, share: Share
    ) -> FitRecord | None:
        started = time.monotonic()
        size = memory.Size.of_run(self.run)
        memory.check(size, self.run.spec.fit, settings, held=memory.held_memory())
        memory.check_disk(size, self.run.spec.fit, settings, home)
        self._sweep(home)

        def materialised(fraction: float) -> None:
            check()
            progress(SHARDS_SHARE * fraction, 0, "reading outputs", None)

        rows = shards.materialise(
            self._store, self.run, self._snapshot, home / SHARDS, progress=materialised, checked=False
        )
        metrics.ROWS.set(len(rows.model_index))
        data = problem.of_run(self.run, rows.masks, rows.outputs, rows.model_index)
        prior = prior_of(self.run, self._store)
        if self._gradients is not None:
            folder = home / self.digest / GRADIENTS
            scores = gradients.materialise(self._store, self._gradients, folder, check)
            prior = with_gradients(prior, self.run, scores)
        data = dataclasses.replace(data, prior=prior)
        spec = self.run.spec
        grid = blocks(data, spec.fit, device=settings.device, block_targets=settings.block)

        written: dict[tuple[int, int], str] = {}

        def finished(first: int, last: int, solution: Solution) -> None:
            sha256 = fits.write(self._store, self.run.name, self.digest, first, solution)
            if sha256 is not None:
                written[first, last] = sha256
            for status in problem.STATUSES:
                metrics.STATUSES.labels(status).inc(solution.status.count(status))

        solve_blocks(
            data,
            spec.fit,
            spec.seed,
            fits.missing(self._store, self.run.name, self.digest, share.spans(grid)),
            grid,
            finished=finished,
            progress=_reporter(progress),
            checkpoint=home / self.digest / "blocks",
            stop=stop,
            device=settings.device,
            threads=settings.threads,
            sums=self._sums(home, data, rows.model_index, settings, check),
        )
        progress(1.0, sum(last - first for first, last in share.spans(grid)), "committing", 0.0)
        record = None
        if not fits.missing(self._store, self.run.name, self.digest, grid):
            made = self._record(len(rows.model_index), time.monotonic() - started)
            record = fits.commit(self._store, made, grid, written)
            metrics.SECONDS.observe(time.monotonic() - started)
        shutil.rmtree(home / self.digest, ignore_errors=True)
        scratch.shrink(home.parent, settings.keep_bytes, ours=home)
        return record

    def _record(self, rows: int, seconds: float) -> FitRecord:
        return FitRecord(
            run=self.run.name,
            number=-1,
            digest=self.digest,
            manifest_version=self._snapshot.version,
            spec_hash=self.run.spec.hash,
            solver=self.run.spec.fit.solver,
            settings=self._settings,
            rows=rows,
            columns=self.run.design.columns,
            targets=self.run.n,
            blocks=(),
            seconds=seconds,
        )

    def _sweep(self, home: Path) -> None:
        """Remove the checkpoints of unfinished fits of older manifests."""
        with scratch.room(home):
            home.mkdir(parents=True, exist_ok=True)
            os.utime(home)  # folders that were used last are kept longest
            for other in home.iterdir():
                if other.is_dir() and other.name not in (self.digest, SHARDS):
                    shutil.rmtree(other, ignore_errors=True)

    def _sums(
        self, home: Path, data: Problem, model_index: np.ndarray, settings: FitterSettings, check: Callable[[], None]
    ) -> Sums | None:
        """Return the sums over all rows: those that an earlier fit kept, plus those of new parts. None if unused.

        Checks all rows that the fit reads.
        """
        spec, shards_of = self.run.spec.fit, (self._store, self.run, self._snapshot, home / SHARDS)
        if not uses_sums(data, spec) or array_module(settings.device) is not np:
            shards.check(*shards_of, progress=lambda fraction: check())
            return None
        parts = [part for part in shards.parts_of_fit(self.run, self._snapshot) if part.rows]
        folds, of_row = folds_of_sums(spec), problem.fold_of(data.pairs)
        kept = Kept(home, self.run.name, spec.holdout, folds)
        sums = kept.load(map(shards.identity, parts)) or Sums.empty(data.columns, data.n, folds)
        needed = None if reads_rows(data, spec) else {shards.identity(part) for part in parts} - sums.parts
        shards.check(*shards_of, needed, progress=lambda fraction: check())
        new = shards.rows_of([part for part in parts if shards.identity(part) not in sums.parts], model_index)
        places = np.flatnonzero(new)
        if len(places):
            threads = settings.threads or machine.cores()
            with machine.limit_products(threads):
                for first in range(0, len(places), SUMS_ROWS):
                    check()
                    piece = places[first : first + SUMS_ROWS]
                    rows = data.masks[piece], data.outputs[piece], data.heldout[piece]
                    sums.add(*rows, fold=of_row[piece], threads=threads)
            sums.parts = frozenset(map(shards.identity, parts))
            kept.save(sums)
        return sums


def _reporter(progress: Told) -> Callable[[SolveProgress], None]:
    epochs, eta = 0, Eta()

    def report(now: SolveProgress) -> None:
        nonlocal epochs
        metrics.EPOCHS.inc(now.epochs - epochs)
        epochs = now.epochs
        metrics.TARGETS.set(now.targets)
        metrics.TARGETS_DONE.set(now.targets_done)
        metrics.LAMBDA_INDEX.set(now.position)
        metrics.GAP.set(now.gap)
        # Before the first epoch, blocks of an earlier attempt are reported as done, which says nothing about the pace.
        left = eta.reach(now.fraction, time.monotonic()) if epochs else None
        metrics.REMAINING.set(0 if left is None else left)
        fraction = SHARDS_SHARE + (1 - SHARDS_SHARE) * now.fraction
        progress(fraction, now.targets_done, f"{_STAGES[now.stage]}, {words.count(now.epochs, 'epoch')}", left)

    return report


_STAGES = {"path": "choosing lambda", "refit": "last fit", "done": "fitted"}
