"""Two aggregators that publish one run at the same time. The rest is tested in test_committer and test_protocol."""

import hashlib

import pytest

from datamodels.aggregate import manifest
from datamodels.aggregate.ledger import Ledger
from datamodels.errors import RunNotFoundError
from datamodels.run import runs
from datamodels.storage import keys
from tests.helpers.memory import FlippingStore


@pytest.fixture
def store(protocol, run):
    store = protocol.MemoryStore()
    runs.create(store, run)
    return store


def test_a_version_written_by_another_is_merged_into_the_next(store, run, sub_chunks, make_outputs):
    one, two = Ledger(store, run), Ledger(store, run)
    one.put(make_outputs(sub_chunks[0], 1))
    two.put(make_outputs(sub_chunks[1], 2))
    assert one.publish() == 0
    assert two.publish() == 1
    assert [p.first for p in manifest.read(store, run.name, 0).parts] == [0]
    assert [p.first for p in manifest.read(store, run.name, 1).parts] == [0, 4]
    one.put(make_outputs(sub_chunks[2], 1))
    assert one.publish() == 2
    assert [p.first for p in manifest.read(store, run.name, 2).parts] == [0, 4, 8]


def test_a_version_that_lists_all_parts_needs_no_next(store, run, sub_chunks, make_outputs):
    one, two = Ledger(store, run), Ledger(store, run)
    one.put(make_outputs(sub_chunks[0], 1))
    two.put(make_outputs(sub_chunks[0], 2))
    assert one.publish() == 0
    assert two.publish() == 0
    assert not store.exists(keys.manifest(run.name, 1))
    assert not one.unlisted and not two.unlisted


def test_a_newer_version_seen_while_publishing_is_not_forgotten(protocol, store, run, sub_chunks, make_outputs):
    """Another aggregator writes the next version, and another thread reads it, before our own write returns."""

    class Interleaved(protocol.FaultyStore):
        def create(self, key, data):
            created = super().create(key, data)
            if key == keys.manifest(run.name, 0):
                other = Ledger(self.store, run)
                other.put(make_outputs(sub_chunks[1], 2))
                assert other.publish() == 1
                ledger.refresh()
            return created

    interleaved = Interleaved(store)
    ledger = Ledger(interleaved, run)
    ledger.put(make_outputs(sub_chunks[0], 1))
    assert ledger.publish() == 1
    assert ledger.version == 1 and not ledger.unlisted
    assert ledger.progress().ranges == [range(0, 8)]
    assert f"create {keys.manifest(run.name, 1)}" not in interleaved.calls  # nothing was left to add


def test_a_second_refresh_soon_after_does_not_ask_the_store(protocol, store, run):
    faulty = protocol.FaultyStore(store)
    ledger = Ledger(faulty, run)
    faulty.calls.clear()
    ledger.refresh(older_than=1000)
    assert faulty.calls == []
    ledger.refresh()
    assert faulty.calls == [f"exists {keys.manifest(run.name, 0)}", f"list aggregate/{run.name}/manifest/"]


def test_a_run_that_was_deleted_and_made_again_is_begun_anew(store, run, sub_chunks, make_outputs):
    """An aggregator outlives many runs."""
    ledger = Ledger(store, run)
    ledger.put(make_outputs(sub_chunks[0], 1))
    ledger.publish()
    for key in list(store.list("")):
        store.delete(key)
    with pytest.raises(RunNotFoundError, match="was deleted"):
        ledger.refresh()
    runs.create(store, run)
    ledger.refresh()
    assert ledger.progress().committed == 0
    assert ledger.put(make_outputs(sub_chunks[0], 2))[1] and ledger.publish() == 0


def test_a_run_that_was_deleted_before_its_first_manifest_gets_none(store, run, sub_chunks, make_outputs):
    ledger = Ledger(store, run)
    ledger.put(make_outputs(sub_chunks[0], 1))
    for key in list(store.list("")):
        store.delete(key)
    with pytest.raises(RunNotFoundError, match="was deleted"):
        ledger.publish()
    assert not store.objects


def test_no_manifest_has_the_checksum_of_a_bad_read(run, sub_chunks, make_outputs):
    """A part that no manifest lists is read at the start; each bit of that read may be wrong."""
    store = FlippingStore()
    runs.create(store, run)
    Ledger(store, run).put(make_outputs(sub_chunks[0], 1))
    (key,) = store.list(keys.parts(run.name))
    for place in range(0, len(store.objects[key]), 29):
        store.faults = [place]
        ledger = Ledger(store, run)
        assert ledger.get(sub_chunks[0]).sha256 == hashlib.sha256(store.objects[key]).hexdigest()
        assert store.faults == []
