"""Retire parts whose outputs are damaged or wrong, so that their models are trained again.

A retired part is not listed by the next manifest, and the next part of its sub-chunk has another key. It stays in the
store, and in older manifests, until these are pruned and a vacuum finds it unused.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Iterator

from datamodels.aggregate import manifest, part
from datamodels.aggregate.ledger import Ledger
from datamodels.aggregate.manifest import Part
from datamodels.aggregate.part import Outputs
from datamodels.errors import CorruptObjectError, InputError, ObjectNotFoundError
from datamodels.lifecycle import compaction
from datamodels.run import runs
from datamodels.run.runs import Run
from datamodels.storage import ObjectStore, keys


@dataclasses.dataclass(frozen=True)
class Faulty:
    """A sub-chunk whose part is to be retired.

    key      of the part
    retired  how many parts of the sub-chunk had been retired before
    why      what is wrong with the part
    """

    models: range
    key: str
    retired: int
    why: str


ASKED = "asked for"


def faulty(
    store: ObjectStore,
    run: str,
    models: range | None,
    *,
    damaged: bool = False,
    tell: Callable[[int, int], None] = lambda done, parts: None,
) -> list[Faulty]:
    """Find the sub-chunks to repair. Changes nothing.

    models   those to repair, whatever their parts hold; None for none
    damaged  also those whose parts are damaged or missing; reads all parts
    tell     called with (number of parts that were read, number of parts)

    Raises InputError if the models are not of the run.
    """
    opened = runs.read(store, run)
    if models is not None and not (0 <= models.start < models.stop <= opened.spec.models):
        raise InputError(
            f"models {models.start}:{models.stop}: must be a range FIRST:LAST within 0:{opened.spec.models}"
        )
    snapshot = manifest.read_newest(store, run, partial=True)
    present = set(store.list(keys.parts(run)))
    found = []
    for done, sub_chunk in enumerate(chunks := list(_sub_chunks(opened)), 1):
        listed = snapshot.find(sub_chunk.start)
        key = snapshot.key(sub_chunk) if listed is None else listed.key
        before = snapshot.retired.get(sub_chunk.start, 0)
        if listed is None and key not in present:
            continue
        if models is not None and sub_chunk.start < models.stop and models.start < sub_chunk.stop:
            found.append(Faulty(sub_chunk, key, before, ASKED))
        elif damaged and (why := _fault(store, opened, listed, sub_chunk, key)):
            found.append(Faulty(sub_chunk, key, before, why))
        tell(done, len(chunks))
    return found


def _sub_chunks(run: Run) -> Iterator[range]:
    return (models for c in range(run.spec.chunks) for models in run.spec.sub_chunks(run.spec.chunk_range(c)))


def _fault(store: ObjectStore, run: Run, listed: Part | None, models: range, key: str) -> str:
    """Return what is wrong with a part; an empty string if nothing is."""
    try:
        if listed is None:
            store.checked(
                key, lambda data: part.decode(data, f"{store.url}/{key}", run=run.name, models=models, n=run.n)
            )
        elif listed.first == models.start:  # a merged part is read once
            listed.read(store, run.name)
        else:
            return ""
    except CorruptObjectError as error:
        return str(error)
    except ObjectNotFoundError:
        return f"{store.url}/{key}: is gone"
    return ""


def retire(store: ObjectStore, run: str, found: list[Faulty]) -> int:
    """Publish a manifest without the parts of some sub-chunks. Returns its version.

    Of a merged part, the other sub-chunks are kept, unless it is damaged: then all of it is retired. Raises StoreError.
    """
    opened = runs.read(store, run)
    if not manifest.read_newest(store, run, partial=True).complete:
        Ledger(store, opened).publish(whole=True)
    while True:
        known = manifest.read_newest(store, run)
        left = [one for one in found if known.retired.get(one.models.start, 0) == one.retired]
        if not left:
            break  # an earlier attempt has retired them
        retired, asked = dict(known.retired), collections.defaultdict(list)
        for one in left:
            if listed := known.find(one.models.start):
                asked[listed].append(one.models)
            else:
                retired[one.models.start] = one.retired + 1
        kept = [each for each in known.parts if each not in asked]
        for each, models in asked.items():
            pieces, lost = _without(store, opened, each, models)
            kept += pieces
            retired |= {gone.start: retired.get(gone.start, 0) + 1 for gone in lost}
        if manifest.create(store, known.rewritten(kept, retired)):
            break
    return Ledger(store, opened).publish(whole=True)


def _without(store: ObjectStore, run: Run, listed: Part, asked: list[range]) -> tuple[list[Part], list[range]]:
    """Return parts that have the sub-chunks of a part that are not asked for, and the sub-chunks that are lost."""
    mine = [models for models in _sub_chunks(run) if models.start in listed.models] if listed.merged else asked
    if len(asked) == len(mine):
        return [], mine
    try:
        outputs = listed.read(store, run.name)
    except CorruptObjectError:
        return [], mine
    pieces: list[tuple[list[Outputs], list[str]]] = [([], [])]
    for models, sha256 in zip(mine, listed.merged, strict=True):
        if models in asked:
            pieces.append(([], []))
        else:
            pieces[-1][0].append(outputs.only(models))
            pieces[-1][1].append(sha256)
    return [compaction.write(store, part.joined(*piece)) for piece in pieces if piece[0]], asked
