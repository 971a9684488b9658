"""Write and read manifests, which list the committed parts of a run.

Manifests are numbered records that are never overwritten. A version lists what the one before lists, and more; only
`datamodels repair` and compaction take parts off the list. A reader of the newest version sees every model at most
once and never lists the store.

A record holds the parts that its version adds to an earlier version, its base; a record without a base is whole. A new
record takes over the parts of the records before it as long as they have no more parts than it has. So the sizes of
the records that a version is read from at least double from one to the next: they are few, and a part is written few
times.
"""

from __future__ import annotations

import bisect
import dataclasses
import functools
import hashlib
import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Self

from datamodels.errors import CorruptObjectError, ObjectNotFoundError, SupersededError
from datamodels.storage import ObjectStore, decode, keys, records

if TYPE_CHECKING:
    from datamodels.aggregate.part import Outputs

NONE = -1
"""Version number that stands for a run without a manifest."""


@dataclasses.dataclass(frozen=True)
class Part:
    """Entry of a manifest for one committed part.

    key     of the object
    first   first model of its sub-chunk, or of the first of several sub-chunks whose parts were merged
    last    one past its last model
    rows    number of models with outputs
    failed  (model_index, reason) of each other model
    sha256  of the object
    bytes   size of the object
    merged  sha256 of each part that was merged into this one; empty if none was
    seconds what trainers took for its models; 0 if that is not known, as if the entry was read from a manifest, which
            has the sum of all parts alone
    """

    key: str
    first: int
    last: int
    rows: int
    failed: tuple[tuple[int, str], ...]
    sha256: str
    bytes: int
    merged: tuple[str, ...] = ()
    seconds: float = dataclasses.field(default=0.0, compare=False)

    @property
    def models(self) -> range:
        return range(self.first, self.last)

    @property
    def written(self) -> tuple[str, ...]:
        """The sha256 of each part as a trainer sent it: they stay the same if parts are merged."""
        return self.merged or (self.sha256,)

    def rows_of(self, models: range) -> int:
        """Return how many of some models of the part have outputs."""
        return len(models) - sum(model in models for model, _ in self.failed)

    def document(self) -> dict[str, Any]:
        """Return the entry as it is stored, as a JSON object."""
        found: dict[str, Any] = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        found["failed"] = [{"model_index": model, "reason": reason} for model, reason in self.failed]
        del found["seconds"]  # versions before that wrote it refuse entries with other fields
        merged = found.pop("merged")
        return found | ({"merged": list(merged)} if merged else {})

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Self:
        """Return the entry that `document` made. Raises KeyError, TypeError, ValueError."""
        found = decode.build(cls, document | {"failed": [(f["model_index"], f["reason"]) for f in document["failed"]]})
        if not 0 <= found.first < found.last or found.rows + len(found.failed) != len(found.models):
            raise ValueError(f"part {found.key!r:.100}: has other models than its name says")
        return found

    def read(self, store: ObjectStore, run: str) -> Outputs:
        """Read and check the outputs of the part.

        Raises CorruptObjectError, also if the object is gone, and SupersededError if it is gone because a newer
        manifest does not list it or the run was deleted.
        """
        from datamodels.aggregate import part  # imports PyArrow, which readers of manifests alone do not need

        try:
            data = store.get(self.key, sha256=self.sha256)
        except ObjectNotFoundError as error:
            if read_newest(store, run).find(self.first) != self:
                raise SupersededError(
                    f"{store.url}/{self.key}: was removed after this read began; start it again"
                ) from error
            raise CorruptObjectError(
                f"{store.url}/{self.key}: is listed in the manifest but is gone; restore it from a copy, or train its "
                f"models again with `datamodels repair {run} --damaged`"
            ) from error
        return part.decode(data, f"{store.url}/{self.key}", run=run, models=self.models)


def describe(outputs: Outputs, key: str, data: bytes) -> Part:
    """Return the manifest's entry for a part: its outputs, its key and its bytes."""
    return Part(
        key=key,
        first=outputs.models.start,
        last=outputs.models.stop,
        rows=len(outputs.model_index),
        failed=tuple(outputs.failed.items()),
        sha256=hashlib.sha256(data).hexdigest(),
        bytes=len(data),
        merged=outputs.merged,
        seconds=outputs.seconds,
    )


