"""What counts as used, as working, and as ours. The rest is tested by killing the commands that ask."""

import hashlib
import time

import pytest

from datamodels.aggregate import manifest
from datamodels.aggregate.manifest import Part
from datamodels.errors import CorruptObjectError, RunInUseError
from datamodels.lifecycle import compaction, copying, objects, removal, repair, vacuum, verify
from datamodels.storage import keys, records
from datamodels.storage.preflight import preflight
from tests.helpers.memory import DoubtfulStore
from tests.lifecycle.test_kills import DAY, compact, prune, retire, sweep

NOW = 1e9
LATER = NOW + 10 * DAY


def found(kept):
    """The objects of the run, as if all were written at NOW."""
    kept.store.modified = dict.fromkeys(kept.store.objects, NOW)
    here = objects.of_run(kept.store, kept.name)
    return here, objects.references(kept.store, here)


def test_everything_of_a_new_run_is_used(kept):
    here, known = found(kept)
    assert objects.live(here, known) == here.entries.keys() == kept.store.objects.keys()
    assert here.bytes() == sum(map(len, kept.store.objects.values()))


def test_what_nothing_refers_to_is_found_and_foreign_objects_are_left_alone(kept):
    name = kept.name
    orphans = [
        keys.merged(name, 0, 8, "0123456789abcdef"),
        keys.part(name, 0, 4, 7),
        keys.weights(name, "dead", 0, 5),
        keys.masks(name, 0, 4),
        keys.looks(name, "pool", 0, 12, "0123456789abcdef"),
        keys.evaluation(name, 9),
    ]
    foreign = [
        f"aggregate/{name}/notes.txt",
        f"fit/{name}/README.md",
        f"query/{name}/x.bin",
        "other/thing",
        "runs/a.json",
    ]
    for key in (*orphans, *foreign):
        kept.store.create(key, b"?")
    here, known = found(kept)
    assert sorted(orphans) == objects.unused(here, known, before=LATER)
    for days in (20, 22):
        sweep(kept.store, name, NOW + days * DAY)
    assert not [key for key in orphans if kept.store.exists(key)]
    assert all(map(kept.store.exists, foreign))
    kept.check()


def test_blocks_of_a_fit_that_goes_on_are_used(kept):
    block = keys.weights(kept.name, "goes", 0, 3)
    kept.store.create(keys.weights(kept.name, "goes", 3, 5), b"")
    kept.store.create(block, b"")
    here, known = found(kept)
    assert objects.unused(here, known, before=NOW) == []
    assert len(objects.unused(here, known, before=NOW + 1)) == 2


def test_blocks_that_no_record_lists_are_unused_once_their_writer_must_have_ended(kept):
    name, store = kept.name, kept.store
    features, gradients = keys.features(name, "0" * 16), keys.gradients(name, "0" * 16)
    blocks = [keys.examples(name, "a" * 64), keys.examples(name, "b" * 64)]
    blocks += [keys.gradient_block(name, "0" * 16, first, 5, "c" * 64) for first in (0, 3)]
    for key in blocks:
        store.create(key, b"")
    here, known = found(kept)
    assert objects.unused(here, known, before=NOW) == []
    assert objects.unused(here, known, before=LATER) == sorted(blocks)
    records.create(store, features, {"arrays": {"x": [{"rows": 1, "sha256": "a" * 64}]}})
    records.create(store, gradients, {"blocks": [{"key": blocks[2], "sha256": "c" * 64}]})
    assert objects.unused(here, objects.references(store, here), before=LATER) == sorted(blocks[1::2]), "lists are new"
    here, known = found(kept)
    assert objects.unused(here, known, before=LATER) == sorted(blocks[1::2])
    for damage in (b"?", b'{"body": {"arrays": 3}}'):
        store.objects[features] = damage
        with pytest.raises(CorruptObjectError, match=features):
            objects.references(store, here)
        assert objects.live(here, objects.references(store, here, lambda key, what: None)) >= {*blocks}


def test_what_is_left_of_a_run_without_a_record_is_unused_after_a_while(kept):
    kept.store.delete(keys.run(kept.name))
    here, known = found(kept)
    assert objects.unused(here, known, before=NOW) == []  # an import writes the record last
    assert objects.unused(here, known, before=LATER) == sorted(here.entries)


def test_nothing_is_deleted_before_it_has_been_unused_for_the_grace_period(kept):
    kept.store.create(keys.evaluation(kept.name, 9), b"")
    found(kept)
    sweep(kept.store, kept.name, LATER)
    sweep(kept.store, kept.name, LATER + DAY - 1)
    assert kept.store.exists(keys.evaluation(kept.name, 9))
    sweep(kept.store, kept.name, LATER + DAY)
    assert not kept.store.exists(keys.evaluation(kept.name, 9))
    assert not list(kept.store.list("upkeep/"))


