"""Keep the looks of a run's examples in the store, and read them.

Whoever creates a run, and so has its data set, writes them once. Afterwards nobody needs the data set, or its code, to
show an example.

Looks are in chunks of some thousand examples, in Parquet. A record lists the chunks with their sha256. It is written
last: whoever finds it finds everything that it lists. Each writer gives its chunks new names, so those of a writer that
was killed, or came second, are listed nowhere, and a vacuum deletes them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import threading
import uuid
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from datamodels.display.looks import POOL, TARGET, Features, Loaded, Look
from datamodels.errors import CorruptObjectError, ObjectNotFoundError, SupersededError
from datamodels.run.dataset import Dataset
from datamodels.run.runs import Run
from datamodels.storage import ObjectStore, decode, keys, records, schema
from datamodels.telemetry import logger

log = logger(__name__)

CHUNK_BYTES = 2 * 2**20
"""About the size of a chunk: to show one example, its chunk is read."""
CHUNK_EXAMPLES = 4096
"""Most examples of a chunk."""
KINDS = ("picture", "text", "row", "title")
CACHE_BYTES = 64 * 2**20
"""Size of the chunks that a reader keeps in memory, as they are in the store."""


@dataclasses.dataclass(frozen=True)
class Chunk:
    """An object with the looks of the examples `first <= index < last` of a role; its sha256 and its size in bytes."""

    role: str
    first: int
    last: int
    key: str
    sha256: str
    bytes: int


@dataclasses.dataclass(frozen=True)
class FeatureRecord:
    """`looks.Features` as JSON values; None for what is not finite."""

    names: tuple[str, ...]
    units: tuple[str, ...]
    mean: tuple[float | None, ...]
    deviation: tuple[float | None, ...]


@dataclasses.dataclass(frozen=True)
class DisplayRecord:
    """The record of a run's looks.

    pool      number of training examples
    targets   number of targets that are test examples; they come first, and the others are training examples
    pictures, texts, rows, titles  whether any example has such
    features  what is known of the numbers of a row
    """

    run: str
    pool: int
    targets: int
    pictures: bool
    texts: bool
    rows: bool
    features: FeatureRecord | None
    chunks: tuple[Chunk, ...]
    titles: bool = False


def write(store: ObjectStore, run: Run, dataset: Dataset) -> bool:
    """Store how the examples of a run look, unless the store has it or the spec does not want it.

    Returns whether they were written. Raises StoreError.
    """
    key, limits = keys.display(run.name), run.spec.display
    if not limits.store or store.exists(key):
        return False
    looks, nonce = Loaded(run, dataset), uuid.uuid4().hex[:16]
    chunks: list[Chunk] = []
    kinds: set[str] = set()
    for role, count, look in ((POOL, len(dataset.y), looks.pool), (TARGET, looks.tests, looks.target)):
        for first, some in _cut(map(look, range(count))):
            data = _encode(first, some)
            stop = first + len(some)
            part = Chunk(role, first, stop, keys.looks(run.name, role, first, stop, nonce), _sum(data), len(data))
            store.create(part.key, data)
            chunks.append(part)
            kinds |= {name for name in KINDS for one in some if _has(one, name)}
    record = DisplayRecord(
        run=run.name,
        pool=len(dataset.y),
        targets=looks.tests,
        pictures="picture" in kinds,
        texts="text" in kinds,
        rows="row" in kinds,
        titles="title" in kinds,
        features=None if looks.features is None else _document(looks.features),
        chunks=tuple(chunks),
    )
    written = records.create(store, key, dataclasses.asdict(record))
    log.info("stored how examples look", run=run.name, chunks=len(chunks), bytes=sum(chunk.bytes for chunk in chunks))
    return written


def read_record(store: ObjectStore, run: str) -> DisplayRecord | None:
    """Return the record of a run's looks; None if the store has none. Raises CorruptObjectError."""
    return records.find(store, keys.display(run), "a list of looks", lambda body: decode.build(DisplayRecord, body))


def open_looks(store: ObjectStore, run: Run) -> Stored | None:
    """Return the stored looks of a run; None if the store has none. Raises CorruptObjectError."""
    record = read_record(store, run.name)
    return None if record is None else Stored(store, run, record)


