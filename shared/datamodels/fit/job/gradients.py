"""Write scores by gradients to the object store, and read them for fits.

They are committed like a fit: one object per block of targets, and one record that lists them with their sha256. The
record is the commit point. Its name follows from the number of models and the method alone, so scores are computed once
for a run, and all later fits read them. `runners.gradients` computes them; this module runs no code of the user.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np

from datamodels.errors import CorruptObjectError, NotReadyError, ObjectNotFoundError
from datamodels.fit.data import scratch
from datamodels.fit.data.problem import FOLDS
from datamodels.fit.job.finished import Block, FitRecord
from datamodels.fit.pairs.gradients import DTYPE, LARGEST, GradientScores
from datamodels.fit.residual.scores import INPUTS
from datamodels.run.estimators import ESTIMATORS
from datamodels.run.runs import Run
from datamodels.storage import keys, records
from datamodels.storage.base import ObjectStore

MODELS = 20
"""Models by default. LDS of the scores alone on the digits: .752 by 1 model, .886 by 5, .909 by 10, .922 by 20, .928 by
40."""
METHOD = 1
"""Version of how scores are computed: scores of another one are not read."""
BLOCK_BYTES = 64 * 2**20
"""Bytes of an object."""


@dataclasses.dataclass(frozen=True)
class GradientRecord:
    """Scores of a run by gradients, as `GradientScores` describes them.

    digest   identifies them within the run; see `digest`
    models   number of models
    folds    number of folds
    scale    by which stored scores are multiplied
    columns  d
    targets  n
    seconds  seconds that it took to train the models and compute the scores
    """

    run: str
    digest: str
    models: int
    folds: int
    scale: float
    columns: int
    targets: int
    seconds: float
    blocks: tuple[Block, ...]


def wanted(run: Run) -> int:
    """Return of how many models a fit of a run uses gradients, if its trainer offers them; 0 if of none.

    Imported runs have none: the models that this library would train are not those of the run.
    """
    if not ESTIMATORS[run.spec.fit.estimator].gradients or run.design.masks is not None:
        return 0
    asked = run.spec.fit.gradients
    return min(MODELS if asked is None else asked, run.spec.m)


def digest(models: int) -> str:
    """Return 16 hexadecimal digits that identify scores of so many models of a run."""
    return records.digest({"models": models, "method": METHOD, "folds": FOLDS})[:16]


def find(store: ObjectStore, run: Run) -> GradientRecord | None:
    """Return the scores that a fit of the run uses, or None if it uses none or they are not computed yet.

    Raises NotReadyError if they are not, and the spec asks for them by a number. Raises CorruptObjectError.
    """
    models = wanted(run)
    if not models:
        return None
    found = read(store, run, models)
    if found is None and run.spec.fit.gradients is not None:
        raise NotReadyError(
            f"run {run.name}: fit.gradients = {models}: the gradients of its models are not in the store; `datamodels "
            f"fit {run.name} --fit estimator={run.spec.fit.estimator} --fit gradients={models}` computes them, on a "
            "machine that can train them; or leave fit.gradients out"
        )
    return found


def used_by(store: ObjectStore, run: Run, record: FitRecord) -> GradientRecord | None:
    """Return the scores that a finished fit has weighed, or None. `run` has its settings. Raises CorruptObjectError."""
    weighed = record.choice is not None and INPUTS in record.choice["errors"]
    return read(store, run, wanted(run)) if weighed else None


def read(store: ObjectStore, run: Run, models: int) -> GradientRecord | None:
    """Return the scores of so many models of a run, or None. Raises CorruptObjectError."""
    key = keys.gradients(run.name, digest(models))
    try:
        body = records.read(store, key)
    except ObjectNotFoundError:
        return None
    try:
        found = GradientRecord(**body | {"blocks": tuple(Block(**block) for block in body["blocks"])})
        fits = (found.models, found.folds, found.columns, found.targets) == (models, FOLDS, run.design.columns, run.n)
    except (TypeError, KeyError) as error:
        raise _not_ours(store, key, str(error)) from None
    if not fits or not _whole(found):
        raise _not_ours(store, key, "its sizes are not those of the run")
    return found


def write(store: ObjectStore, run: Run, models: int, scores: np.ndarray, seconds: float) -> GradientRecord:
    """Commit scores float32[folds, n, d] of so many models, and return their record.

    If another process has committed such scores meanwhile, those count. Raises StoreFullError, StoreUnavailableError.
    """
    name, (folds, n, d) = digest(models), scores.shape
    largest = float(np.nanmax(np.abs(scores), initial=0.0))
    scale = largest / LARGEST if largest > 0 else 1.0
    blocks = _write_blocks(store, run.name, name, scores, scale)
    found = GradientRecord(run.name, name, models, folds, scale, d, n, seconds, blocks)
    if records.create(store, keys.gradients(run.name, name), dataclasses.asdict(found)):
        if not all(store.exists(block.key) for block in blocks):
            # A vacuum removed blocks that an attempt had left long ago, just before the record was there.
            _write_blocks(store, run.name, name, scores, scale)
        return found
    winner = read(store, run, models)
    assert winner is not None, "records are never removed"
    return winner


def _write_blocks(store: ObjectStore, run: str, name: str, scores: np.ndarray, scale: float) -> tuple[Block, ...]:
    folds, n, d = scores.shape
    step = max(1, BLOCK_BYTES // (folds * d * DTYPE.itemsize))
    blocks = []
    for first in range(0, n, step):
        last = min(first + step, n)
        data = _encode((scores[:, first:last] / np.float32(scale)).astype(DTYPE))
        sha256 = hashlib.sha256(data).hexdigest()
        key = keys.gradient_block(run, name, first, last, sha256)
        store.create(key, data)
        blocks.append(Block(key, first, last, sha256))
    return tuple(blocks)


def materialise(
    store: ObjectStore, found: GradientRecord, folder: Path, check: Callable[[], None] = lambda: None
) -> GradientScores:
    """Return scores as memory-mapped files of a folder, which is made.

    check  called before each block; what it raises stops the work

    Raises CorruptObjectError naming an object that is damaged or missing, StoreFullError if the disk is full.
    """
    blocks = []
    with scratch.room(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for block in found.blocks:
            check()
            path = folder / f"{block.first}.npy"
            path.write_bytes(_checked(store, found, block))
            blocks.append(np.load(path, mmap_mode="r", allow_pickle=False))
    return GradientScores(found.models, found.scale, blocks)


def verify(store: ObjectStore, found: GradientRecord) -> int:
    """Read all scores and check them; return the number of targets. Raises CorruptObjectError as `materialise`."""
    for block in found.blocks:
        _checked(store, found, block)
    return found.targets


def _checked(store: ObjectStore, found: GradientRecord, block: Block) -> bytes:
    where = f"{store.url}/{block.key}"
    try:
        data = store.get(block.key, sha256=block.sha256)
    except ObjectNotFoundError as error:
        raise CorruptObjectError(f"{where}: belongs to committed scores and is gone; restore it from a copy") from error
    shape = (found.folds, block.last - block.first, found.columns)
    try:
        array = np.load(io.BytesIO(data), allow_pickle=False)
        good = array.shape == shape and array.dtype == DTYPE
    except (ValueError, EOFError, OSError):
        good = False
    if not good:
        raise CorruptObjectError(f"{where}: is not an array {list(shape)} of {DTYPE}; restore it from a copy")
    return data


def _encode(array: np.ndarray) -> bytes:
    sink = io.BytesIO()
    np.save(sink, np.ascontiguousarray(array), allow_pickle=False)
    return sink.getvalue()


def _whole(found: GradientRecord) -> bool:
    ends = [0, *(block.last for block in found.blocks)]
    return [block.first for block in found.blocks] == ends[:-1] and ends[-1] == found.targets


def _not_ours(store: ObjectStore, key: str, why: str) -> CorruptObjectError:
    return CorruptObjectError(
        f"{store.url}/{key}: is not the record of scores by gradients ({why}); was it written by another version of "
        "datamodels?"
    )
