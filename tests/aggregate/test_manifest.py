import dataclasses

import numpy as np
import pytest

from datamodels.aggregate import manifest
from datamodels.aggregate.committer import Committer
from datamodels.aggregate.manifest import NONE, Part, Snapshot, merged
from datamodels.errors import CorruptObjectError, ObjectNotFoundError, SupersededError
from datamodels.storage import keys, records
from datamodels.storage.local import LocalStore


@pytest.fixture
def store(tmp_path):
    return LocalStore(tmp_path)


@pytest.fixture
def committed(store, run, sub_chunks, make_outputs):
    """Write two versions: one lists the second sub-chunk, the other the first two."""
    committer = Committer(store)
    committer.create(run)
    committer.put(make_outputs(sub_chunks[1], 1, failed=(5, 6)))
    committer.publish(run.name)
    committer.put(make_outputs(sub_chunks[0], 2))
    committer.publish(run.name)
    return run.name


def test_a_run_without_a_manifest_has_an_empty_snapshot(store, run):
    assert manifest.read_newest(store, run.name) == Snapshot(run.name, NONE, ())
    assert manifest.read_newest(store, run.name).ranges == []
    with pytest.raises(ObjectNotFoundError):
        manifest.read(store, run.name, 0)


def test_snapshots_are_numbered_and_stay(store, committed):
    old, new = manifest.read(store, committed, 0), manifest.read_newest(store, committed)
    assert (old.version, new.version) == (0, 1)
    assert [p.first for p in old.parts] == [4] and [p.first for p in new.parts] == [0, 4]
    assert old.ranges == [range(4, 8)] and new.ranges == [range(0, 8)]
    assert (old.committed, old.rows, old.failed) == (4, 2, {5: "writer 1 says so", 6: "writer 1 says so"})
    assert (new.committed, new.rows) == (8, 6)
    assert manifest.read_newest(store, committed, known=0) == new


def test_outputs_are_read_in_order_and_whole(store, committed, make_outputs, sub_chunks):
    first, second = manifest.read_newest(store, committed).outputs(store)
    np.testing.assert_array_equal(first.outputs, make_outputs(sub_chunks[0], 2).outputs)
    np.testing.assert_array_equal(second.model_index, [4, 7])
    assert second.failed == {5: "writer 1 says so", 6: "writer 1 says so"}


def test_a_flipped_byte_of_a_part_is_named(store, committed, tmp_path):
    key = keys.part(committed, 4, 8)
    path = tmp_path / key
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    outputs = manifest.read_newest(store, committed).outputs(store)
    next(outputs)
    with pytest.raises(CorruptObjectError, match=rf"{key}: sha256 is .* its writer recorded"):
        next(outputs)


def test_a_missing_part_is_named(store, committed, tmp_path):
    key = keys.part(committed, 0, 4)
    (tmp_path / key).unlink()
    with pytest.raises(CorruptObjectError, match=f"{key}: is listed in the manifest but is gone"):
        list(manifest.read_newest(store, committed).outputs(store))


def test_a_truncated_part_is_named(store, committed, tmp_path):
    path = tmp_path / keys.part(committed, 0, 4)
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(CorruptObjectError, match=keys.part(committed, 0, 4)):
        list(manifest.read_newest(store, committed).outputs(store))


def test_a_flipped_byte_of_a_manifest_is_named(store, committed, tmp_path):
    path = tmp_path / keys.manifest(committed, 1)
    path.write_bytes(path.read_bytes().replace(b'"rows":4', b'"rows":3'))
    with pytest.raises(CorruptObjectError, match=keys.manifest(committed, 1)):
        manifest.read_newest(store, committed)


@pytest.mark.parametrize(
    "change",
    [
        lambda body: body["parts"].append(body["parts"][0]),
        lambda body: body["parts"].reverse(),
        lambda body: body["parts"][0].update(key="aggregate/other/parts/0000000000-0000000004.parquet"),
        lambda body: body.update(version=7),
        lambda body: body.pop("parts"),
        lambda body: body["parts"][0].pop("sha256"),
        lambda body: body["parts"][0].update(surprise=1),
        lambda body: body["parts"].append(None),
    ],
)
def test_records_that_are_not_manifests(store, committed, change):
    """The records are intact, but this code would not have written them."""
    body = records.read(store, keys.manifest(committed, 1))
    change(body)
    key = keys.manifest(committed, 1)
    store.delete(key)
    records.create(store, key, body)
    with pytest.raises(CorruptObjectError, match=key):
        manifest.read(store, committed, 1)


