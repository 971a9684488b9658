"""Say what a run consists of, which of its objects refer to which, and which of them nothing refers to.

This is the core of all commands that keep runs. It changes nothing.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from datamodels.aggregate import manifest
from datamodels.aggregate.manifest import Part, Segment, Snapshot
from datamodels.analyze.quality import stopping
from datamodels.display import stored
from datamodels.display.stored import DisplayRecord
from datamodels.errors import CorruptObjectError, ObjectNotFoundError, RunInUseError, RunNotFoundError
from datamodels.fit.job.finished import FitRecord, read_fit
from datamodels.run import runs
from datamodels.run.runs import Run
from datamodels.run.specs import is_run
from datamodels.storage import ObjectStore, keys, records
from datamodels.storage.base import Entry

DAY = 24 * 3600.0
BLOCKS = ("weights", "block")
"""Kinds of objects that records list, and that a later writer of the same content uses."""
THREADS = 8
"""Records that are read at a time: the time of a small one is spent waiting."""
BUSY_SECONDS = DAY
"""A run that is not finished counts as working if something was written to it within this time."""


@dataclasses.dataclass(frozen=True)
class Objects:
    """The objects of a run, as one listing of the store found them.

    entries  by key, ascending
    """

    run: str
    entries: Mapping[str, Entry]

    def kind(self, *kinds: str) -> list[str]:
        """Return the keys of some kinds, ascending; see `keys.kind`."""
        return [key for key in self.entries if keys.kind(key) in kinds]

    def bytes(self, of: Iterator[str] | list[str] | set[str] | None = None) -> int:
        """Return the size of some objects, or of all."""
        return sum(self.entries[key].bytes for key in (self.entries if of is None else of) if key in self.entries)

    def written(self, *kinds: str) -> float:
        """Return when the last object of some kinds was written, in seconds since 1970; 0 if there is none."""
        return max((self.entries[key].modified for key in self.kind(*kinds)), default=0.0)

    @property
    def modified(self) -> float:
        """When the last object was written, in seconds since 1970; housekeeping does not count."""
        return max((e.modified for key, e in self.entries.items() if keys.kind(key) != "unused"), default=0.0)


def of_run(store: ObjectStore, run: str) -> Objects:
    """List the objects of a run. Raises StoreUnavailableError."""
    found = (entry for prefix in keys.prefixes(run) for entry in store.entries(prefix))
    return Objects(run, {entry.key: entry for entry in found})


def of_all(store: ObjectStore) -> dict[str, Objects]:
    """List the whole store. Returns the objects of each run, also of runs whose record is gone."""
    found: dict[str, dict[str, Entry]] = collections.defaultdict(dict)
    for entry in store.entries(""):
        found[keys.owner(entry.key)][entry.key] = entry
    return {run: Objects(run, entries) for run, entries in sorted(found.items()) if is_run(run)}


@dataclasses.dataclass(frozen=True)
class References:
    """The records of a run, which say what refers to what.

    run       None if its record is gone, so that the run does not exist
    versions  numbers of the manifests, ascending
    newest    the newest version, as far as its records are there
    fits      the record of each finished fit, by number
    display   the record of how its examples look; None if there is none
    older     reads the records of all manifests, of which there may be tens of thousands
    blocks    blocks of features and gradients in each record that lists some, by its key: their keys with their sha256;
              None if it is damaged or gone
    """

    run: Run | None
    versions: Sequence[int]
    newest: Snapshot
    fits: Mapping[int, FitRecord]
    display: DisplayRecord | None
    older: Callable[[], Iterable[Segment]]
    blocks: Mapping[str, Mapping[str, str] | None]

    @functools.cached_property
    def parts(self) -> dict[str, Part]:
        """The parts that any version lists, by key. The first access reads all manifests; raises as `references`."""
        listed = {part.key: part for segment in self.older() for part in segment.parts}
        return listed | {part.key: part for part in self.newest.parts}

    @functools.cached_property
    def listed(self) -> dict[str, str]:
        """The blocks of features and gradients that any record lists, by key, with their sha256."""
        return {key: sha256 for found in self.blocks.values() for key, sha256 in (found or {}).items()}

    def waiting(self) -> Iterator[str]:
        """Yield the key of the part of each sub-chunk that the newest manifest does not list, committed or not."""
        assert self.run is not None
        spec = self.run.spec
        for chunk in range(spec.chunks):
            for models in spec.sub_chunks(spec.chunk_range(chunk)):
                if self.newest.find(models.start) is None:
                    yield self.newest.key(models)


Damaged = Callable[[str, str], None]
"""Called with the key of a damaged record, and what is wrong with it."""


def references(store: ObjectStore, objects: Objects, damaged: Damaged | None = None) -> References:
    """Read the records of a run that a listing found. Records that are deleted meanwhile are left out.

    damaged  called for each damaged record, which is left out then

    Raises CorruptObjectError if one is damaged and nobody is told: nobody knows then what it refers to.
    """
    name = objects.run

    def tried(key: str, read: Callable[[], Any], absent: Any = None) -> Any:
        try:
            return read()
        except (ObjectNotFoundError, RunNotFoundError):
            return absent
        except CorruptObjectError as error:
            if damaged is None:
                raise
            damaged(key, str(error))
            return absent

    def numbers(numbered: keys.Numbered) -> list[int]:
        # A record that was written since the listing may refer to what the listing has.
        found = {numbered.number(key) for key in objects.entries} | {store.newest(numbered)}
        return sorted(number for number in found if number is not None and number >= 0)

    def each(numbered: keys.Numbered, read: Callable[[int], Any]) -> dict[int, Any]:
        wanted = numbers(numbered)
        with ThreadPoolExecutor(THREADS) as pool:
            known = pool.map(lambda number: tried(numbered(number), lambda: read(number)), wanted)
            return {number: record for number, record in zip(wanted, known, strict=True) if record is not None}

    def older() -> Iterable[Segment]:
        return each(keys.manifests(name), lambda version: manifest.read_record(store, name, version)[0]).values()

    run = tried(keys.run(name), lambda: runs.read(store, name))
    if run is None and damaged is None:
        return References(None, (), Snapshot(name, manifest.NONE, ()), {}, None, tuple, {})
    versions = numbers(keys.manifests(name))
    newest = tried(
        f"{keys.folder(keys.manifest(name, 0))}/",
        lambda: manifest.read_newest(store, name, partial=True),
        Snapshot(name, manifest.NONE, (), complete=False),
    )
    fits = each(keys.fits(name), lambda number: read_fit(store, name, number))
    display = tried(keys.display(name), lambda: stored.read_record(store, name))
    lists = {*objects.kind("listing"), *listings(store, name)}
    blocks = {key: tried(key, functools.partial(blocks_of, store, name, key)) for key in sorted(lists)}
    return References(run, versions, newest, fits, display, older, blocks)


def listings(store: ObjectStore, run: str) -> list[str]:
    """Return the keys of the records that list features or gradients of a run now."""
    return [key for key in store.list(keys.beside(run)) if keys.kind(key) == "listing"]


def blocks_of(store: ObjectStore, run: str, key: str) -> dict[str, str]:
    """Return key and sha256 of the blocks that a record of features or gradients lists.

    Raises CorruptObjectError, ObjectNotFoundError.
    """
    body = records.read(store, key)
    try:
        arrays = body.get("arrays", {}).values()
        features = {keys.examples(run, block["sha256"]): block["sha256"] for blocks in arrays for block in blocks}
        return features | {block["key"]: block["sha256"] for block in body.get("blocks", ())}
    except (AttributeError, KeyError, TypeError) as error:
        raise CorruptObjectError(f"{store.url}/{key}: is not a list of blocks: {error!r}") from error


def expected(objects: Objects, known: References) -> set[str]:
    """Return the keys of the objects that the records of a run refer to, whether they exist or not."""
    return set(known.parts) | _certain(objects, known)


def _certain(objects: Objects, known: References) -> set[str]:
    """Return those that do not follow from older manifests."""
    masks = None if known.run is None else known.run.design.masks
    used = {part.key for part in known.newest.parts}
    used |= {block.key for record in known.fits.values() for block in record.blocks}
    used |= {chunk.key for chunk in (known.display.chunks if known.display else ())} | known.listed.keys()
    return used | {keys.masks(objects.run, block.first, block.last) for block in (masks.blocks if masks else ())}


def live(objects: Objects, known: References) -> set[str]:
    """Return the keys of a run that something refers to, or that an aggregator will still list.

    Keys that no module of this package makes count as live: they are not ours.
    """
    if known.run is None:
        return {key for key in objects.entries if not keys.kind(key)}
    used = _certain(objects, known) | set(known.waiting())
    used |= set(objects.kind("", "run", "meaning", "display", "manifest", "fit", "stop", "verdict", "unused"))
    used |= set(objects.kind("listing", "data"))
    if None in known.blocks.values():  # nobody knows what a damaged record lists
        used |= set(objects.kind("block"))
    if not known.newest.complete:  # an aggregator recovers the parts that lost manifests have listed
        used |= set(objects.kind("part", "merged"))
    used |= {key for key in objects.kind("answer") if keys.fit_of(key) in known.fits}
    if not used.issuperset(objects.kind("part", "merged")):
        used |= set(known.parts)
    return used & objects.entries.keys()


def unused(objects: Objects, known: References, *, before: float) -> list[str]:
    """Return the keys of a run that nothing refers to, in the order in which they can be deleted.

    before  time in seconds since 1970. The blocks of a fit without a record, of features or of gradients are left out
            if one of them was written since, for their writer may go on. So is everything of a run without a record:
            its import may go on.
    """
    if known.run is None and objects.modified >= before:
        return []
    found = sorted(objects.entries.keys() - live(objects, known))
    fresh = {keys.folder(key) for key in objects.kind(*BLOCKS) if objects.entries[key].modified >= before}
    return [key for key in found if keys.kind(key) not in BLOCKS or keys.folder(key) not in fresh]


def working(store: ObjectStore, objects: Objects, known: References, now: float) -> str:
    """Return why a run may be in use by a process that writes to it; an empty string if it is not.

    now  time in seconds since 1970
    """
    age = now - objects.modified
    if known.run is None or age > BUSY_SECONDS:
        return ""
    ago = f"and was written to {_ago(age)} ago"
    committed, models = known.newest.committed, known.run.spec.models
    if committed < models and not stopping.recorded(store, objects.run):
        return f"has {committed:,} of {models:,} models {ago}"
    if not known.fits:
        return f"has no fit yet {ago}"
    if objects.written("weights") > objects.written("fit"):  # blocks of pruned fits are older than the newest fit
        return f"has a fit that is not finished {ago}"
    return ""


def require_idle(store: ObjectStore, objects: Objects, known: References, now: float) -> None:
    """Raise RunInUseError if a run may be in use by a process that writes to it."""
    if why := working(store, objects, known, now):
        raise RunInUseError(
            f"run {objects.run}: {why}, so something may be working on it; stop that and wait, or add --force"
        )


def _ago(seconds: float) -> str:
    minutes = max(seconds, 0) / 60
    return f"{minutes:.0f} min" if minutes < 100 else f"{minutes / 60:.0f} h"