@dataclasses.dataclass(frozen=True)
class Segment:
    """What the record of one version holds.

    parts   ascending
    timed   (models, seconds) of all parts that this and earlier versions added and whose seconds are known
    """

    version: int
    parts: tuple[Part, ...]
    timed: tuple[int, float] = (0, 0.0)


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """One version of the manifest of a run. Its parts are ascending and do not overlap.

    retired   {first model of a sub-chunk: how many of its parts were retired}; see `keys.part`
    segments  the records that it is read from, newest first
    complete  False if one of these records is gone, so that parts may be missing
    """

    run: str
    version: int
    parts: tuple[Part, ...]
    retired: Mapping[int, int] = dataclasses.field(default_factory=dict)
    segments: tuple[Segment, ...] = dataclasses.field(default=(), compare=False, repr=False)
    complete: bool = dataclasses.field(default=True, compare=False)

    @functools.cached_property
    def _firsts(self) -> list[int]:
        return [part.first for part in self.parts]

    def find(self, model: int) -> Part | None:
        """Return the part that has a model, or None."""
        place = bisect.bisect_right(self._firsts, model) - 1
        return self.parts[place] if place >= 0 and model < self.parts[place].last else None

    def key(self, models: range) -> str:
        """Return the key of the part that a sub-chunk has, or is to get from its trainer."""
        return keys.part(self.run, models.start, models.stop, self.retired.get(models.start, 0))

    def followed(self, added: Iterable[Part], *, whole: bool = False) -> Snapshot:
        """Return the next version, with more parts. whole: let its record list all parts."""
        added = tuple(added)
        parts = sorted([*self.parts, *added], key=lambda part: part.first)
        kept = list(self.segments or [Segment(self.version, self.parts)] * bool(self.parts))
        mine = list(added)
        while kept and (whole or not self.complete or len(kept[0].parts) <= len(mine)):
            mine += kept.pop(0).parts
        timed = [self._timed, *((len(part.models), part.seconds) for part in added if part.seconds)]
        models, seconds = (sum(column) for column in zip(*timed, strict=True))
        mine.sort(key=lambda part: part.first)
        segment = Segment(self.version + 1, tuple(mine), (int(models), round(seconds, 6)))
        return dataclasses.replace(
            self, version=segment.version, parts=tuple(parts), segments=(segment, *kept), complete=True
        )

    def rewritten(self, parts: Iterable[Part], retired: Mapping[int, int] | None = None) -> Snapshot:
        """Return the next version if it has other parts: its record is whole."""
        segment = Segment(self.version + 1, tuple(sorted(parts, key=lambda part: part.first)), self._timed)
        retired = self.retired if retired is None else retired
        return Snapshot(self.run, segment.version, segment.parts, retired, (segment,))

    @functools.cached_property
    def ranges(self) -> list[range]:
        """Committed models, including failed ones, as ascending merged ranges."""
        return merged(part.models for part in self.parts)

    @functools.cached_property
    def committed(self) -> int:
        """Number of committed models, including failed ones."""
        return sum(len(part.models) for part in self.parts)

    @property
    def rows(self) -> int:
        """Number of models with outputs."""
        return sum(part.rows for part in self.parts)

    def rows_below(self, m: int) -> int:
        """Return how many of the models below m have outputs: those that fits use."""
        committed = sum(max(0, min(found.stop, m) - found.start) for found in self.ranges)
        return committed - sum(model < m for model in self.failed)

    @functools.cached_property
    def failed(self) -> dict[int, str]:
        """Reason of each model that could not be trained."""
        return {model: reason for part in self.parts for model, reason in part.failed}

    @property
    def _timed(self) -> tuple[int, float]:
        return self.segments[0].timed if self.segments else (0, 0.0)

    @property
    def pace(self) -> float | None:
        """Seconds that a trainer takes for a model, on average; None if no part says, as those of version 0.2.0."""
        models, seconds = self._timed
        return seconds / models if models else None

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