def test_a_vacuum_that_cannot_read_a_record_deletes_nothing(kept):
    kept.store.objects[keys.manifest(kept.name, 1)] = b"{}"
    kept.store.create(keys.merged(kept.name, 0, 8, "0123456789abcdef"), b"of that manifest, perhaps")
    with pytest.raises(CorruptObjectError, match=keys.manifest(kept.name, 1)):
        vacuum.find(kept.store, objects.of_run(kept.store, kept.name), now=LATER)


@pytest.mark.parametrize("age, busy", [(3600, True), (2 * DAY, False)])
def test_a_run_is_working_if_it_is_not_finished_and_was_written_to(kept, age, busy):
    retire(kept.store, kept.name)  # leaves 18 of 26 models
    here, known = found(kept)
    assert bool(objects.working(kept.store, here, known, NOW + age)) is busy
    if busy:
        with pytest.raises(RunInUseError, match=r"has 18 of 26 models and was written to 60 min ago, .* --force"):
            objects.require_idle(kept.store, here, known, NOW + age)


def test_a_finished_run_is_not_working(kept):
    removal.make_whole(kept.store, kept.name)
    here, known = found(kept)
    assert objects.working(kept.store, here, known, NOW + 60) == ""
    kept.store.create(keys.weights(kept.name, "next", 0, 5), b"")
    kept.store.modified[keys.weights(kept.name, "next", 0, 5)] = NOW + 30
    here = objects.of_run(kept.store, kept.name)
    assert "fit that is not finished" in objects.working(kept.store, here, known, NOW + 60)


def test_pruning_keeps_what_was_asked_for(kept):
    removal.make_whole(kept.store, kept.name)
    here, known = found(kept)
    kept.store.modified[keys.fit(kept.name, 1)] = NOW + DAY
    here = objects.of_run(kept.store, kept.name)

    def fits_left(**asked):
        gone = removal.pruning(here, known, ended=NOW, **asked)
        assert not [key for key in gone if keys.kind(key) == "manifest"]  # none is older than `ended`
        return [number for number in range(3) if keys.fit(kept.name, number) not in gone]

    assert fits_left(keep=1) == [2] and fits_left(keep=2) == [1, 2] and fits_left(keep=9) == [0, 1, 2]
    assert fits_left(before=NOW + 1) == [1, 2] and fits_left(before=LATER) == [2]
    assert fits_left(keep=1, before=NOW + 1) == [1, 2] and fits_left(keep=2, before=LATER) == [1, 2]
    gone = removal.pruning(here, known, before=NOW + 1, ended=LATER)
    assert [key for key in gone if keys.kind(key) == "manifest"] == [keys.manifest(kept.name, v) for v in range(5)]
    assert removal.pruning(here, known, keep=9, before=NOW, ended=LATER) == []


def test_small_parts_are_merged_with_their_neighbours():
    def parts(*spans, size=10):
        return [Part(f"{first}", first, last, last - first, (), "", size) for first, last in spans]

    row = parts(*((i, i + 1) for i in range(12)))
    assert [len(group) for group in compaction.groups(row, 12, size=50)] == [5, 5]  # the last two stay
    assert [len(group) for group in compaction.groups(row, 6, size=1000)] == [6, 6]
    assert compaction.groups(row[:3], 12, size=1000) == []
    assert [len(group) for group in compaction.groups(row[:5] + row[6:], 12, size=1000)] == [5, 6]
    large = [*row[:4], *parts((4, 5), size=600), *row[5:]]
    assert [len(group) for group in compaction.groups(large, 12, size=1000)] == [4, 7]


def test_merged_parts_are_cut_when_a_part_of_them_is_retired(kept):
    removal.make_whole(kept.store, kept.name)
    before = {sha for part in manifest.read_newest(kept.store, kept.name).parts for sha in part.written}
    compact(kept.store, kept.name)
    assert {sha for part in manifest.read_newest(kept.store, kept.name).parts for sha in part.written} == before
    retire(kept.store, kept.name)
    newest = manifest.read_newest(kept.store, kept.name)
    assert [(p.first, p.last) for p in newest.parts][:2] == [(0, 4), (12, 20)]
    assert len(before - {sha for part in newest.parts for sha in part.written}) == 2
    kept.acknowledged = [a for a in kept.acknowledged if a[0].models.start not in (4, 8)]
    kept.check()


def test_damaged_parts_are_found_and_retired(kept):
    removal.make_whole(kept.store, kept.name)
    damaged, gone = (manifest.read_newest(kept.store, kept.name).parts[i].key for i in (1, 5))
    kept.store.objects[damaged] = kept.store.objects[damaged][:-9] + bytes(9)
    kept.store.delete(gone)
    faulty = repair.faulty(kept.store, kept.name, None, damaged=True)
    assert [one.key for one in faulty] == [damaged, gone]
    repair.retire(kept.store, kept.name, faulty)
    newest = manifest.read_newest(kept.store, kept.name)
    assert newest.ranges == [range(0, 4), range(8, 20), range(24, 26)]
    assert repair.faulty(kept.store, kept.name, None, damaged=True) == []


