"""Copy a run to another store."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable, Collection, Iterator

from datamodels.errors import ConflictError, CorruptObjectError, ObjectNotFoundError, RunNotFoundError, SupersededError
from datamodels.lifecycle import objects as found_in
from datamodels.lifecycle.objects import Objects, References
from datamodels.lifecycle.verify import checks, read
from datamodels.storage import ObjectStore

THREADS = 8
"""Objects that are copied at a time: the time of a small one is spent waiting."""

ORDER = (
    ("data", "block", "looks", "masks", "part", "merged", "weights"),
    ("display", "listing", "manifest", "fit"),
    ("stop", "verdict", "answer", "meaning"),
    ("run",),
)
"""Kinds of objects in the order in which they are copied: what an object refers to comes before it."""


def stages(objects: Objects, known: References) -> Iterator[list[str]]:
    """Yield the keys to copy: each list after the one before it."""
    live = found_in.live(objects, known)
    for kinds in ORDER:
        yield [key for key in objects.kind(*kinds) if key in live]


def copy(
    store: ObjectStore,
    target: ObjectStore,
    objects: Objects,
    *,
    done: Collection[str] = (),
    tell: Callable[[str], None] = lambda key: None,
) -> int:
    """Copy a run, and return the number of objects that were copied or were there.

    done  keys to leave out, because they have been copied
    tell  called with the key of each copied object, from any thread

    Each object is checked before it is written. If the target has the run already, what it lacks is added. Raises
    RunNotFoundError, CorruptObjectError if an object is damaged, ConflictError if the target has another object under
    a key, and SupersededError if an object was removed meanwhile.
    """
    known = found_in.references(store, objects)
    if known.run is None:
        raise RunNotFoundError(f"no such run: {objects.run!r} in {store.url}; `datamodels status` lists the runs")
    checked = checks(store, objects, known)

    def one(key: str) -> None:
        check = checked.get(key, lambda data: "")
        try:
            data = read(store, key, check)
        except CorruptObjectError as error:
            raise CorruptObjectError(f"{store.url}/{key}: {error}") from error
        except ObjectNotFoundError:
            raise SupersededError(f"{store.url}/{key}: was removed while the run was copied; start again") from None
        if target.create(key, data):
            tell(key)
            return
        try:
            read(target, key, lambda found: "" if found == data else "differs")
        except CorruptObjectError as error:
            raise ConflictError(
                f"{target.url}/{key}: differs from the object of the same name in {store.url}: the run went on there "
                "by itself; delete one of the two first"
            ) from error
        tell(key)

    count = 0
    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        for stage in stages(objects, known):
            left = [key for key in stage if key not in done]
            for _ in pool.map(one, left):
                count += 1
    return count


def missing(objects: Objects, known: References, target: ObjectStore | None) -> list[str]:
    """Return the keys that a copy would write. target: None if it does not exist yet."""
    there = found_in.of_run(target, objects.run).entries if target else ()
    return [key for stage in stages(objects, known) for key in stage if key not in there]
