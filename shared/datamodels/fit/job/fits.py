"""Write finished fits to the object store, and read them.

A fit is committed as one Parquet object per block of targets, and one numbered record that lists them. Each block is
written as soon as it is solved, by the process that solved it. The process that finds all blocks there writes the
record. The record is the commit point: a reader that finds it finds everything that it lists. Blocks are named by what
was fitted (data and settings), so writing them again after a crash changes nothing. `finished` has the records; this
module has the blocks.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from datamodels.errors import CorruptObjectError, ObjectNotFoundError, StoreUnavailableError, SupersededError
from datamodels.fit.data import problem
from datamodels.fit.data.problem import Solution
from datamodels.fit.job.finished import Block, FitRecord, read_fit, read_newest_fit
from datamodels.storage import decode, keys, records, schema
from datamodels.storage.base import ObjectStore

ENCODINGS = {"columns.list.element": "DELTA_BINARY_PACKED", "weights.list.element": "BYTE_STREAM_SPLIT"}
"""Of the Parquet columns that take most room: columns go up in small steps, and the bytes of weights that say least are
often equal. Readers of all versions know both."""


def write(store: ObjectStore, run: str, digest: str, first: int, solution: Solution) -> str | None:
    """Write the weights of the targets from `first` on, unless an earlier attempt at the same fit has written them.

    Returns the sha256 of what it wrote, computed before the bytes leave this process; None if it wrote nothing. Raises
    StoreFullError, StoreUnavailableError; after those, write again.
    """
    data = _encode(solution, first)
    sha256 = hashlib.sha256(data).hexdigest()
    return sha256 if store.create(keys.weights(run, digest, first, first + solution.n), data) else None


def missing(store: ObjectStore, run: str, digest: str, spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the blocks (first, last) that are not written yet."""
    return [span for span in spans if not store.exists(keys.weights(run, digest, *span))]


def commit(
    store: ObjectStore,
    record: FitRecord,
    spans: Sequence[tuple[int, int]],
    written: Mapping[tuple[int, int], str] | None = None,
) -> FitRecord:
    """Write the record of a fit whose blocks (first, last) are all written; return it as committed.

    written  sha256 of blocks, if it is known. All blocks are read and checked before the record lists them:
             these against their sha256, the others by reading them twice

    `record.number` and `record.blocks` are ignored. If the newest fit of the run has the same digest, nothing is
    written and that fit is returned. Raises CorruptObjectError if a block is damaged, StoreFullError,
    StoreUnavailableError; after the last two, commit again.
    """
    newest = read_newest_fit(store, record.run)
    if newest is not None and newest.digest == record.digest:
        return newest
    checked = [_checked(store, record, span, (written or {}).get(span)) for span in spans]
    blocks, choice = tuple(block for block, _ in checked), checked[0][1]
    number = -1 if newest is None else newest.number
    while True:
        record = dataclasses.replace(record, number=number + 1, blocks=blocks, choice=choice)
        if records.create(store, keys.fit(record.run, record.number), record.document()):
            if missing(store, record.run, record.digest, spans):  # of an earlier attempt, long ago
                store.delete(keys.fit(record.run, record.number))
                raise StoreUnavailableError(
                    f"fit {record.number} of run {record.run}: a vacuum removed blocks of an earlier attempt just "
                    "before they were used; fit again"
                )
            return record
        # Another fitter took the number. If it fitted the same, this fit is done too.
        winner = read_fit(store, record.run, record.number)
        if winner.digest == record.digest:
            return winner
        number = winner.number


def _checked(
    store: ObjectStore, record: FitRecord, span: tuple[int, int], sha256: str | None
) -> tuple[Block, dict[str, Any] | None]:
    """Return a block and the choice that was made for all targets. `sha256` is that of the block if it is known."""
    key = keys.weights(record.run, record.digest, *span)
    data = store.read_twice(key) if sha256 is None else store.get(key, sha256=sha256)
    found = _decode(data, f"{store.url}/{key}", range(*span), record.columns)
    return Block(key, *span, hashlib.sha256(data).hexdigest()), found.choice


