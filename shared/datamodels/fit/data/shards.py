"""Keep a committed snapshot as memory-mapped arrays (shards) on the local disk, for solvers that read it many times.

A folder holds packed masks, outputs and model indices as raw little-endian arrays, and `shards.json`, which lists the
parts whose rows these are, with checksums. Rows of new parts are appended. They are valid once `shards.json` lists
them, and it is replaced only when they are durable. So a folder is always usable, and a killed attempt leaves only rows
that are not listed. Only one process at a time may write to it.

Local disks have no checksums of their own in most machines. So rows are checked against theirs before each fit that
reads them, and the rows of a part that differ are read from the store again.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

import numpy as np
from prometheus_client import Counter

from datamodels import machine
from datamodels.aggregate.manifest import Part, Snapshot
from datamodels.errors import CorruptObjectError, NotReadyError, StoreUnavailableError
from datamodels.fit.data import scratch
from datamodels.fit.data.row_files import RowFiles, checksums
from datamodels.run import designs
from datamodels.run.runs import Run
from datamodels.settings import FitterSettings
from datamodels.storage import ObjectStore, disk, records
from datamodels.telemetry import carried, logger

log = logger(__name__)

_LIST = "shards.json"
_MASKS, _OUTPUTS, _MODELS = "masks.bin", "outputs.bin", "models.bin"
_VERSION = 3
"""Version of the folder's layout. A folder of another version is made again."""

DAMAGED = Counter(
    "datamodels_fit_damaged_parts_total",
    "Parts whose copy on the fitter's disk was damaged and was read from the store again. If it counts on, replace "
    "the disk.",
)


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
    checked: bool = True,
) -> Shards:
    """Return the shards of a snapshot, in `folder`: read the missing parts, or all if the folder has other parts.

    progress  called with the fraction of the missing parts that is read; what it raises stops the work
    checked   whether to check all rows. If not, `check` has to check those that are read; model indices are checked

    Raises NotReadyError if the snapshot has no model to fit, CorruptObjectError naming the part, StoreFullError if the
    disk is full, StoreUnavailableError if it returns other bytes than were written. A folder that is only half written
    is never used.
    """
    parts = {identity(part): part for part in parts_of_fit(run, snapshot)}
    with scratch.room(folder):
        rows = _Rows.read(folder, run)
        if rows is None or not {block.part for block in rows.blocks} <= parts.keys():
            shutil.rmtree(folder, ignore_errors=True)
            rows = _Rows.of(run)
        present = {block.part for block in rows.blocks}
        missing = [part for name, part in parts.items() if name not in present]
        if missing:
            rows = _append(store, run, missing, folder, rows, progress)
        if rows.blocks:
            _repair(store, run, parts, folder, rows, progress, parts if checked else ())
    if not rows.count:
        shutil.rmtree(folder, ignore_errors=True)
        raise NotReadyError(
            f"run {run.name}: manifest {snapshot.version} has no outputs of the models 0 to {run.spec.m - 1}; "
            "train some first"
        )
    return rows.open(folder)


def check(
    store: ObjectStore,
    run: Run,
    snapshot: Snapshot,
    folder: Path,
    needed: Collection[tuple[str, str]] | None = None,
    *,
    progress: Callable[[float], None] = lambda fraction: None,
) -> None:
    """Check rows of shards that `materialise` has returned, and read those that are damaged from the store again.

    needed    identities of the parts whose rows are checked; None for all
    progress  as for `materialise`, which has the same errors
    """
    parts, rows = {identity(part): part for part in parts_of_fit(run, snapshot)}, _Rows.read(folder, run)
    if rows is None:
        raise StoreUnavailableError(f"{folder}: another process removed the rows of run {run.name}; fit again")
    with scratch.room(folder):
        _repair(store, run, parts, folder, rows, progress, parts if needed is None else needed)


def identity(part: Part) -> tuple[str, str]:
    """Return (key, sha256), which identify a part."""
    return part.key, part.sha256


def rows_of(parts: Sequence[Part], model_index: np.ndarray) -> np.ndarray:
    """Return bool[rows]: which models, int32[rows], are in one of some parts of a snapshot, in its order."""
    ends = np.array([(part.first, part.last) for part in parts], dtype=np.int64).reshape(-1)
    return np.searchsorted(ends, model_index, side="right") % 2 == 1  # ascending: first, last, first, last, ...


