"""Delete what nothing refers to, once it has been so for a while.

A reader follows records that it read before. So an object is not deleted when it becomes unused, but when it has been
unused for longer than a reader takes. The store has a list of unused objects for each run, with the time since when;
every vacuum writes the list anew. A vacuum that is killed anywhere loses nothing but its own work.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from datamodels.errors import ObjectNotFoundError
from datamodels.lifecycle import objects as found_in
from datamodels.lifecycle.objects import Objects
from datamodels.lifecycle.removal import GRACE_SECONDS, Tell, remove
from datamodels.storage import ObjectStore, keys, records


@dataclasses.dataclass(frozen=True)
class Unused:
    """The unused objects of a run.

    since  when each was first seen unused, in seconds since 1970
    due    those that may be deleted, in order
    bytes  size of those that are due
    """

    run: str
    since: dict[str, float]
    due: list[str]
    bytes: int


def find(store: ObjectStore, objects: Objects, *, now: float, grace: float = GRACE_SECONDS) -> Unused:
    """Find the unused objects of a run. Changes nothing.

    now    time in seconds since 1970
    grace  seconds for which an object must have been unused

    Raises CorruptObjectError if a record is damaged, for nobody knows then what it refers to.
    """
    known = found_in.references(store, objects)
    unused = found_in.unused(objects, known, before=now - grace)
    seen = _seen(store, objects.run)
    since = {key: min(seen.get(key, now), now) for key in unused}
    due = [key for key, first in since.items() if now - first >= grace]
    return Unused(objects.run, since, due, objects.bytes(due))


def vacuum(store: ObjectStore, unused: Unused, tell: Tell = lambda key: None) -> int:
    """Delete the unused objects of a run that are due, and remember the others. Returns how many were deleted."""
    _remember(store, unused.run, unused.since)
    due = [key for key in unused.due if keys.kind(key) != "block"]
    deleted = remove(store, due, tell)
    blocks = [key for key in unused.due if keys.kind(key) == "block"]
    deleted += sum(_remove_block(store, unused.run, key, tell) for key in blocks)
    _remember(store, unused.run, {key: first for key, first in unused.since.items() if key not in {*due, *blocks}})
    return deleted


def _remove_block(store: ObjectStore, run: str, key: str, tell: Tell) -> bool:
    """Delete a block of features or gradients unless a record lists it by now. Returns whether it is gone.

    Blocks are named by what is in them, so a writer takes those that a killed one has left, however long ago. It looks
    again once its record is there, and writes what is missing. If it looks just before the block is deleted, the record
    is there for the vacuum to see, and the block is put back.
    """
    if key in _listed(store, run):
        return False
    try:
        data = store.read(key)
    except ObjectNotFoundError:  # another vacuum has just deleted it
        return True
    tell(key)
    store.delete(key)
    if key in _listed(store, run):
        store.create(key, data)
        return False
    return True


def _listed(store: ObjectStore, run: str) -> set[str]:
    """Return the blocks that records of features and gradients list now."""
    return {block for listing in found_in.listings(store, run) for block in found_in.blocks_of(store, run, listing)}


def _seen(store: ObjectStore, run: str) -> dict[str, float]:
    """Return since when objects have been unused, as the newest list says."""
    newest = store.newest(keys.unused(run))
    try:
        return {} if newest < 0 else dict(records.read(store, keys.unused(run)(newest)))
    except ObjectNotFoundError:  # another vacuum has just replaced it
        return {}


def _remember(store: ObjectStore, run: str, since: dict[str, float]) -> None:
    """Write a list in place of earlier ones.

    If another vacuum writes one at the same time, either will do: both have just looked.
    """
    numbers = list(store.numbers(keys.unused(run)))
    if since and since != _seen(store, run):
        records.create(store, keys.unused(run)(max(numbers, default=-1) + 1), since)
    elif since:
        numbers = numbers[:-1]
    remove(store, map(keys.unused(run), numbers))


def leftovers(store: ObjectStore, *, now: float, grace: float = GRACE_SECONDS) -> Iterable[str]:
    """Return the keys of objects that a check of the store left behind when it was killed."""
    return [entry.key for entry in store.entries(keys.preflight("")) if entry.modified < now - grace]