def load(store: ObjectStore, record: FitRecord) -> Solution:
    """Return the weights of a finished fit. Raises CorruptObjectError naming an object that is damaged or missing."""
    return problem.concatenate(blocks(store, record))


def blocks(store: ObjectStore, record: FitRecord) -> Iterator[Solution]:
    """Yield the weights of a finished fit block by block, in the order of targets. Raises as `load` does."""
    return (_read(store, record, block) for block in record.blocks)


def _read(store: ObjectStore, record: FitRecord, block: Block) -> Solution:
    where = f"{store.url}/{block.key}"
    try:
        data = store.get(block.key, sha256=block.sha256)
    except ObjectNotFoundError as error:
        if not store.exists(keys.fit(record.run, record.number)):
            raise SupersededError(
                f"{where}: fit {record.number} of run {record.run} was removed after this read began; start it again"
            ) from error
        raise CorruptObjectError(f"{where}: belongs to a finished fit and is gone; restore it from a copy") from error
    return _decode(data, where, range(block.first, block.last), record.columns)


def _encode(solution: Solution, first: int) -> bytes:
    offsets, written = schema.array(solution.indptr.astype(np.int32)), schema.WEIGHTS
    columns = [
        schema.array(np.arange(first, first + solution.n, dtype=np.int32)),
        schema.texts(solution.status),
        schema.array(solution.lambda_),
        schema.array(solution.gap),
        schema.array(solution.heldout_r2),
        schema.array(solution.intercept),
        pa.ListArray.from_arrays(offsets, schema.array(solution.columns), type=schema.WEIGHTS.field("columns").type),
        pa.ListArray.from_arrays(offsets, schema.array(solution.weights), type=schema.WEIGHTS.field("weights").type),
    ]
    if solution.measured is not None:
        columns.append(pa.ListArray.from_arrays(offsets, schema.array(solution.measured), type=schema.MEASURED.type))
        written = written.append(schema.MEASURED)
    if solution.choice is not None:
        written = written.with_metadata({schema.CHOICE: records.canonical(solution.choice)})
    sink = io.BytesIO()
    pq.write_table(
        pa.Table.from_arrays(columns, schema=written),
        sink,
        compression=schema.COMPRESSION,
        use_dictionary=["status", *(["measured.list.element"] if solution.measured is not None else [])],
        column_encoding=ENCODINGS,
        write_page_checksum=True,
    )
    return sink.getvalue()


def _decode(data: bytes, where: str, targets: range, d: int) -> Solution:
    try:
        table = schema.read(data)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise CorruptObjectError(f"{where}: is not Parquet ({error}); restore it from a copy") from None
    lists = ["columns", "weights"]
    if table.schema.equals(schema.WEIGHTS.append(schema.MEASURED)):
        lists.append("measured")
    elif not table.schema.equals(schema.WEIGHTS):
        raise CorruptObjectError(f"{where}: does not have the schema of fitted weights; restore it from a copy")
    written = (table.schema.metadata or {}).get(schema.CHOICE)
    with decode.decoding(where, "a block of a fit"):
        choice = json.loads(written) if written else None
    table = table.combine_chunks()
    found = {name: table.column(name).combine_chunks() for name in lists}
    columns = schema.numbers(found["columns"].flatten())
    outside = len(columns) and not 0 <= columns.min() <= columns.max() < d
    aligned = all(found["columns"].offsets.equals(found[name].offsets) for name in lists)
    if table.column("target").to_pylist() != list(targets) or outside or not aligned:
        raise CorruptObjectError(
            f"{where}: does not hold the targets {targets.start} to {targets.stop - 1} over {d} columns; delete it "
            "if no finished fit lists it, or restore it from a copy"
        )
    return Solution(
        d=d,
        status=table.column("status").to_pylist(),
        lambda_=schema.numbers(table.column("lambda")),
        gap=schema.numbers(table.column("gap")),
        heldout_r2=schema.numbers(table.column("heldout_r2")),
        intercept=schema.numbers(table.column("intercept")),
        indptr=schema.numbers(found["columns"].offsets).astype(np.int64),
        columns=columns,
        weights=schema.numbers(found["weights"].flatten()),
        choice=choice,
        measured=schema.numbers(found["measured"].flatten()) if "measured" in found else None,
    )
