"""Read files with masks and outputs block by block: NumPy arrays, memory-mapped, and Parquet.

A source is a pair of .npy files, a .npz file, a .parquet file, or a folder of .parquet files. The last three have
arrays or columns `masks` and `outputs`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from datamodels import words
from datamodels.errors import InputError

MASKS, OUTPUTS = "masks", "outputs"
BLOCK_BYTES = 64 * 2**20
"""About the largest size of the masks and outputs that are in memory at a time."""

Blocks = Iterator[tuple[np.ndarray, np.ndarray]]


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """Masks [rows, d] and outputs [rows, n] of some files.

    name        of the files, for errors
    in_masks    where the masks are, for errors about a row of them
    in_outputs  the same of the outputs
    blocks      starts to read; yields (masks, outputs) of consecutive rows
    """

    name: str
    in_masks: str
    in_outputs: str
    rows: int
    columns: int
    targets: int
    blocks: Callable[[], Blocks]


def in_exports(paths: Sequence[str]) -> list[str]:
    """Return paths. Replace a folder that `datamodels export` wrote by the paths of its arrays."""
    found: list[str] = []
    for path in paths:
        parts = [[Path(path, "models")], [Path(path, f"{name}.npy") for name in (MASKS, OUTPUTS)]]
        inside = next((part for part in parts if part[0].exists()), [])
        found += [str(part) for part in inside] or [path]
    return found


def open_all(paths: Sequence[str]) -> list[Source]:
    """Open files in the order given. Raises InputError for files that cannot be read or do not fit each other."""
    found, rest = [], list(paths)
    while rest:
        path = Path(rest.pop(0))
        if path.is_dir():
            found.append(_parquet(path))
        elif path.suffix == ".npy":
            if not rest or Path(rest[0]).suffix != ".npy":
                raise InputError(f"{path}: a .npy file of masks must be followed by the .npy file of their outputs")
            found.append(_pair(path, Path(rest.pop(0))))
        elif path.suffix == ".npz":
            arrays = load_arrays(path)
            absent = [name for name in (MASKS, OUTPUTS) if name not in arrays]
            if absent:
                raise InputError(f"{path}: has no array {absent[0]!r}, only {', '.join(sorted(arrays)) or 'none'}")
            masks, outputs = (member(path, arrays, name) for name in (MASKS, OUTPUTS))
            found.append(_of_arrays(str(path), f"{path}: {MASKS}", f"{path}: {OUTPUTS}", masks, outputs))
        elif path.suffix == ".parquet":
            found.append(_parquet(path))
        else:
            raise InputError(f"{path}: must be .npy, .npz, .parquet or a folder of .parquet files")
    first = found[0]
    for other in found[1:]:
        if (other.columns, other.targets) != (first.columns, first.targets):
            raise InputError(
                f"{other.name}: has {other.columns} columns and {other.targets} targets, {first.name} has "
                f"{first.columns} and {first.targets}: must be equal"
            )
    return found


def read_array(path: str) -> np.ndarray:
    """Open one .npy file, memory-mapped. Raises InputError."""
    found = load_arrays(Path(path))
    if not isinstance(found, np.ndarray):
        raise InputError(f"{path}: holds several arrays: must be one array, as `numpy.save` writes it")
    return found


def member(path: Path, arrays: Any, name: str) -> np.ndarray:
    """Return an array of a .npz file. Raises InputError if it cannot be read."""
    with _reading(f"{path}: {name}"):
        return arrays[name]


def read_lines(path: str) -> list[str]:
    """Read a text file with a name in each line. Raises InputError."""
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as text: {error}") from None


def load_arrays(path: Path) -> Any:
    """Open a .npy file, memory-mapped, or a .npz file. Raises InputError."""
    with _reading(str(path)):
        with open(path, "rb") as file:
            beginning = file.read(len(np.lib.format.MAGIC_PREFIX))
        if not np.lib.format.MAGIC_PREFIX.startswith(beginning[:6]) and not beginning.startswith(b"PK"):
            raise ValueError("it has no array of numpy.save or numpy.savez at its beginning")
        return np.load(path, mmap_mode="r", allow_pickle=False)


@contextlib.contextmanager
def _reading(where: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        if "pickle" in said or "Python objects" in said:  # NumPy advises to run code that is in the file
            raise InputError(
                f"{where}: holds Python objects, and not numbers; make it an array of one number type before you save "
                "it, such as np.array(rows, dtype=np.float32), for which all rows need the same length"
            ) from None
        raise InputError(f"{where}: cannot be read as NumPy arrays: {said}") from None


def _pair(masks: Path, outputs: Path) -> Source:
    name = f"{masks} and {outputs}"
    return _of_arrays(name, str(masks), str(outputs), read_array(str(masks)), read_array(str(outputs)))


def _of_arrays(name: str, in_masks: str, in_outputs: str, masks: np.ndarray, outputs: np.ndarray) -> Source:
    for place, array, of in ((in_masks, masks, "training example"), (in_outputs, outputs, "target")):
        if array.ndim != 2:
            raise InputError(
                f"{place}: has {words.count(array.ndim, 'dimension')}, {list(array.shape)}: must have 2, a row for "
                f"each model and a column for each {of}"
            )
        if not array.size:
            raise InputError(
                f"{place}: has {words.count(len(array), 'row')} and {words.count(array.shape[1], 'column')}, so it is "
                f"empty: must have a row for each model and a column for each {of}"
            )
    if masks.dtype.kind not in "biuf" or outputs.dtype.kind not in "fiu":
        hint = "; make them numbers, outputs.astype(np.float32)" if outputs.dtype.kind == "b" else ""
        raise InputError(
            f"{name}: masks have type {masks.dtype} and outputs {outputs.dtype}: must be bool or 0/1, and numbers, in "
            f"this order{hint}"
        )
    if len(masks) != len(outputs):
        raise InputError(f"{name}: masks have {len(masks)} rows and outputs {len(outputs)}: must be equal")

    def blocks() -> Blocks:
        step = max(1, BLOCK_BYTES // (masks.shape[1] * masks.itemsize + outputs.shape[1] * outputs.itemsize))
        for first in range(0, len(masks), step):
            yield np.asarray(masks[first : first + step]), np.asarray(outputs[first : first + step])

    return Source(name, in_masks, in_outputs, len(masks), masks.shape[1], outputs.shape[1], blocks)


def _parquet(path: Path) -> Source:
    import pyarrow as pa
    from pyarrow import parquet

    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    if not files:
        hint = "; CSV is not read: export as npz, npy or parquet" if list(path.glob("*.csv")) else ""
        raise InputError(f"{path}: has no .parquet files{hint}")

    def blocks() -> Blocks:
        for file in files:
            with parquet.ParquetFile(file, pre_buffer=False) as opened:
                for batch in opened.iter_batches(step, columns=[MASKS, OUTPUTS], use_threads=False):
                    yield _matrix(file, MASKS, batch.column(MASKS)), _matrix(file, OUTPUTS, batch.column(OUTPUTS))

    try:
        heads = [parquet.ParquetFile(file, pre_buffer=False) for file in files]
        for head, file in zip(heads, files, strict=True):
            names = head.schema_arrow.names
            if not {MASKS, OUTPUTS} <= set(names):
                raise InputError(f"{file}: must have the columns {MASKS} and {OUTPUTS}, has {', '.join(names)}")
        rows = sum(head.metadata.num_rows for head in heads)
        if not rows:
            raise InputError(f"{path}: has no rows")
        first = next(heads[0].iter_batches(1, columns=[MASKS, OUTPUTS], use_threads=False))
        d, n = (len(first.column(name)[0].as_py() or []) for name in (MASKS, OUTPUTS))
        step = max(1, BLOCK_BYTES // (d + 8 * n + 1))
    except (pa.ArrowException, OSError, StopIteration) as error:
        raise InputError(f"{path}: cannot be read as Parquet: {' '.join(str(error).split())[:200]}") from None
    return Source(str(path), f"{path}: {MASKS}", f"{path}: {OUTPUTS}", rows, d, n, blocks)


def _matrix(path: Path, name: str, column: Any) -> np.ndarray:
    """Return the array of a column of lists of one length. Raises InputError."""
    if column.null_count or column.flatten().null_count:
        raise InputError(f"{path}: column {name} has missing values; each row must be a list of numbers")
    flat = column.flatten().to_numpy(zero_copy_only=False)
    if flat.dtype.kind not in "biuf" or len(flat) % len(column):
        raise InputError(f"{path}: column {name} must have lists of numbers of one length")
    lengths = np.unique(column.value_lengths().to_numpy(zero_copy_only=False))
    if len(lengths) > 1:
        raise InputError(f"{path}: column {name} has lists of {lengths[0]} to {lengths[-1]} numbers: must be equal")
    return flat.reshape(len(column), -1)
