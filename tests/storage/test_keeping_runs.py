"""The commands that keep runs, on S3: what is tested in tests/lifecycle in memory, once through a real server."""

import time

import pytest

from datamodels.aggregate import manifest
from datamodels.lifecycle import compaction, copying, objects, verify
from datamodels.settings import StoreSettings
from datamodels.storage import keys, open_store
from tests.lifecycle.conftest import make
from tests.lifecycle.test_kills import everything, removal, retire
from tests.storage.conftest import empty


@pytest.fixture
def store(ministack, bucket):
    found = open_store(StoreSettings(url=f"s3://{bucket}/kept", s3_endpoint=ministack))
    empty(found)
    return found


def test_a_run_is_copied_to_s3_kept_there_and_copied_back(store, tmp_path):
    kept = make()
    local = open_store(StoreSettings(url=f"file://{tmp_path}/store"))
    copying.copy(kept.store, store, objects.of_run(kept.store, kept.name))
    there = objects.of_run(store, kept.name)
    assert {key: entry.bytes for key, entry in there.entries.items()} == {
        key: len(data) for key, data in kept.store.objects.items()
    }
    assert abs(there.modified - time.time()) < 60
    assert objects.of_all(store) == {kept.name: there}
    everything(store, kept.name)
    newest = manifest.read_newest(store, kept.name)
    assert newest.committed == 26 and len(newest.parts) == 3 and newest.version > 0
    assert [*store.numbers(keys.manifests(kept.name))] == [newest.version]
    retire(store, kept.name)
    compaction.compact(store, kept.name)
    assert not list(verify.verify(store, objects.of_run(store, kept.name)))
    copying.copy(store, local, objects.of_run(store, kept.name))
    assert not list(verify.verify(local, objects.of_run(local, kept.name)))
    assert dict(manifest.read_newest(local, kept.name).retired) == {4: 1, 8: 1}
    removal.remove(store, removal.deletion(objects.of_run(store, kept.name)))
    assert list(store.list("")) == []
