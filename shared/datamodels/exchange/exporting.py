"""Write a run for other programs: as NumPy arrays, Parquet or CSV. All of it streams; see `contents`.

In every format `facts.json` has the spec, the meaning of outputs, the classes, the fit and its evaluation. Each weight
of a fit with a prior comes with how much of it was measured. Masks, outputs and weights are

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
from datamodels.exchange.contents import Contents
from datamodels.exchange.exported import FACTS
from datamodels.fit.data.problem import Solution

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
    arrays.write("model_index", "i8", (m,), [contents.index])
    arrays.write("masks", bool, (m, d), contents.masks(contents.index))
    arrays.write("outputs", run.dtype, (m, n), (outputs for _, outputs in contents.fitted()))
    s, r = spec.evaluate.subsets, spec.evaluate.models
    if s:
        arrays.write("unseen_masks", bool, (s, d), contents.unseen_masks())
        arrays.write("unseen_outputs", run.dtype, (s, r, n), (outputs for _, outputs in contents.unseen()))
    arrays.write("own_example", "i4", (n,), [run.own])
    for name, values in (("labels", run.labels), ("target_labels", run.target_labels)):
        if values is not None:
            arrays.write(name, "i4", values.shape, [values])
    if contents.record is None:
        return
    targets = contents.targets
    indptr = np.concatenate([[0], np.cumsum(targets["nonzeros"])])
    stored = int(indptr[-1])
    arrays.write("weights", "f4", (stored,), (block.weights for _, block in contents.weights()))
    if contents.has_prior:
        arrays.write("measured", "f4", (stored,), (_measured(block) for _, block in contents.weights()))
    arrays.write("columns", "i4", (stored,), (block.columns for _, block in contents.weights()))
    arrays.write("indptr", "i8", (n + 1,), [indptr])
    for name in ("lambda", "gap", "heldout_r2", "intercept", "lds"):
        arrays.write(name, "f8", (n,), [targets[name]])
    arrays.write("status", targets["status"].dtype, (n,), [targets["status"]])


def _csv(contents: Contents, path: Path) -> None:
    path.mkdir(parents=True)
    run, index = contents.run, contents.index
    columns, targets = (
        [f"{what}{i}" for i in range(count)] for what, count in (("c", run.design.columns), ("t", run.n))
    )
    _table(path / "masks.csv", ["model", *columns], _mask_lines(contents, index))
    _table(path / "outputs.csv", ["model", *targets], _lines(contents.fitted()))
    if run.spec.evaluate.subsets:
        _table(path / "unseen_masks.csv", ["model", *columns], _mask_lines(contents, contents.unseen_index))
        _table(path / "unseen_outputs.csv", ["model", *targets], _lines(contents.unseen()))
    if contents.record is not None:
        measured = ["measured"] if contents.has_prior else []
        _table(path / "weights.csv", ["target", "column", "weight", *measured], _weight_lines(contents))
        _table(path / "targets.csv", list(contents.targets), _rows(*contents.targets.values()))
    if contents.spans:
        with open(path / "spans.csv", "w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file)
            rows.writerow(["target", *contents.spans])
            rows.writerows(zip(range(run.n), *contents.spans.values(), strict=True))
    _write_facts(contents, path)


def _mask_lines(contents: Contents, models: np.ndarray) -> Iterator[str]:
    numbers = iter(models.tolist())
    for masks in contents.masks(models):
        text = np.full((len(masks), 2 * masks.shape[1]), ord(","), dtype=np.uint8)
        text[:, 1::2] = masks + np.uint8(ord("0"))
        yield from (f"{next(numbers)}{row.tobytes().decode()}" for row in text)


def _lines(rows: Iterable[tuple[np.ndarray, np.ndarray]]) -> Iterator[str]:
    for models, values in rows:
        for model, line in zip(models.tolist(), values, strict=True):
            yield ",".join([str(model), *_texts(line)])


def _weight_lines(contents: Contents) -> Iterator[str]:
    for first, block in contents.weights():
        target = np.repeat(np.arange(first, first + block.n), np.diff(block.indptr))
        yield from _rows(target, block.columns, block.weights, *([_measured(block)] if contents.has_prior else []))


def _measured(block: Solution) -> np.ndarray:
    """Return float32[nnz]: how much of each weight was measured; blocks without weights do not say."""
    parts = block.measured_parts
    return np.zeros(len(block.weights), dtype=np.float32) if parts is None else parts


def _rows(*columns: np.ndarray) -> Iterator[str]:
    return map(",".join, zip(*map(_texts, columns), strict=True))


def _texts(values: np.ndarray) -> list[str]:
    """Return the shortest texts that read back as the same numbers; three times as fast as `str` of each."""
    import pyarrow as pa

    return pa.array(values).cast(pa.string()).to_pylist()


def _table(path: Path, head: list[str], lines: Iterable[str]) -> None:
    """Write lines of numbers and words, which need no quotes."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        file.write(",".join(head) + "\r\n")
        file.writelines(f"{line}\r\n" for line in lines)


def _parquet(contents: Contents, path: Path) -> None:
    import pyarrow as pa

    run = contents.run
    tables: dict[str, Iterator[pa.Table]] = {"models": _model_tables(contents, contents.fitted())}
    if run.spec.evaluate.subsets:
        tables["unseen"] = _model_tables(contents, contents.unseen())
    if contents.record is not None:
        tables["weights"] = (
            _weight_table(first, block, with_prior=contents.has_prior) for first, block in contents.weights()
        )
        spans = {f"span_{name}": values for name, values in contents.spans.items()}
        tables["targets"] = iter([pa.table(contents.targets | spans)])
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


def _model_tables(contents: Contents, rows: Iterator[tuple[np.ndarray, np.ndarray]]) -> Iterator[Any]:
    """Yield tables of models: lists of any length, which every reader knows, not of a fixed one."""
    import pyarrow as pa

    def lists(values: np.ndarray) -> pa.Array:
        ends = np.arange(len(values) + 1, dtype=np.int64) * values.shape[1]
        return pa.LargeListArray.from_arrays(pa.array(ends), pa.array(values.reshape(-1)))

    for models, outputs in rows:
        done = 0
        for masks in contents.masks(models):
            piece, done = slice(done, done + len(masks)), done + len(masks)
            fields = {"subset": contents.subsets(models[piece]), "model": models[piece]}
            yield pa.table(fields | {"masks": lists(masks.view(np.uint8)), "outputs": lists(outputs[piece])})


def _weight_table(first: int, block: Solution, *, with_prior: bool) -> Any:
    import pyarrow as pa

    target = np.repeat(np.arange(first, first + block.n, dtype=np.int32), np.diff(block.indptr))
    measured = {"measured": _measured(block)} if with_prior else {}
    return pa.table({"target": target, "column": block.columns, "weight": block.weights} | measured)


def _write_facts(contents: Contents, path: Path) -> None:
    lines = (f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in contents.facts().items())
    (path / FACTS).write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


FORMATS: dict[str, Callable[[Contents, Path], None]] = {"npz": _npz, "npy": _npy, "parquet": _parquet, "csv": _csv}
"""Functions that write a run, by the name of the format."""
