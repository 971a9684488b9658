"""Delete what nothing refers to, once it has been so for a while.

A reader follows records that it read before. So an object is not deleted when it becomes unused, but when it has been
unused for longer than a reader takes. The store has a list of unused objects for each run, with the time since when;
every vacuum writes the list anew. A vacuum that is killed anywhere loses nothing but its own work.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterable

from datamodels.errors import ObjectNotFoundError
from datamodels.fit.job import finished
from datamodels.lifecycle import objects as found_in
from datamodels.lifecycle.objects import BLOCKS, Objects, listings
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
    known: dict[str, set[str]] = {}
    deleted = 0
    for key in unused.due:
        if keys.kind(key) in BLOCKS:
            deleted += _remove_block(store, unused.run, key, known, tell)
        else:
            deleted += remove(store, [key], tell)
    _remember(store, unused.run, {key: first for key, first in unused.since.items() if key not in set(unused.due)})
    return deleted


def _remove_block(store: ObjectStore, run: str, key: str, known: dict[str, set[str]], tell: Tell) -> bool:
    """Delete a block unless a record lists it by now. Returns whether it is gone.

    A writer takes blocks that a killed one has left, or whose record was pruned, however long ago. It looks at them
    again once its record is there. If it looks just before a block is deleted, the record is there for the vacuum to
    see, and the block is put back.

    known  blocks that records list, by the keys of the records; what is new is added
    """
    if _is_listed(store, run, key, known):
        return False
    try:
        data = store.read(key)
    except ObjectNotFoundError:  # another vacuum has just deleted it
        return True
    tell(key)
    store.delete(key)
    if _is_listed(store, run, key, known):
        store.create(key, data)
        return False
    return True


def _is_listed(store: ObjectStore, run: str, key: str, known: dict[str, set[str]]) -> bool:
    there: dict[str, Callable[[], Iterable[str]]] = {
        listing: functools.partial(found_in.blocks_of, store, run, listing) for listing in listings(store, run)
    }
    there |= {keys.fit(run, n): functools.partial(_blocks_of_fit, store, run, n) for n in finished.numbers(store, run)}
    for record in there.keys() - known.keys():  # records never change
        with contextlib.suppress(ObjectNotFoundError):  # pruned by now
            known[record] = set(there[record]())
    return any(key in known.get(record, ()) for record in there)


def _blocks_of_fit(store: ObjectStore, run: str, number: int) -> set[str]:
    return {block.key for block in finished.read_fit(store, run, number).blocks}


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