def read(store: ObjectStore, run: str, version: int, *, partial: bool = False) -> Snapshot:
    """Read one version.

    partial  if a record that the version builds on is gone, return what is left, as a snapshot that is not complete

    Raises ObjectNotFoundError if there is no such version, SupersededError if what it builds on is gone, and
    CorruptObjectError.
    """
    segments: list[Segment] = []
    retired: dict[int, int] = {}
    complete = True
    base = version
    while base != NONE:
        try:
            segment, base, earlier = read_record(store, run, base)
        except ObjectNotFoundError:
            if not segments:
                raise
            if not partial:
                raise SupersededError(
                    f"{store.url}/{keys.manifest(run, version)}: builds on manifest {base}, which is gone; start "
                    f"again, and if it stays so, `datamodels repair {run}` lists the parts anew"
                ) from None
            complete = False
            break
        retired = retired if segments else earlier
        segments.append(segment)
    parts = sorted((part for segment in segments for part in segment.parts), key=lambda part: part.first)
    _require_apart(store, run, version, parts)
    return Snapshot(run, version, tuple(parts), retired, tuple(segments), complete)


def read_record(store: ObjectStore, run: str, version: int) -> tuple[Segment, int, dict[int, int]]:
    """Read the record of one version: its own parts, its base or NONE, and how many parts are retired.

    Raises ObjectNotFoundError, CorruptObjectError.
    """
    key = keys.manifest(run, version)
    body = records.read(store, key)
    with decode.decoding(f"{store.url}/{key}", "a manifest"):
        whole = "parts" in body
        parts = tuple(Part.from_document(document) for document in body["parts" if whole else "added"])
        training = body.get("training", {"models": 0, "seconds": 0.0})
        timed = decode.build(tuple[int, float], (training["models"], training["seconds"]))
        base = NONE if whole else decode.build(int, body["base"])
        retired = dict(decode.build(tuple[tuple[int, int], ...], body.get("retired", [])))
        consistent = body["version"] == version and all(keys.is_part(run, p.key, p.first, p.last) for p in parts)
    if not consistent or not NONE <= base < version:
        raise CorruptObjectError(f"{store.url}/{key}: lists a part of another run; restore it from a copy")
    _require_apart(store, run, version, parts)
    return Segment(version, parts, timed), base, retired


def _require_apart(store: ObjectStore, run: str, version: int, parts: Iterable[Part]) -> None:
    if any(a.last > b.first for a, b in itertools.pairwise(parts)):
        raise CorruptObjectError(
            f"{store.url}/{keys.manifest(run, version)}: lists a model twice; restore it from a copy"
        )


def read_newest(store: ObjectStore, run: str, known: int = NONE, *, partial: bool = False) -> Snapshot:
    """Read the newest version, as `read` does. Returns an empty snapshot of version NONE if the run has no manifest.

    `known` is a version that has existed; the search starts there. Raises CorruptObjectError, SupersededError.
    """
    version = store.newest(keys.manifests(run), known)
    while version != NONE:
        try:
            return read(store, run, version, partial=partial)
        except (ObjectNotFoundError, SupersededError):
            newer = store.newest(keys.manifests(run), version)
            if newer == version:
                raise
            version = newer  # older versions were pruned while they were read
    return Snapshot(run, NONE, ())


def create(store: ObjectStore, snapshot: Snapshot) -> bool:
    """Write the record of a version that `Snapshot.followed` or `rewritten` returned.

    Returns False if another writer was first; its version must be merged into the next.
    """
    segment, *earlier = snapshot.segments
    documents = [part.document() for part in segment.parts]
    body: dict[str, Any] = {"version": segment.version}
    retired = [[first, count] for first, count in sorted(snapshot.retired.items())]
    if earlier or retired:  # under other names: versions up to 0.2.0 would take the part for the whole
        body |= {"base": earlier[0].version if earlier else NONE, "added": documents, "retired": retired}
    else:
        body["parts"] = documents
    if segment.timed[0]:
        body["training"] = dict(zip(("models", "seconds"), segment.timed, strict=True))
    return records.create(store, keys.manifest(snapshot.run, segment.version), body)
