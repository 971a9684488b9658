"""Give notebooks runs and fits as arrays. `import datamodels` offers the functions of this module."""

from __future__ import annotations

import dataclasses
import functools
import sys
from pathlib import Path
from typing import Any

import numpy as np

from datamodels.aggregate import manifest
from datamodels.aggregate.manifest import Snapshot
from datamodels.analyze.quality.unseen import Unseen
from datamodels.errors import InputError, NotReadyError, SpecError
from datamodels.fit import solve
from datamodels.fit.data.problem import NO_COLUMN, Problem, Solution, is_heldout
from datamodels.fit.data.shards import parts_of_fit
from datamodels.fit.job import fits
from datamodels.fit.job.finished import require_fit
from datamodels.fit.kernels import compiling
from datamodels.run import designs, runs, specs
from datamodels.run.estimators import ESTIMATORS, OF_ARRAYS
from datamodels.run.runs import Run
from datamodels.run.specs import RunSpec
from datamodels.settings import StoreSettings
from datamodels.storage import ObjectStore
from datamodels.storage import open_store as open_by_settings

__all__ = ["StoredRun", "fit_arrays", "list_runs", "load_spec", "open_run", "open_store"]


def load_spec(path: str | Path) -> RunSpec:
    """Read a spec from a YAML file, or an example by its name. Raises SpecError, with one line per fault."""
    return specs.load(path)


def open_store(url: str | Path = "", *, create: bool = False) -> ObjectStore:
    """Open the store of runs.

    url     a folder, `file://FOLDER` or `s3://BUCKET/PREFIX`; by default DATAMODELS_STORE_URL, or else
            .datamodels/store
    create  create the folder of a local store if it does not exist

    The other settings come from the environment, see docs/reference/settings.md. Raises NotFoundError if the folder
    does not exist, SettingsError if the URL is not valid or the folder cannot be used.
    """
    settings, text = StoreSettings.load(), str(url)
    if text:
        settings = dataclasses.replace(settings, url=text if "://" in text else f"file://{Path(text).absolute()}")
    return open_by_settings(settings, create=create)


def list_runs(store: ObjectStore) -> list[str]:
    """Return the names of all runs of a store, in order."""
    return runs.names(store)


def open_run(store: ObjectStore, name: str) -> StoredRun:
    """Open a run as it is now; open it again to see models that were committed since.

    Raises RunNotFoundError, CorruptObjectError.
    """
    return StoredRun(store, runs.read(store, name), manifest.read_newest(store, name))


@dataclasses.dataclass(frozen=True, eq=False)
class StoredRun:
    """A run in a store, as arrays. `open_run` makes one. Arrays are read when they are first asked for, then kept.

    store     where the run is
    run       its spec, its design of subsets, and its labels
    snapshot  the manifest whose models the arrays hold
    """

    store: ObjectStore
    run: Run
    snapshot: Snapshot

    def __repr__(self) -> str:
        models = f"{self.snapshot.rows:,} of {self.run.spec.models:,} models"
        return f"<StoredRun {self.name}: {models}, {self.run.n:,} targets>"

    @property
    def name(self) -> str:
        """Name of the run."""
        return self.run.name

    @property
    def model_index(self) -> np.ndarray:
        """int32[m]: the number of each model that a fit may use and that has outputs, ascending.

        Models for evaluation are not among them, see `unseen`. Raises NotReadyError if there are none.
        """
        return self._rows[0]

    @property
    def outputs(self) -> np.ndarray:
        """float32[m, n]: the outputs of these models for each target. Raises NotReadyError if there are none."""
        return self._rows[1]

    @functools.cached_property
    def masks(self) -> np.ndarray:
        """bool[m, d]: which columns each of these models was trained on. Raises NotReadyError if there are none."""
        masks = np.zeros((len(self.model_index), self.run.design.columns), dtype=bool)
        for row, model in enumerate(self.model_index.tolist()):
            masks[row, designs.subset(self.run.design, self.run.spec.subset_index(model))] = True
        return masks

    @functools.cached_property
    def unseen(self) -> Unseen:
        """The subsets that no fit sees, with `members` bool[s, d] and `outputs` float32[s, r, n] of r models on each.

        `unseen.predicted_by(weights).evaluate()` computes LDS. Raises NotReadyError if the spec asks for none.
        """
        return Unseen.read(self.run, self.snapshot, self.store)

    def weights(self, fit: int | None = None) -> Solution:
        """Read the weights of a fit: `theta`, float32 CSR [n, d], `intercept`, `lambda_`, `gap`, `status`, `predict`.

        fit  number of the fit; by default the newest

        Raises NotReadyError if the run has no fit yet, NotFoundError if it has none of this number.
        """
        return fits.load(self.store, require_fit(self.store, self.name, fit))

    @functools.cached_property
    def _rows(self) -> tuple[np.ndarray, np.ndarray]:
        parts = [part.read(self.store, self.name) for part in parts_of_fit(self.run, self.snapshot)]
        model_index = np.concatenate([np.zeros(0, dtype=np.int32), *(part.model_index for part in parts)])
        wanted = np.flatnonzero(model_index < self.run.spec.m)
        if not len(wanted):
            raise NotReadyError(f"run {self.name}: no model has outputs yet; `datamodels train` makes them")
        wanted = wanted[np.argsort(model_index[wanted])]
        outputs = np.concatenate([part.outputs for part in parts])
        return model_index[wanted], outputs[wanted].astype(np.float32)


