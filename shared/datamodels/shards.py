"""Shards: a committed snapshot as memory-mapped arrays on the local disk, for solvers that read it many times.

A folder holds packed masks, outputs and model indices as raw little-endian arrays, and `shards.json`, which says
their shape. It is made under another name and renamed when it is whole, so one that is there can be used as it is.
One process at a time may make it.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from datamodels import disk, sample
from datamodels.aggregate.manifest import Part, Snapshot
from datamodels.errors import CorruptObjectError, NotReadyError
from datamodels.fit import scratch
from datamodels.run import Run
from datamodels.storage import ObjectStore

_SHAPE = "shards.json"
_MASKS, _OUTPUTS, _MODELS = "masks.u1", "outputs.f2", "models.i4"


@dataclasses.dataclass(frozen=True, eq=False)
class Shards:
    """The models that a fit may use and that have outputs; row i is model `model_index[i]`. Memory-mapped, read-only.

    masks        uint8[rows, ceil(d / 8)], packed as by `sample.pack`
    outputs      float16[rows, n]
    model_index  int32[rows], ascending
    failed       models of the fit that could not be trained, and are left out
    """

    masks: np.ndarray
    outputs: np.ndarray
    model_index: np.ndarray
    failed: int


def parts_of_fit(run: Run, snapshot: Snapshot) -> list[Part]:
    """The parts with models that the fit may use, 0 to m - 1; the others are for evaluation."""
    return [part for part in snapshot.parts if part.first < run.spec.m]


def materialise(
    store: ObjectStore,
    run: Run,
    snapshot: Snapshot,
    folder: Path,
    *,
    progress: Callable[[float], None] = lambda fraction: None,
) -> Shards:
    """The shards of a snapshot in `folder`, which must be named by the snapshot's content; made where it is missing.

    progress  called after each part with the share of them that is done; what it raises stops the work

    Raises NotReadyError where the snapshot has no model to fit, CorruptObjectError naming the part, StoreFullError
    where the disk is full. Nothing half-made is ever used.
    """
    if not (folder / _SHAPE).exists():
        with scratch.room(folder):
            _make(store, run, snapshot, folder, progress)
    return _open(folder)


def _make(store: ObjectStore, run: Run, snapshot: Snapshot, folder: Path, progress: Callable[[float], None]) -> None:
    temporary = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(temporary, ignore_errors=True)  # of an attempt that was killed
    temporary.mkdir(parents=True)
    try:
        rows, failed = 0, 0
        with (
            open(temporary / _MASKS, "wb") as masks,
            open(temporary / _OUTPUTS, "wb") as outputs,
            open(temporary / _MODELS, "wb") as models,
        ):
            for model_index, values, gone in _rows(store, run, snapshot, progress):
                # Not `tofile`, whose errors do not say why.
                masks.write(_masks(run, model_index).tobytes())
                outputs.write(values.astype("<f2").tobytes())
                models.write(model_index.astype("<i4").tobytes())
                rows, failed = rows + len(model_index), failed + gone
            if not rows:
                raise NotReadyError(
                    f"run {run.name}: manifest {snapshot.version} has no outputs of the models 0 to {run.spec.m - 1}; "
                    "train some first"
                )
            for file in (masks, outputs, models):
                file.flush()
                os.fsync(file.fileno())
        shape = {"rows": rows, "n": run.n, "mask_bytes": run.design.mask_bytes, "failed": failed}
        (temporary / _SHAPE).write_text(json.dumps(shape), encoding="utf-8")
        disk.flush(temporary)
        os.rename(temporary, folder)
        disk.flush(folder.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _rows(
    store: ObjectStore, run: Run, snapshot: Snapshot, progress: Callable[[float], None]
) -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
    """(model_index int32[r], outputs float16[r, n], failed models) of each part, models of the fit only."""
    parts = parts_of_fit(run, snapshot)
    for done, part in enumerate(parts, 1):
        found = part.read(store, run.name)
        if found.outputs.shape[1] != run.n:
            raise CorruptObjectError(
                f"{store.url}/{part.key}: has outputs on {found.outputs.shape[1]} targets, run {run.name} has {run.n}; "
                "restore it from a copy"
            )
        mine = found.model_index < run.spec.m
        yield found.model_index[mine], found.outputs[mine], sum(model < run.spec.m for model in found.failed)
        progress(done / len(parts))


def _masks(run: Run, model_index: np.ndarray) -> np.ndarray:
    """uint8[r, ceil(d / 8)] of ascending models. Draws what lies between them too: failed models are few."""
    if not len(model_index):
        return np.empty((0, run.design.mask_bytes), dtype=np.uint8)
    subsets = np.array([run.spec.subset_index(model) for model in model_index.tolist()])
    drawn = sample.subsets(run.design, int(subsets[0]), int(subsets[-1]) + 1)
    return drawn[subsets - subsets[0]]


def _open(folder: Path) -> Shards:
    shape = json.loads((folder / _SHAPE).read_text(encoding="utf-8"))
    rows = shape["rows"]
    return Shards(
        masks=np.memmap(folder / _MASKS, dtype="u1", mode="r", shape=(rows, shape["mask_bytes"])),
        outputs=np.memmap(folder / _OUTPUTS, dtype="<f2", mode="r", shape=(rows, shape["n"])),
        model_index=np.memmap(folder / _MODELS, dtype="<i4", mode="r", shape=(rows,)),
        failed=shape["failed"],
    )
