"""Write and read manifests, which list the committed parts of a run.

Manifests are numbered records that are never overwritten. Each version lists all parts of the previous one. So a reader
of the newest version sees every model at most once and never lists the store.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Self

from datamodels.errors import CorruptObjectError, ObjectNotFoundError
from datamodels.storage import ObjectStore, decode, keys, records

if TYPE_CHECKING:
    from datamodels.aggregate.part import Outputs

NONE = -1
"""Version number that stands for a run without a manifest."""


@dataclasses.dataclass(frozen=True)
class Part:
    """Entry of a manifest for one committed part.

    key     of the object
    first   first model of the sub-chunk
    last    one past its last model
    rows    number of models with outputs
    failed  (model_index, reason) of each other model
    sha256  of the object
    bytes   size of the object
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
        """Return the entry as it is stored, as a JSON object."""
        failed = [{"model_index": model, "reason": reason} for model, reason in self.failed]
        return dataclasses.asdict(self) | {"failed": failed}

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Self:
        """Return the entry that `document` made. Raises KeyError, TypeError, ValueError."""
        found = decode.build(cls, document | {"failed": [(f["model_index"], f["reason"]) for f in document["failed"]]})
        if not 0 <= found.first < found.last or found.rows + len(found.failed) != len(found.models):
            raise ValueError(f"part {found.key!r:.100}: has other models than its name says")
        return found

    def read(self, store: ObjectStore, run: str) -> Outputs:
        """Read and check the outputs of the part. Raises CorruptObjectError, also if the object is gone."""
        from datamodels.aggregate import part  # imports PyArrow, which readers of manifests alone do not need

        try:
            data = store.get(self.key, sha256=self.sha256)
        except ObjectNotFoundError as error:
            raise CorruptObjectError(
                f"{store.url}/{self.key}: is listed in the manifest but is gone; restore it from a copy"
            ) from error
        return part.decode(data, f"{store.url}/{self.key}", run=run, models=self.models)


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """One version of the manifest of a run. Its parts are ascending and do not overlap."""

    run: str
    version: int
    parts: tuple[Part, ...]

    @functools.cached_property
    def ranges(self) -> list[range]:
        """Committed models, including failed ones, as ascending merged ranges."""
        return merged(part.models for part in self.parts)

    @property
    def committed(self) -> int:
        """Number of committed models, including failed ones."""
        return sum(len(part.models) for part in self.parts)

    @property
    def rows(self) -> int:
        """Number of models with outputs."""
        return sum(part.rows for part in self.parts)

    @functools.cached_property
    def failed(self) -> dict[int, str]:
        """Reason of each model that could not be trained."""
        return {model: reason for part in self.parts for model, reason in part.failed}

    def outputs(self, store: ObjectStore) -> Iterator[Outputs]:
        """Yield the outputs of every part in order, checked against its sha256.

        Raises CorruptObjectError, which names the object.
        """
        return (part.read(store, self.run) for part in self.parts)


def merged(ranges: Iterable[range]) -> list[range]:
    """Sort ranges and join those that touch."""
    result: list[range] = []
    for found in sorted(ranges, key=lambda r: r.start):
        if result and result[-1].stop == found.start:
            result[-1] = range(result[-1].start, found.stop)
        else:
            result.append(found)
    return result


def read(store: ObjectStore, run: str, version: int) -> Snapshot:
    """Read one version. Raises ObjectNotFoundError, CorruptObjectError."""
    key = keys.manifest(run, version)
    body = records.read(store, key)
    with decode.decoding(f"{store.url}/{key}", "a manifest"):
        parts = tuple(Part.from_document(document) for document in body["parts"])
        consistent = body["version"] == version and all(p.key == keys.part(run, p.first, p.last) for p in parts)
    if not consistent or any(a.last > b.first for a, b in itertools.pairwise(parts)):
        raise CorruptObjectError(
            f"{store.url}/{key}: lists a model twice, or a part of another run; restore it from a copy"
        )
    return Snapshot(run, version, parts)


def read_newest(store: ObjectStore, run: str, known: int = NONE) -> Snapshot:
    """Read the newest version. Returns an empty snapshot of version NONE if the run has no manifest.

    `known` is a version that is known to exist; the search starts there. Raises CorruptObjectError.
    """
    version = store.newest(lambda v: keys.manifest(run, v), known)
    return Snapshot(run, NONE, ()) if version == NONE else read(store, run, version)


def create(store: ObjectStore, run: str, version: int, parts: Iterable[Part]) -> bool:
    """Write a version. Returns False if another writer was first; its version must be merged into the next."""
    listed = [part.document() for part in sorted(parts, key=lambda p: p.first)]
    return records.create(store, keys.manifest(run, version), {"version": version, "parts": listed})