def fit_arrays(
    masks: np.ndarray,
    outputs: np.ndarray,
    *,
    own: np.ndarray | None = None,
    threshold: float = 0.0,
    seed: int = 0,
    device: str = "cpu",
    threads: int = 0,
    **settings: Any,
) -> Solution:
    """Fit one sparse linear model per target to masks and outputs of your own.

    masks     bool[m, d]; which columns each model was trained on
    outputs   float[m, n]; output of each model for each target
    own       int[n]; the column that each target is, whose rows its fit leaves out, or -1; by default -1 for all
    threshold of the estimator `influence` alone, which fits the share of models whose output is above it
    seed      for solvers that draw rows; 0 <= seed < 2**63
    device    cpu, cuda or auto
    threads   0 for as many as there are cores
    settings  fields of `fit` in a spec, for instance estimator="ridge", tolerance=1e-4 or holdout=0.2. The estimator is
              `lasso` by default, and not `weighted` or `prior`, which compare the examples of a data set

    Lambda is chosen for each target on held-out rows: pairs of neighbouring rows, a fraction `holdout` of all.

    Returns a Solution with `theta`, float32 CSR [n, d], `intercept`, `lambda_` and `gap`, float64[n], `status`, a list
    of n texts, and `predict(masks)`. The status of a target says if it could not be fitted.

    Raises InputError for arrays, a seed or threads, SpecError for settings, SettingsError for a device.
    """
    chosen = specs.parse_fit({"estimator": OF_ARRAYS} | settings)
    if ESTIMATORS[chosen.estimator].prior:
        able = [name for name, estimator in ESTIMATORS.items() if not estimator.prior]
        raise SpecError(
            f"fit.estimator = {chosen.estimator!r}: compares the examples of a data set, and arrays have none; "
            f"take {', '.join(able[:-1])} or {able[-1]}"
        )
    masks, outputs = _array("masks", masks), _array("outputs", outputs)
    if masks.ndim != 2 or not (masks.dtype == bool or ((masks == 0) | (masks == 1)).all()):
        raise InputError(
            f"masks have shape {masks.shape} and type {masks.dtype}: must be bool, a row for each model and a column "
            "for each training example"
        )
    if outputs.ndim != 2 or outputs.dtype.kind not in "fiu":
        raise InputError(
            f"outputs have shape {outputs.shape} and type {outputs.dtype}: must be numbers, a row for each model and a "
            "column for each target"
        )
    if len(masks) != len(outputs):
        raise InputError(f"masks have {len(masks)} rows and outputs {len(outputs)}: must be equal")
    for name, array, what in (("masks", masks, "column"), ("outputs", outputs, "target")):
        if not array.shape[1]:
            raise InputError(f"{name} have shape {array.shape}: must have at least one {what}")
    _check_number("seed", seed, 2**63)
    _check_number("threads", threads, 2**31)
    if threshold and not ESTIMATORS[chosen.estimator].shares:
        raise InputError(f"threshold = {threshold}: the estimator {chosen.estimator!r} has none; leave it out")
    if not np.isfinite(threshold):
        raise InputError(f"threshold = {threshold}: must be a finite number")
    heldout = is_heldout(np.arange(len(masks)), chosen.holdout)
    if heldout.sum() < 2:
        raise InputError(
            f"holdout = {chosen.holdout}: holds out less than 2 of {len(masks)} rows; raise it, or add rows"
        )
    shares = ESTIMATORS[chosen.estimator].shares
    mean = np.full(outputs.shape[1], threshold) if shares else outputs.mean(axis=0, dtype=np.float64)
    mean[~np.isfinite(mean)] = 0
    # It is taken off before float32 rounds: otherwise a large mean would cost digits of what varies.
    centred = np.subtract(outputs, mean, out=np.empty(outputs.shape, dtype=np.float32), casting="unsafe")
    problem = Problem(
        masks=designs.pack(masks.astype(bool)),
        outputs=centred,
        columns=masks.shape[1],
        center=masks.mean(axis=0, dtype=np.float64).astype(np.float32),
        own_column=_own_column(own, outputs.shape[1], masks.shape[1]),
        heldout=heldout,
    )
    with compiling.announced(_say_compiling):
        found = solve.fit(problem, chosen, seed, device=device, threads=threads)
    if shares:
        return found
    return dataclasses.replace(found, intercept=found.intercept + np.where(found.modelled, mean, 0))


@functools.cache
def _say_compiling() -> None:
    """Say once in this process, on standard error, that loops are being compiled."""
    print(f"datamodels: {compiling.WORDS}", file=sys.stderr)


def _array(name: str, given: Any) -> np.ndarray:
    """Return what a caller gives as an array. Raises InputError if its rows differ in length."""
    try:
        return np.asarray(given)
    except ValueError as error:
        raise InputError(f"{name}: cannot be made an array: {error}") from None


def _check_number(name: str, value: Any, end: int) -> None:
    """Raises InputError unless 0 <= value < end is a whole number."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not 0 <= value < end:
        raise InputError(f"{name} = {value!r}: must be a whole number from 0 to {end - 1}")


def _own_column(own: Any, targets: int, columns: int) -> np.ndarray:
    """Return int32[targets]: the columns that targets are, NO_COLUMN for None. Raises InputError."""
    if own is None:
        return np.full(targets, NO_COLUMN, dtype=np.int32)
    found = _array("own", own)
    if found.shape != (targets,) or found.dtype.kind not in "iu":
        raise InputError(
            f"own has shape {found.shape} and type {found.dtype}: must be integers, one for each of {targets} targets"
        )
    wrong = found[(found < NO_COLUMN) | (found >= columns)]
    if len(wrong):
        raise InputError(f"own has {wrong[0]}: must be columns 0 to {columns - 1}, or {NO_COLUMN} for none")
    return found.astype(np.int32)