@dataclasses.dataclass(frozen=True)
class _Block:
    """The rows of one part, which follow those of the block before.

    part    `identity` of the part
    rows    number of rows
    failed  number of models of the fit that have none
    crc32   checksums of the bytes of these rows in each file
    """

    part: tuple[str, str]
    rows: int
    failed: int
    crc32: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class _Rows:
    """The contents of `shards.json`: which rows the folder has."""

    run: str
    n: int
    dtype: str
    mask_bytes: int
    blocks: tuple[_Block, ...] = ()

    @property
    def row_bytes(self) -> dict[str, int]:
        """Bytes of a row in each file."""
        return {_MASKS: self.mask_bytes, _OUTPUTS: np.dtype(self.dtype).itemsize * self.n, _MODELS: 4}

    @property
    def count(self) -> int:
        return sum(block.rows for block in self.blocks)

    @property
    def starts(self) -> list[int]:
        """First row of each block."""
        return np.cumsum([0, *(block.rows for block in self.blocks)])[:-1].tolist()

    @classmethod
    def of(cls, run: Run) -> Self:
        """Return a folder without rows."""
        return cls(run.name, run.n, run.dtype, run.design.mask_bytes)

    @classmethod
    def read(cls, folder: Path, run: Run) -> Self | None:
        """Read the file of a folder; return None if this run cannot use it."""
        try:
            found = records.decode((folder / _LIST).read_bytes(), str(folder / _LIST))
            if found.pop("version") != _VERSION:
                return None
            blocks = tuple(
                _Block(tuple(block["part"]), block["rows"], block["failed"], tuple(block["crc32"]))
                for block in found.pop("blocks")
            )
            rows = cls(**found, blocks=blocks)
        except (OSError, CorruptObjectError, KeyError, TypeError, AttributeError):
            return None
        return rows if dataclasses.replace(rows, blocks=()) == cls.of(run) else None

    def write(self, folder: Path) -> None:
        temporary = folder / f"{_LIST}.tmp"
        with open(temporary, "wb") as file:
            file.write(records.encode(dataclasses.asdict(self) | {"version": _VERSION}))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, folder / _LIST)
        disk.flush(folder)

    def open(self, folder: Path) -> Shards:
        def array(name: str, dtype: str, *width: int) -> np.ndarray:
            return np.memmap(folder / name, dtype=dtype, mode="r", shape=(self.count, *width))

        return Shards(
            masks=array(_MASKS, "u1", self.mask_bytes),
            outputs=array(_OUTPUTS, np.dtype(self.dtype).newbyteorder("<").str, self.n),
            model_index=array(_MODELS, "<i4"),
            failed=sum(block.failed for block in self.blocks),
        )


def _append(
    store: ObjectStore, run: Run, parts: Sequence[Part], folder: Path, rows: _Rows, progress: Callable[[float], None]
) -> _Rows:
    """Add the rows of parts. On an error, the folder is restored, or removed if it did not exist."""
    folder.mkdir(parents=True, exist_ok=True)
    count, blocks = rows.count, list(rows.blocks)
    try:
        with RowFiles(folder, rows.row_bytes) as files:
            for done, part in enumerate(parts, 1):
                contents, block = _contents(store, run, part)
                files.write(count, contents)
                count += block.rows
                blocks.append(block)
                progress(done / len(parts))
            files.end(count)
        rows = dataclasses.replace(rows, blocks=tuple(blocks))
        rows.write(folder)
    except BaseException:
        if rows.blocks:
            with RowFiles(folder, rows.row_bytes) as files:
                files.end(rows.count)
        else:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    return rows


def _repair(
    store: ObjectStore,
    run: Run,
    parts: dict[tuple[str, str], Part],
    folder: Path,
    rows: _Rows,
    progress: Callable[[float], None],
    needed: Collection[tuple[str, str]],
) -> None:
    """Check rows, and write those of a part again if they are not what was written.

    needed  identities of the parts to check; of others, only the model indices are
    """
    with RowFiles(folder, rows.row_bytes) as files, ThreadPoolExecutor(machine.cores()) as pool:

        def damaged(first: int, block: _Block) -> bool:
            names = [name for name in rows.row_bytes if name == _MODELS or block.part in needed]
            written = dict(zip(rows.row_bytes, block.crc32, strict=True))
            return files.checksums(first, block.rows, names) != tuple(written[name] for name in names)

        bad = []
        for i, wrong in enumerate(pool.map(carried(damaged), rows.starts, rows.blocks)):
            if wrong:
                bad.append(i)
            progress(1.0)
        for i in bad:
            key = rows.blocks[i].part[0]
            log.warning("rows on the local disk are damaged; reading their part again", folder=str(folder), key=key)
            DAMAGED.inc()
            contents, _ = _contents(store, run, parts[rows.blocks[i].part])
            files.write(rows.starts[i], contents)
        if bad:
            files.end(rows.count)
        for i in bad:
            if damaged(rows.starts[i], rows.blocks[i]):
                raise StoreUnavailableError(
                    f"{folder}: the disk returns other bytes than were written to it; use another disk "
                    f"({FitterSettings.prefix}_SCRATCH)"
                )


def _contents(store: ObjectStore, run: Run, part: Part) -> tuple[tuple[bytes, ...], _Block]:
    """Read a part; return the bytes of its rows in each file, for models of the fit only, and their block."""
    found = part.read(store, run.name)
    if found.outputs.shape[1] != run.n:
        raise CorruptObjectError(
            f"{store.url}/{part.key}: has outputs on {found.outputs.shape[1]} targets, run {run.name} has {run.n}; "
            "restore it from a copy"
        )
    mine = found.model_index < run.spec.m
    model_index, outputs = found.model_index[mine], found.outputs[mine]
    contents = (
        _masks(run, model_index).tobytes(),
        outputs.astype(np.dtype(run.dtype).newbyteorder("<"), copy=False).tobytes(),
        model_index.astype("<i4").tobytes(),
    )
    failed = sum(model < run.spec.m for model in found.failed)
    return contents, _Block(identity(part), len(model_index), failed, checksums(contents))


def _masks(run: Run, model_index: np.ndarray) -> np.ndarray:
    """Return masks uint8[r, ceil(d / 8)] of ascending models. Draws those between them too: failed models are few."""
    if not len(model_index):
        return np.empty((0, run.design.mask_bytes), dtype=np.uint8)
    subsets = np.array([run.spec.subset_index(model) for model in model_index.tolist()])
    drawn = designs.subsets(run.design, int(subsets[0]), int(subsets[-1]) + 1)
    return drawn[subsets - subsets[0]]
