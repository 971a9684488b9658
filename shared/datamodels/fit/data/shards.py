"""Keep a committed snapshot as memory-mapped arrays (shards) on the local disk, for solvers that read it many times.

A folder holds packed masks, outputs and model indices as raw little-endian arrays, and `shards.json`, which says how
many rows there are and from which parts. Rows of new parts are appended. They are valid once `shards.json`
lists them, and it is replaced only when they are durable. So a folder is always usable, and a killed attempt leaves
only rows that are not listed. Only one process at a time may write to it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Self

import numpy as np

from datamodels.aggregate.manifest import Part, Snapshot
from datamodels.errors import CorruptObjectError, NotReadyError
from datamodels.fit.data import scratch
from datamodels.run import designs
from datamodels.run.runs import Run
from datamodels.storage import ObjectStore, disk

_SHAPE = "shards.json"
_MASKS, _OUTPUTS, _MODELS = "masks.bin", "outputs.bin", "models.bin"
_VERSION = 2
"""Version of the folder's layout. A folder of another version is made again."""


@dataclasses.dataclass(frozen=True, eq=False)
class Shards:
    """The models that a fit may use and that have outputs; row i is model `model_index[i]`. Memory-mapped, read-only.

    masks        uint8[rows, ceil(d / 8)], packed as by `designs.pack`
    outputs      [rows, n], in the type that the run stores
    model_index  int32[rows], part by part, in the order in which the parts were added
    failed       number of models of the fit that could not be trained and are left out
    """

    masks: np.ndarray
    outputs: np.ndarray
    model_index: np.ndarray
    failed: int


def parts_of_fit(run: Run, snapshot: Snapshot) -> list[Part]:
    """Return the parts with models that the fit may use, 0 to m - 1; the others are for evaluation."""
    return [part for part in snapshot.parts if part.first < run.spec.m]


def materialise(
    store: ObjectStore,
    run: Run,
    snapshot: Snapshot,
    folder: Path,
    *,
    progress: Callable[[float], None] = lambda fraction: None,
) -> Shards:
    """Return the shards of a snapshot, in `folder`: read the missing parts, or all if the folder has other parts.

    progress  called after each part with the fraction of them that is done; what it raises stops the work

    Raises NotReadyError if the snapshot has no model to fit, CorruptObjectError naming the part, StoreFullError if the
    disk is full. A folder that is only half written is never used.
    """
    parts = parts_of_fit(run, snapshot)
    with scratch.room(folder):
        shape = _Shape.read(folder, run)
        if shape is None or not shape.parts <= {identity(part) for part in parts}:
            shutil.rmtree(folder, ignore_errors=True)
            shape = _Shape.of(run)
        missing = [part for part in parts if identity(part) not in shape.parts]
        if missing:
            shape = _append(store, run, missing, folder, shape, progress)
    if not shape.rows:
        shutil.rmtree(folder, ignore_errors=True)
        raise NotReadyError(
            f"run {run.name}: manifest {snapshot.version} has no outputs of the models 0 to {run.spec.m - 1}; "
            "train some first"
        )
    return shape.open(folder)


def identity(part: Part) -> tuple[str, str]:
    """Return (key, sha256), which identify a part."""
    return part.key, part.sha256