class Stored:
    """Reads looks from the store. Safe to use from any thread.

    cache_bytes  size of the chunks that are kept in memory
    """

    def __init__(self, store: ObjectStore, run: Run, record: DisplayRecord, cache_bytes: int = CACHE_BYTES):
        self._store, self._run, self.record = store, run, record
        self._first = {role: [c for c in record.chunks if c.role == role] for role in (POOL, TARGET)}
        self._lock = threading.Lock()
        self._cache_bytes = cache_bytes
        self._kept: dict[str, pa.Table] = {}  # least recently used first

    @property
    def features(self) -> Features | None:
        """Names and units of the numbers of a row; None if examples are not shown as rows."""
        found = self.record.features
        if found is None:
            return None
        mean, deviation = (np.array(numbers, dtype=np.float64) for numbers in (found.mean, found.deviation))
        return Features(list(found.names), list(found.units), mean, deviation)

    def is_of(self, run: Run) -> bool:
        """Return whether a run is the one of these looks, with the same names of classes."""
        mine = self._run
        return (run.spec.hash, run.label_names) == (mine.spec.hash, mine.label_names)

    def pool(self, index: int) -> Look:
        """Return the look of a training example. Raises IndexError, CorruptObjectError, SupersededError."""
        return self._look(POOL, index)

    def target(self, index: int) -> Look:
        """Return the look of a target. Raises as `pool` does."""
        if index >= self.record.targets:
            return self._look(POOL, int(self._run.own[index]))
        return self._look(TARGET, index)

    def tables(self, role: str, columns: list[str]) -> Iterator[pa.Table]:
        """Yield some columns of all chunks of a role, in order. Nothing of it is kept in memory."""
        for chunk in self._first[role]:
            yield self._decode(chunk, columns)

    def _look(self, role: str, index: int) -> Look:
        chunks = self._first[role]
        chunk = next((c for c in chunks if c.first <= index < c.last), None)
        if chunk is None:
            raise IndexError(f"{role} {index}: has no look")
        row = self._table(chunk).slice(index - chunk.first, 1).to_pylist()[0]
        ends = (row["span_first"], row["span_last"])
        label, numbers = row["label"], row["row"]
        return Look(
            label=label,
            value=row["value"],
            # Classes may have been named anew since.
            name=row["name"] if label is None else self._run.label_name(label),
            title=row["title"],
            picture=row["picture"],
            text=row["text"],
            span=None if ends[0] is None or ends[1] is None else (ends[0], ends[1]),
            row=None if numbers is None else np.array(numbers, dtype=np.float64),
        )

    def _table(self, chunk: Chunk) -> pa.Table:
        with self._lock:
            found = self._kept.pop(chunk.key, None)
            if found is not None:
                self._kept[chunk.key] = found
                return found
        found = self._decode(chunk)
        with self._lock:
            self._kept[chunk.key] = found
            while sum(table.nbytes for table in self._kept.values()) > self._cache_bytes and len(self._kept) > 1:
                del self._kept[next(iter(self._kept))]
        return found

    def _decode(self, chunk: Chunk, columns: list[str] | None = None) -> pa.Table:
        where = f"{self._store.url}/{chunk.key}"
        try:
            data = self._store.get(chunk.key, sha256=chunk.sha256)
        except ObjectNotFoundError:
            if read_record(self._store, self._run.name) is None:
                raise SupersededError(f"{where}: the run was deleted meanwhile; start again") from None
            raise CorruptObjectError(f"{where}: is gone; restore it from a copy") from None
        with decode.decoding(where, "a chunk of looks"):
            table = schema.opened(data).read(columns=columns, use_threads=False)
            if len(table) != chunk.last - chunk.first:
                raise ValueError(f"has {len(table)} examples, must have {chunk.last - chunk.first}")
            return table


def _cut(looks: Iterator[Look]) -> Iterator[tuple[int, list[Look]]]:
    """Yield (index of the first, looks) of each chunk."""
    first, some, size = 0, list[Look](), 0
    for look in looks:
        some.append(look)
        size += 50 + len(look.picture or b"") + len(look.text or "") + 8 * (0 if look.row is None else len(look.row))
        if size >= CHUNK_BYTES or len(some) == CHUNK_EXAMPLES:
            yield first, some
            first, some, size = first + len(some), [], 0
    if some:
        yield first, some


def _encode(first: int, some: list[Look]) -> bytes:
    columns: dict[str, list[Any]] = {name: [] for name in schema.LOOKS.names}
    for index, look in enumerate(some, first):
        ends = (None, None) if look.span is None else look.span
        row = None if look.row is None else look.row.tolist()
        values = (index, look.label, look.value, look.name, look.title, look.picture, look.text, *ends, row)
        for name, value in zip(columns, values, strict=True):
            columns[name].append(value)
    arrays = [pa.array(columns[field.name], field.type) for field in schema.LOOKS]
    sink = pa.BufferOutputStream()
    parquet.write_table(
        pa.Table.from_arrays(arrays, schema=schema.LOOKS),
        sink,
        compression=schema.COMPRESSION,
        use_dictionary=["name"],
        write_page_checksum=True,
    )
    return sink.getvalue().to_pybytes()


def _has(look: Look, name: str) -> bool:
    found = getattr(look, name)
    return found is not None and not (isinstance(found, str) and not found)


def _sum(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _document(found: Features) -> FeatureRecord:
    numbers = ([float(v) if np.isfinite(v) else None for v in some] for some in (found.mean, found.deviation))
    mean, deviation = map(tuple, numbers)
    return FeatureRecord(tuple(found.names), tuple(found.units), mean, deviation)