def test_a_damaged_part_that_no_manifest_lists_is_retired(kept):
    """No aggregator can open the run before, for it would list the part."""
    key = keys.part(kept.name, 20, 24)
    kept.store.objects[key] = kept.store.objects[key][:-9] + bytes(9)
    with pytest.raises(CorruptObjectError, match=r"datamodels repair .* --damaged"):
        removal.make_whole(kept.store, kept.name)
    repair.retire(kept.store, kept.name, repair.faulty(kept.store, kept.name, None, damaged=True))
    assert manifest.read_newest(kept.store, kept.name).ranges == [range(0, 20), range(24, 26)]


@pytest.mark.parametrize("notices", [True, False], ids=["the connection finds it", "nobody finds it"])
def test_one_bad_read_of_an_object_is_no_damage(kept, notices):
    """Neither to a check of all objects, nor to a search for damaged parts, nor to a copy, nor to the preflight."""

    def doubtful():
        store = DoubtfulStore(notices=notices)
        store.objects, store.modified = dict(kept.store.objects), dict(kept.store.modified)
        return store

    here = objects.of_run(kept.store, kept.name)
    assert list(verify.verify(doubtful(), here)) == []
    assert repair.faulty(doubtful(), kept.name, None, damaged=True) == []
    target = DoubtfulStore(notices=notices)
    for _ in range(2):  # the second time, all objects are there and are compared
        assert copying.copy(doubtful(), target, here) == len(here.entries)
    assert target.objects == kept.store.objects
    preflight(DoubtfulStore(notices=notices), writers=2)


def test_objects_of_the_whole_store_are_told_apart_by_run(kept):
    kept.store.create("runs/notes.json", b"")
    kept.store.create("preflight/0123", b"")
    kept.store.create(keys.part("gone-0123456789ab", 0, 4), b"")
    assert list(objects.of_all(kept.store)) == ["gone-0123456789ab", kept.name]
    assert objects.of_all(kept.store)[kept.name] == objects.of_run(kept.store, kept.name)
    assert vacuum.leftovers(kept.store, now=time.time() + 2 * DAY) == ["preflight/0123"]
    assert vacuum.leftovers(kept.store, now=time.time()) == []


def test_every_key_has_a_kind_and_an_owner(kept):
    compact(kept.store, kept.name)
    prune(kept.store, kept.name)
    sweep(kept.store, kept.name, time.time() + DAY)
    kinds = {keys.kind(key) for key in kept.store.objects}
    assert kinds == {"run", "display", "looks", "manifest", "part", "merged", "fit", "weights", "answer", "unused"}
    assert {keys.owner(key) for key in kept.store.objects} == {kept.name}
    records.create(kept.store, keys.meaning(kept.name, 0), {})
    assert keys.kind(keys.meaning(kept.name, 0)) == "meaning" and keys.kind(keys.masks(kept.name, 0, 1)) == "masks"


def test_features_and_gradients_are_verified_and_copied_before_what_lists_them(kept):
    name, store, data = kept.name, kept.store, [b"features", b"gradients"]
    sums = [hashlib.sha256(content).hexdigest() for content in data]
    blocks = [keys.examples(name, sums[0]), keys.gradient_block(name, "0" * 16, 0, 5, sums[1])]
    listings = [keys.features(name, "0" * 16), keys.gradients(name, "0" * 16)]
    for key, content in zip(blocks, data, strict=True):
        store.create(key, content)
    records.create(store, listings[0], {"arrays": {"x": [{"rows": 1, "sha256": sums[0]}]}})
    records.create(store, listings[1], {"blocks": [{"key": blocks[1], "first": 0, "last": 5, "sha256": sums[1]}]})
    here, known = found(kept)
    order = [key for stage in copying.stages(here, known) for key in stage]
    assert all(order.index(block) < order.index(listing) for block in blocks for listing in listings)
    assert not list(verify.verify(store, here))
    for key in (*blocks, *listings):
        good = store.objects[key]
        store.objects[key] = good[:-2] + b"?" + good[-1:]
        assert [fault.key for fault in verify.verify(store, here)] == [key]
        store.objects[key] = good
    for key in blocks:
        good = store.objects.pop(key)
        (fault,) = verify.verify(store, objects.of_run(store, name))
        assert (fault.key, "is gone" in fault.what) == (key, True)
        store.objects[key] = good
    assert removal.deletion(here)[0] == keys.run(name) and set(removal.deletion(here)) == store.objects.keys()