@dataclasses.dataclass(frozen=True)
class _Shape:
    """The contents of `shards.json`.

    parts  `identity` of the parts whose rows are in the folder
    """

    run: str
    n: int
    dtype: str
    mask_bytes: int
    rows: int = 0
    failed: int = 0
    parts: frozenset[tuple[str, str]] = frozenset()

    @property
    def row_bytes(self) -> dict[str, int]:
        return {_MASKS: self.mask_bytes, _OUTPUTS: np.dtype(self.dtype).itemsize * self.n, _MODELS: 4}

    @property
    def identity(self) -> tuple[str, int, str, int]:
        """What the rows are of; those of another identity are of no use."""
        return self.run, self.n, self.dtype, self.mask_bytes

    @classmethod
    def of(cls, run: Run) -> Self:
        """Return the shape of a folder without rows."""
        return cls(run.name, run.n, run.dtype, run.design.mask_bytes)

    @classmethod
    def read(cls, folder: Path, run: Run) -> Self | None:
        """Read the file of a folder; return None if this run cannot use it."""
        try:
            found = json.loads((folder / _SHAPE).read_text(encoding="utf-8"))
            version = found.pop("version")
            shape = cls(**found | {"parts": frozenset(map(tuple, found["parts"]))})
            whole = all((folder / name).stat().st_size >= shape.rows * size for name, size in shape.row_bytes.items())
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        mine = version == _VERSION and shape.identity == cls.of(run).identity
        return shape if mine and whole else None

    def write(self, folder: Path) -> None:
        document = dataclasses.asdict(self) | {"version": _VERSION, "parts": sorted(self.parts)}
        temporary = folder / f"{_SHAPE}.tmp"
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump(document, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, folder / _SHAPE)
        disk.flush(folder)

    def open(self, folder: Path) -> Shards:
        def array(name: str, dtype: str, *width: int) -> np.ndarray:
            return np.memmap(folder / name, dtype=dtype, mode="r", shape=(self.rows, *width))

        return Shards(
            masks=array(_MASKS, "u1", self.mask_bytes),
            outputs=array(_OUTPUTS, np.dtype(self.dtype).newbyteorder("<").str, self.n),
            model_index=array(_MODELS, "<i4"),
            failed=self.failed,
        )


def _append(
    store: ObjectStore, run: Run, parts: Sequence[Part], folder: Path, shape: _Shape, progress: Callable[[float], None]
) -> _Shape:
    """Add the rows of parts. On an error, the folder is restored, or removed if it did not exist."""
    folder.mkdir(parents=True, exist_ok=True)
    rows, failed = shape.rows, shape.failed
    try:
        with contextlib.ExitStack() as stack:
            masks, outputs, models = (
                stack.enter_context(_opened_after(folder / name, shape.rows * size))
                for name, size in shape.row_bytes.items()
            )
            for model_index, values, gone in _rows(store, run, parts, progress):
                # Not `tofile`: its errors do not say why it failed.
                masks.write(_masks(run, model_index).tobytes())
                outputs.write(values.astype(np.dtype(run.dtype).newbyteorder("<"), copy=False).tobytes())
                models.write(model_index.astype("<i4").tobytes())
                rows, failed = rows + len(model_index), failed + gone
            for file in (masks, outputs, models):
                file.flush()
                os.fsync(file.fileno())
        added = shape.parts | {identity(part) for part in parts}
        shape = dataclasses.replace(shape, rows=rows, failed=failed, parts=added)
        shape.write(folder)
    except BaseException:
        if shape.parts:
            for name, size in shape.row_bytes.items():
                os.truncate(folder / name, shape.rows * size)
        else:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    return shape


def _opened_after(path: Path, size: int) -> BinaryIO:
    """Open a file to append to its first `size` bytes; whatever follows them is cut off."""
    file = open(path, "ab")  # noqa: SIM115 - the caller closes it
    file.truncate(size)
    return file


def _rows(
    store: ObjectStore, run: Run, parts: Sequence[Part], progress: Callable[[float], None]
) -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
    """Yield (model_index int32[r], outputs [r, n], failed models) of each part, for models of the fit only."""
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
    """Return masks uint8[r, ceil(d / 8)] of ascending models. Draws those between them too: failed models are few."""
    if not len(model_index):
        return np.empty((0, run.design.mask_bytes), dtype=np.uint8)
    subsets = np.array([run.spec.subset_index(model) for model in model_index.tolist()])
    drawn = designs.subsets(run.design, int(subsets[0]), int(subsets[-1]) + 1)
    return drawn[subsets - subsets[0]]
