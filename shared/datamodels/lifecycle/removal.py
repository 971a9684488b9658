"""Delete runs, and prune what they no longer need: old fits with their answers, and old manifests.

Both remove records first. What the records referred to is then unused: `delete` removes it at once, and after `prune`
the next vacuums do, once readers have had time to end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from datamodels.aggregate import manifest
from datamodels.aggregate.ledger import Ledger
from datamodels.lifecycle.objects import DAY, Objects, References
from datamodels.run import runs
from datamodels.storage import ObjectStore, keys

GRACE_SECONDS = DAY
"""How long a reader may take, from its first look at a record to its last."""

Tell = Callable[[str], None]


def deletion(objects: Objects) -> list[str]:
    """Return all keys of a run, in the order in which to delete them.

    The record of the run comes first, so that nobody opens it anymore. A manifest is deleted after those that build on
    it and before its parts, and a fit before its blocks. So whatever is left of a deletion that was stopped is as if
    less had been committed, and the run can even be created anew.
    """
    records = ("run", "meaning", "display", "listing", "data", "answer", "stop", "verdict", "fit", "manifest")
    order = (*records, "block", "looks", "weights", "part", "merged", "masks", "", "unused")
    place = {kind: position for position, kind in enumerate(order)}
    return sorted(sorted(objects.entries, reverse=True), key=lambda key: place[keys.kind(key)])


def pruning(
    objects: Objects,
    known: References,
    *,
    keep: int | None = None,
    before: float | None = None,
    ended: float,
) -> list[str]:
    """Return the keys of the records that a run no longer needs, in the order in which to delete them.

    keep    number of fits to keep, the newest; None keeps any number
    before  keep fits and manifests that were written since this time, in seconds since 1970; None keeps none for it
    ended   keep manifests that were written since this time, because an aggregator may still build on them

    The newest fit and the newest manifest are always kept. Manifests go first to last, so that the numbers that are
    left follow each other. If the newest manifest is not whole, it needs others, and all of them are kept.
    """
    fits = [number for number in sorted(known.fits) if keys.fit(objects.run, number) in objects.entries]
    old = fits[: -max(keep, 1)] if keep is not None else fits[:-1]
    gone = {n for n in old if before is None or objects.entries[keys.fit(objects.run, n)].modified < before}
    left = known.fits.keys() - gone
    answers = [key for key in objects.kind("answer") if keys.fit_of(key) not in left]
    return [*(keys.fit(objects.run, n) for n in sorted(gone)), *answers, *_manifests(objects, known, before, ended)]


def _manifests(objects: Objects, known: References, before: float | None, ended: float) -> list[str]:
    if len(known.newest.segments) != 1 or not known.newest.complete:
        return []
    limit = ended if before is None else min(before, ended)
    found = []
    for version in known.versions:
        key = keys.manifest(objects.run, version)
        if version >= known.newest.version or key not in objects.entries or objects.entries[key].modified >= limit:
            break  # those that follow it build on it, or are as young
        found.append(key)
    return found


def make_whole(store: ObjectStore, run: str) -> bool:
    """Write a self-contained manifest unless the newest already is one. Returns whether it wrote one."""
    before = store.newest(keys.manifests(run))
    return before != manifest.NONE and Ledger(store, runs.read(store, run)).publish(whole=True) != before


def remove(store: ObjectStore, found: Iterable[str], tell: Tell = lambda key: None) -> int:
    """Delete objects in order, and return their number. tell: called with each key before it is deleted."""
    wanted = list(found)
    for key in wanted:
        tell(key)
        store.delete(key)
    return len(wanted)
