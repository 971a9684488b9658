"""Write a run for other programs: as NumPy arrays, Parquet or CSV. All of it streams; see `contents`.

In every format `facts.json` has the spec, the meaning of outputs, the classes, the fit and its evaluation. Masks,
outputs and weights are

    npy, npz   arrays; weights are the three arrays of a CSR matrix [n, d]. Those of npy can be memory-mapped
    parquet    a table in each folder: models, unseen, weights, targets. README.md tells Hugging Face `datasets` so
    csv        a file for each table; masks and outputs have a column for each example or target
"""

from __future__ import annotations

import contextlib
import csv
import json
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from datamodels.errors import InputError, SettingsError
from datamodels.exchange.contents import Contents, Rows
from datamodels.exchange.exported import FACTS

CARD = """---
configs:
{configs}
---

Outputs of models trained on subsets of a data set, and the linear models fitted to them: run {run} of datamodels.
Output: {output}. `facts.json` says more.

    from datasets import load_dataset

    models = load_dataset("{folder}", "models")
"""


def export(contents: Contents, path: Path, kind: str) -> None:
    """Write a run to a new file or folder in one of FORMATS. Raises SettingsError if it exists or cannot be written."""
    if path.exists():
        raise SettingsError(f"{path}: exists; name another place with --output, or remove it")
    try:
        FORMATS[kind](contents, path)
    except OSError as error:
        raise SettingsError(f"{path}: cannot be written: {error.strerror}") from error


class _Arrays:
    """Writes arrays row by row: each to a file of its own, or all to one zip file."""

    def __init__(self, open_member: Callable[[str], contextlib.AbstractContextManager[BinaryIO]]):
        self._open = open_member

    def write(self, name: str, dtype: Any, shape: tuple[int, ...], blocks: Iterable[np.ndarray]) -> None:
        """Write an array of this shape from blocks of its rows. Raises InputError if they do not make it up."""
        dtype, rows = np.dtype(dtype).newbyteorder("<"), 0
        with self._open(f"{name}.npy") as file:
            header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_2_0(file, header)
            for block in blocks:
                file.write(np.ascontiguousarray(block, dtype=dtype).tobytes())
                rows += block.size
        if rows != int(np.prod(shape)):
            raise InputError(f"{name}: has {rows} values for the shape {shape}; export the run again")


def _npy(contents: Contents, path: Path) -> None:
    path.mkdir(parents=True)
    _write_arrays(contents, _Arrays(lambda name: (path / name).open("wb")))
    _write_facts(contents, path)


