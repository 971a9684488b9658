"""Row d1: stores that ignore conditional writes are refused by name, others accepted."""

import threading

import pytest

from datamodels.errors import SettingsError, StoreUnsafeError
from datamodels.settings import StoreSettings
from datamodels.storage import keys
from datamodels.storage.base import ObjectStore
from datamodels.storage.local import LocalStore
from datamodels.storage.preflight import preflight
from datamodels.storage.s3 import S3Store


class MemoryStore(ObjectStore):
    """A correct store in memory; subclasses break one promise each."""

    url = "memory://"

    def __init__(self):
        self.objects: dict[str, bytes] = {}
        self.lock = threading.Lock()

    def create(self, key, data):
        with self.lock:
            if key in self.objects:
                return False
            self.objects[key] = data
            return True

    def read(self, key):
        return self.objects[key]

    def exists(self, key):
        return key in self.objects

    def list(self, prefix):
        return iter(sorted(key for key in self.objects if key.startswith(prefix)))

    def delete(self, key):
        self.objects.pop(key, None)


class LastWriterKept(MemoryStore):
    """Tells one writer that it won, and keeps the bytes of the last."""

    def create(self, key, data):
        won = super().create(key, data)
        self.objects[key] = data
        return won


class NobodyWins(MemoryStore):
    def create(self, key, data):
        super().create(key, data)
        return False


class ForgetsAfterAWhile(MemoryStore):
    """Honours the condition only while writes race, as stores that cache it do."""

    def create(self, key, data):
        with self.lock:
            if data == b"late":
                self.objects[key] = data
                return True
        return super().create(key, data)


def test_accepts_ministack_and_cleans_up(ministack, bucket):
    store = S3Store(StoreSettings(url=f"s3://{bucket}/some/prefix", s3_endpoint=ministack))
    preflight(store)
    assert list(store.list(keys.preflight(""))) == []


def test_accepts_a_folder_and_cleans_up(tmp_path):
    store = LocalStore(tmp_path)
    preflight(store)
    assert list(store.list("")) == []


def test_refuses_rclone_by_name_with_the_reason(rclone, rclone_bucket):
    store = S3Store(StoreSettings(url=f"s3://{rclone_bucket}", s3_endpoint=rclone))
    with pytest.raises(StoreUnsafeError) as caught:
        preflight(store)
    message = str(caught.value)
    assert f"s3://{rclone_bucket}" in message
    assert "32 of 32 writers were told they won: the store ignores If-None-Match" in message
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (LastWriterKept, "bytes were read back"),
        (NobodyWins, "0 of 8 writers were told they won: the store refuses every conditional write"),
        (ForgetsAfterAWhile, "a late writer was told it won"),
    ],
)
def test_refuses_every_other_broken_promise(broken, reason):
    store = broken()
    if broken is LastWriterKept:
        # The winner may by chance be the last writer; of several races it is not in all.
        with pytest.raises(StoreUnsafeError, match=reason):
            for _ in range(50):
                preflight(store, writers=8)
    else:
        with pytest.raises(StoreUnsafeError, match=reason):
            preflight(store, writers=8)
    assert not store.objects


def test_accepts_a_correct_store_in_memory():
    preflight(MemoryStore(), writers=8)


def test_a_store_on_which_nothing_may_be_deleted_is_safe():
    class NoDelete(MemoryStore):
        def delete(self, key):
            raise SettingsError("AccessDenied")

    preflight(NoDelete(), writers=8)


@pytest.mark.parametrize("writers", [-1, 0, 1, 1001])
def test_a_race_needs_writers(writers):
    with pytest.raises(SettingsError, match=f"PREFLIGHT_WRITERS={writers}: must be 2 to 1000"):
        preflight(MemoryStore(), writers)