def test_create_never_replaces_a_version(store, committed):
    parts = manifest.read(store, committed, 0).parts
    assert not manifest.create(store, Snapshot(committed, 0, ()).rewritten(parts))
    assert manifest.create(store, Snapshot(committed, 1, ()).rewritten(reversed(parts)))
    assert manifest.read_newest(store, committed).parts == parts


def test_entries_survive_conversion_to_documents():
    part = Part("key", 0, 3, 1, ((0, "a"), (2, "b")), "0" * 64, 9)
    assert Part.from_document(records.plain(part.document())) == part
    assert part.models == range(0, 3)
    assert dataclasses.replace(part, rows=2) != part


def test_merged_ranges():
    assert merged([]) == []
    assert merged([range(8, 9), range(0, 4), range(4, 6)]) == [range(0, 6), range(8, 9)]


def entry(run, first, sha="0" * 64):
    return Part(keys.part(run, first, first + 4), first, first + 4, 4, (), sha, 100)


def test_a_record_holds_what_its_version_adds(store, run):
    """And the parts of records before it that have no more parts: sizes at least double from one to the next."""
    snapshot, sizes, bodies = Snapshot(run.name, NONE, ()), [], []
    for number in range(7):
        snapshot = snapshot.followed([entry(run.name, 4 * number)])
        assert manifest.create(store, snapshot)
        assert manifest.read(store, run.name, number) == manifest.read_newest(store, run.name) == snapshot
        sizes.append([len(segment.parts) for segment in snapshot.segments])
        bodies.append(records.read(store, keys.manifest(run.name, number)))
    assert sizes == [[1], [2], [1, 2], [4], [1, 4], [2, 4], [1, 2, 4]]
    # A record that lists everything is as earlier versions wrote it, and no other one can be taken for it.
    assert [sorted(body) for body in bodies[:4:3]] == 2 * [["parts", "version"]]
    assert sorted(bodies[2]) == ["added", "base", "retired", "version"] and bodies[2]["base"] == 1
    whole = snapshot.followed([], whole=True)
    assert len(whole.segments) == 1 and whole.parts == snapshot.parts and whole.version == 7


def test_many_commits_write_few_bytes(run):
    """A part is in few records, and a version is read from few."""
    snapshot, written = Snapshot(run.name, NONE, ()), 0
    for first in range(0, 3000, 4):
        snapshot = snapshot.followed([entry(run.name, first)])
        written += len(snapshot.segments[0].parts)
        assert len(snapshot.segments) <= 10
    assert written < 6 * len(snapshot.parts)


def test_a_version_whose_base_is_gone_says_so(store, run):
    snapshot = Snapshot(run.name, NONE, ())
    for number in range(3):
        snapshot = snapshot.followed([entry(run.name, 4 * number)])
        assert manifest.create(store, snapshot)
    store.delete(keys.manifest(run.name, 1))
    with pytest.raises(SupersededError, match=r"builds on manifest 1, which is gone; .*repair"):
        manifest.read_newest(store, run.name)
    left = manifest.read_newest(store, run.name, partial=True)
    assert not left.complete and [part.first for part in left.parts] == [8]
    assert [segment.parts for segment in left.followed([]).segments] == [left.parts]


def test_parts_found_by_model():
    row = [Part("", first, last, 0, (), "", 0) for first, last in ((4, 8), (8, 16), (20, 24))]
    snapshot = Snapshot("r", 0, tuple(row))
    found = [snapshot.find(model) for model in (0, 4, 7, 8, 15, 16, 19, 23, 24)]
    assert snapshot.rows_below(22) == 4 + 8 + 2 and snapshot.rows_below(6) == 2
    assert found == [None, row[0], row[0], row[1], row[1], None, None, row[2], None]