def _npz(contents: Contents, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:

        def member(name: str) -> contextlib.AbstractContextManager[Any]:
            return archive.open(name, "w", force_zip64=True)

        arrays = _Arrays(member)
        _write_arrays(contents, arrays)
        text = np.array(json.dumps(contents.facts()))
        arrays.write("facts", text.dtype, (), [text])


def _write_arrays(contents: Contents, arrays: _Arrays) -> None:
    run, m, spec = contents.run, contents.models, contents.run.spec
    n, d = run.n, run.design.columns
    arrays.write("model_index", "i8", (m,), (rows.model for rows in contents.fitted_rows()))
    arrays.write("masks", bool, (m, d), (rows.masks for rows in contents.fitted_rows()))
    arrays.write("outputs", run.dtype, (m, n), (rows.outputs for rows in contents.fitted_rows()))
    s, r = spec.evaluate.subsets, spec.evaluate.models
    if s:
        arrays.write("unseen_masks", bool, (s, d), contents.unseen_masks())
        arrays.write("unseen_outputs", run.dtype, (s, r, n), (rows.outputs for rows in contents.unseen_rows()))
    arrays.write("own_example", "i4", (n,), [run.own])
    for name, values in (("labels", run.labels), ("target_labels", run.target_labels)):
        if values is not None:
            arrays.write(name, "i4", values.shape, [values])
    if contents.record is None:
        return
    stored = sum(len(block.weights) for _, block in contents.weights())
    arrays.write("weights", "f4", (stored,), (block.weights for _, block in contents.weights()))
    arrays.write("columns", "i4", (stored,), (block.columns for _, block in contents.weights()))
    arrays.write("indptr", "i8", (n + 1,), _indptr(contents))
    for name in ("lambda", "gap", "heldout_r2", "intercept", "lds"):
        arrays.write(name, "f8", (n,), (np.asarray(table[name]) for table in contents.targets()))
    width = max(len(status) for _, block in contents.weights() for status in block.status)
    arrays.write("status", f"U{width}", (n,), (np.array(block.status, f"U{width}") for _, block in contents.weights()))


def _indptr(contents: Contents) -> Iterator[np.ndarray]:
    before = 0
    yield np.zeros(1, dtype=np.int64)
    for _, block in contents.weights():
        yield block.indptr[1:] + before
        before += int(block.indptr[-1])


def _csv(contents: Contents, path: Path) -> None:
    path.mkdir(parents=True)
    run = contents.run
    columns, targets = (
        [f"{what}{i}" for i in range(count)] for what, count in (("c", run.design.columns), ("t", run.n))
    )
    _table(path / "masks.csv", ["model", *columns], _lines(contents.fitted_rows(), "masks"))
    _table(path / "outputs.csv", ["model", *targets], _lines(contents.fitted_rows(), "outputs"))
    if run.spec.evaluate.subsets:
        _table(path / "unseen_masks.csv", ["model", *columns], _lines(contents.unseen_rows(), "masks"))
        _table(path / "unseen_outputs.csv", ["model", *targets], _lines(contents.unseen_rows(), "outputs"))
    if contents.record is not None:
        _table(path / "weights.csv", ["target", "column", "weight"], _weight_lines(contents))
        lines = (line for table in contents.targets() for line in zip(*map(list, table.values()), strict=True))
        _table(path / "targets.csv", list(next(contents.targets())), lines)
    _write_facts(contents, path)


def _lines(rows: Iterator[Rows], field: str) -> Iterator[list[Any]]:
    for block in rows:
        values = getattr(block, field)
        values = values.astype(np.uint8) if values.dtype == bool else values
        for model, line in zip(block.model.tolist(), values, strict=True):
            yield [model, *(str(value) for value in line)]  # the shortest text that reads back as the same number


def _weight_lines(contents: Contents) -> Iterator[tuple[int, int, str]]:
    for first, block in contents.weights():
        for i in range(block.n):
            for column, weight in zip(*block.row(i), strict=True):
                yield first + i, int(column), str(weight)


def _table(path: Path, head: list[str], lines: Iterable[Iterable[Any]]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(head)
        writer.writerows(lines)


def _parquet(contents: Contents, path: Path) -> None:
    import pyarrow as pa

    run = contents.run
    tables: dict[str, Iterator[pa.Table]] = {"models": map(_model_table, contents.fitted_rows())}
    if run.spec.evaluate.subsets:
        tables["unseen"] = map(_model_table, contents.unseen_rows())
    if contents.record is not None:
        tables["weights"] = (_weight_table(first, block) for first, block in contents.weights())
        tables["targets"] = (pa.table(table) for table in contents.targets())
    for name, found in tables.items():
        _write_parquet(path / name, found)
    configs = "\n".join(f"- config_name: {name}\n  data_files: {name}/*.parquet" for name in tables)
    card = CARD.format(configs=configs, run=run.name, output=run.output, folder=path)
    (path / "README.md").write_text(card, encoding="utf-8")
    _write_facts(contents, path)


def _write_parquet(folder: Path, tables: Iterator[Any]) -> None:
    from pyarrow import parquet

    folder.mkdir(parents=True)
    writer = None
    with contextlib.ExitStack() as stack:
        for table in tables:
            if writer is None:
                file = folder / "0.parquet"
                writer = stack.enter_context(
                    parquet.ParquetWriter(file, table.schema, compression="zstd", use_dictionary=False)
                )
            writer.write_table(table)


def _model_table(rows: Rows) -> Any:
    """Return a table of models: lists of any length, which every reader knows, not of a fixed one."""
    import pyarrow as pa

    def lists(values: np.ndarray) -> pa.Array:
        ends = np.arange(len(values) + 1, dtype=np.int64) * values.shape[1]
        return pa.LargeListArray.from_arrays(pa.array(ends), pa.array(values.reshape(-1)))

    fields = {"subset": pa.array(rows.subset), "model": pa.array(rows.model)}
    return pa.table(fields | {"masks": lists(rows.masks.astype(np.uint8)), "outputs": lists(rows.outputs)})


def _weight_table(first: int, block: Any) -> Any:
    import pyarrow as pa

    target = np.repeat(np.arange(first, first + block.n, dtype=np.int32), np.diff(block.indptr))
    return pa.table({"target": target, "column": block.columns, "weight": block.weights})


def _write_facts(contents: Contents, path: Path) -> None:
    lines = (f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in contents.facts().items())
    (path / FACTS).write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


FORMATS: dict[str, Callable[[Contents, Path], None]] = {"npz": _npz, "npy": _npy, "parquet": _parquet, "csv": _csv}
"""Functions that write a run, by the name of the format."""
