"""Read everything of a run and check it against what its writers recorded."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Collection, Iterator

from datamodels.aggregate import part
from datamodels.errors import CorruptObjectError, ObjectNotFoundError
from datamodels.lifecycle import objects as found_in
from datamodels.lifecycle.objects import Objects, References
from datamodels.storage import ObjectStore, keys, records

Check = Callable[[bytes], str]
"""Returns what is wrong with the bytes of an object; an empty string if nothing is."""


@dataclasses.dataclass(frozen=True)
class Fault:
    """An object that is damaged or missing, and what is wrong with it."""

    key: str
    what: str


def checks(store: ObjectStore, objects: Objects, known: References) -> dict[str, Check]:
    """Return a check of each object that a run should have."""
    listed = known.parts.values()
    sums = {p.key: p.sha256 for p in listed} | {b.key: b.sha256 for r in known.fits.values() for b in r.blocks}
    sums |= {chunk.key: chunk.sha256 for chunk in (known.display.chunks if known.display else ())}
    if known.run is not None and known.run.design.masks is not None:
        sums |= {keys.masks(objects.run, b.first, b.last): b.sha256 for b in known.run.design.masks.blocks}
    sums |= known.listed
    found: dict[str, Check] = {key: _sum(sha256) for key, sha256 in sorted(sums.items())}
    for key in objects.kind("listing", "run", "meaning", "display", "manifest", "fit", "stop", "verdict", "answer"):
        found[key] = _record(store, key)
    waiting = set() if known.run is None else set(known.waiting())
    for key in objects.kind("part"):
        if key not in found and key in waiting:
            found[key] = _part(store, known, key)
    return found


def _sum(sha256: str) -> Check:
    def check(data: bytes) -> str:
        found = hashlib.sha256(data).hexdigest()
        return "" if found == sha256 else f"sha256 is {found}, its writer recorded {sha256}"

    return check


def _record(store: ObjectStore, key: str) -> Check:
    return lambda data: _why(lambda: records.decode(data, f"{store.url}/{key}"))


def _part(store: ObjectStore, known: References, key: str) -> Check:
    """Return a check of a part that no manifest lists yet: Parquet has a checksum of each page."""
    run, models = known.run, keys.models_of(known.newest.run, key)
    assert run is not None and models is not None
    return lambda data: _why(lambda: part.decode(data, f"{store.url}/{key}", run=run.name, models=models, n=run.n))


def _why(read: Callable[[], object]) -> str:
    try:
        read()
    except CorruptObjectError as error:
        return str(error)
    return ""


def read(store: ObjectStore, key: str, check: Check) -> bytes:
    """Return the bytes of an object. Raises CorruptObjectError if a check finds a fault in them, twice."""

    def checked(data: bytes) -> bytes:
        if what := check(data):
            raise CorruptObjectError(what)
        return data

    return store.checked(key, checked)


def verify(
    store: ObjectStore,
    objects: Objects,
    *,
    done: Collection[str] = (),
    tell: Callable[[str, int], None] = lambda key, checked: None,
) -> Iterator[Fault]:
    """Yield what is wrong with a run.

    done  keys to leave out, because they were found to be good
    tell  called with the key of each good object, and the number of objects to check
    """
    faults: dict[str, str] = {}

    def damaged(key: str, what: str) -> None:
        faults.setdefault(key, what)

    known = found_in.references(store, objects, damaged)
    found = checks(store, objects, known)  # reads all manifests
    yield from (Fault(key, what) for key, what in faults.items())
    if known.run is None and keys.run(objects.run) not in faults:
        yield Fault(keys.run(objects.run), "the record of the run is gone, so the run does not exist")
    if not known.newest.complete:
        newest = keys.manifest(objects.run, known.newest.version)
        yield Fault(newest, "manifests that it builds on are gone; `datamodels repair` lists their parts anew")
    for key, check in found.items():
        if key in done or key in faults:
            continue
        try:
            what = _why(functools.partial(read, store, key, check))
        except ObjectNotFoundError:
            what = "is gone, though a record refers to it" if _is_wanted(store, objects.run, key) else ""
        if what:
            yield Fault(key, what)
        else:
            tell(key, len(found))


def _is_wanted(store: ObjectStore, run: str, key: str) -> bool:
    """Return whether a record still refers to an object: a vacuum may have removed both since they were listed."""
    now = found_in.of_run(store, run)
    return key in found_in.expected(now, found_in.references(store, now, lambda key, what: None))
