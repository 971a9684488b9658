"""The manifest: which parts of a run are committed. Numbered, create-only records; each lists all that the one before
lists, so a reader that follows the newest one sees every model at most once and never lists the store.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Self

from datamodels.errors import CorruptObjectError, ObjectNotFoundError
from datamodels.storage import ObjectStore, keys, records

if TYPE_CHECKING:
    from datamodels.aggregate.part import Outputs

NONE = -1
"""Version of a run that has no manifest yet."""


@dataclasses.dataclass(frozen=True)
class Part:
    """A committed part, as a manifest lists it.

    rows    models with outputs
    failed  (model_index, reason) of the others
    """

    key: str
    first: int
    last: int
    rows: int
    failed: tuple[tuple[int, str], ...]
    sha256: str
    bytes: int

    @property
    def models(self) -> range:
        return range(self.first, self.last)

    def document(self) -> dict[str, Any]:
        failed = [{"model_index": model, "reason": reason} for model, reason in self.failed]
        return dataclasses.asdict(self) | {"failed": failed}

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Self:
        failed = tuple((f["model_index"], f["reason"]) for f in document["failed"])
        return cls(**document | {"failed": failed})

    def read(self, store: ObjectStore, run: str) -> Outputs:
        """The outputs of the part, checked. Raises CorruptObjectError, also where the object is gone."""
        from datamodels.aggregate import part  # PyArrow, which readers of manifests alone do without

        try:
            data = store.get(self.key, sha256=self.sha256)
        except ObjectNotFoundError as error:
            raise CorruptObjectError(
                f"{store.url}/{self.key}: is listed in the manifest and is gone; restore it from a copy"
            ) from error
        return part.decode(data, f"{store.url}/{self.key}", run=run, models=self.models)


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """One version of the manifest of a run. Parts ascend and do not overlap."""

    run: str
    version: int
    parts: tuple[Part, ...]

    @functools.cached_property
    def ranges(self) -> list[range]:
        """Models committed, the failed ones included: ascending ranges, merged."""
        return merged(part.models for part in self.parts)

    @property
    def committed(self) -> int:
        """Models committed, the failed ones included."""
        return sum(len(part.models) for part in self.parts)

    @property
    def rows(self) -> int:
        """Models with outputs."""
        return sum(part.rows for part in self.parts)

    @functools.cached_property
    def failed(self) -> dict[int, str]:
        """Reason of each model that could not be trained."""
        return {model: reason for part in self.parts for model, reason in part.failed}

    def outputs(self, store: ObjectStore) -> Iterator[Outputs]:
        """Every part in order, each checked against its sha256. Raises CorruptObjectError naming the object."""
        return (part.read(store, self.run) for part in self.parts)


def merged(ranges: Iterable[range]) -> list[range]:
    """Ascending ranges, those that touch joined."""
    result: list[range] = []
    for found in sorted(ranges, key=lambda r: r.start):
        if result and result[-1].stop == found.start:
            result[-1] = range(result[-1].start, found.stop)
        else:
            result.append(found)
    return result


def read(store: ObjectStore, run: str, version: int) -> Snapshot:
    """One version. Raises ObjectNotFoundError, CorruptObjectError."""
    key = keys.manifest(run, version)
    body = records.read(store, key)
    try:
        parts = tuple(Part.from_document(document) for document in body["parts"])
        consistent = body["version"] == version and all(p.key == keys.part(run, p.first, p.last) for p in parts)
    except (KeyError, TypeError) as error:
        raise CorruptObjectError(f"{store.url}/{key}: is not a manifest; restore it from a copy") from error
    if not consistent or any(a.last > b.first for a, b in itertools.pairwise(parts)):
        raise CorruptObjectError(f"{store.url}/{key}: lists a model twice or a foreign part; restore it from a copy")
    return Snapshot(run, version, parts)


def read_newest(store: ObjectStore, run: str, known: int = NONE) -> Snapshot:
    """The newest version, `known` being one that is there; an empty snapshot of version NONE where there is none.

    Raises CorruptObjectError.
    """
    version = store.newest(lambda v: keys.manifest(run, v), known)
    return Snapshot(run, NONE, ()) if version == NONE else read(store, run, version)


def create(store: ObjectStore, run: str, version: int, parts: Iterable[Part]) -> bool:
    """Writes a version; False where another writer was first, whose version must be merged into the next."""
    listed = [part.document() for part in sorted(parts, key=lambda p: p.first)]
    return records.create(store, keys.manifest(run, version), {"version": version, "parts": listed})
