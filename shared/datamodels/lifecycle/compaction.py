"""Merge small parts into larger ones, so that a run has fewer objects and its manifests are short.

The merged part is written beside the small ones, and the next manifest lists it in their place. The small ones stay
until the manifests that list them are pruned and a vacuum finds them unused.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence

from datamodels.aggregate import manifest, part
from datamodels.aggregate.manifest import Part
from datamodels.aggregate.part import Outputs
from datamodels.run import runs
from datamodels.storage import ObjectStore, keys

PART_BYTES = 64 * 2**20
"""Size of a merged part. To merge takes a few times as much memory, and reading it as well."""
FEWEST = 4
"""Fewest parts that are merged into one: to merge two takes as much writing as it saves."""
AT_ONCE = 8
"""Merged parts that one manifest adds: what a compaction loses that is killed."""


def groups(parts: Sequence[Part], m: int, size: int = PART_BYTES) -> list[list[Part]]:
    """Return the parts to merge with each other: small ones whose models follow each other, up to a size in bytes.

    m  number of models that fits use; parts with other models are not merged with those that have none
    """
    found: list[list[Part]] = [[]]
    for each in parts:
        last = found[-1][-1] if found[-1] else None
        follows = last is not None and last.last == each.first and (last.last > m) == (each.last > m)
        if not follows or sum(p.bytes for p in found[-1]) + each.bytes > size:
            found.append([])
        if each.bytes <= size // 2:
            found[-1].append(each)
    return [group for group in found if len(group) >= FEWEST]


def groups_of(store: ObjectStore, run: str, size: int = PART_BYTES) -> list[list[Part]]:
    """Return the parts of the newest manifest of a run to merge with each other."""
    return groups(manifest.read_newest(store, run).parts, runs.read(store, run).spec.m, size)


def compact(
    store: ObjectStore, run: str, size: int = PART_BYTES, tell: Callable[[Part], None] = lambda merged: None
) -> int:
    """Merge the small parts of a run. Returns the number of parts that were merged.

    tell  called with each merged part once it is written

    Raises CorruptObjectError if a part is damaged, StoreError.
    """
    found, done = groups_of(store, run, size), 0
    for first in range(0, len(found), AT_ONCE):
        replaced: dict[Part, list[Part]] = {}
        for group in found[first : first + AT_ONCE]:
            replaced[merged := merge(store, run, group)] = group
            tell(merged)
        done += _publish(store, run, replaced)
    return done


def merge(store: ObjectStore, run: str, group: Sequence[Part]) -> Part:
    """Write the part that several parts make together; return its entry for a manifest."""
    pieces = [each.read(store, run) for each in group]
    return write(store, part.joined(pieces, [sha256 for each in group for sha256 in each.written]))


def write(store: ObjectStore, outputs: Outputs) -> Part:
    """Write a merged part; return its entry for a manifest."""
    data = part.encode(outputs)
    # A new name each time: no vacuum has found the object unused before.
    key = keys.merged(outputs.run, outputs.models.start, outputs.models.stop, uuid.uuid4().hex[:16])
    store.create(key, data)
    return manifest.describe(outputs, key, data)


def _publish(store: ObjectStore, run: str, replaced: dict[Part, list[Part]]) -> int:
    """Publish a manifest with merged parts. Leaves out those of which a part was retired or merged meanwhile."""
    while True:
        newest = manifest.read_newest(store, run)
        listed = set(newest.parts)
        used = {merged: group for merged, group in replaced.items() if listed.issuperset(group)}
        gone = {each for group in used.values() for each in group}
        left = [each for each in newest.parts if each not in gone]
        if not used or manifest.create(store, newest.rewritten([*left, *used])):
            return len(gone)
