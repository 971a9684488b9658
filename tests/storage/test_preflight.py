"""The preflight refuses stores that ignore conditional writes, by name, and accepts others."""

import pytest

from datamodels.errors import SettingsError, StoreUnsafeError
from datamodels.settings import StoreSettings
from datamodels.storage import keys
from datamodels.storage.local import LocalStore
from datamodels.storage.preflight import preflight
from datamodels.storage.s3 import S3Store
from tests.helpers.memory import MemoryStore


class LastWriterKept(MemoryStore):
    """Tells one writer that it won, but keeps the bytes of the last writer."""

    def create(self, key, data):
        won = super().create(key, data)
        self.objects[key] = data
        return won


class NobodyWins(MemoryStore):
    def create(self, key, data):
        super().create(key, data)
        return False


class ForgetsAfterAWhile(MemoryStore):
    """Honours the condition only while writes race, as a store with a cache might."""

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
    assert "32 of 32 writers were told that they won: the store ignores If-None-Match" in message
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (LastWriterKept, "bytes were read back"),
        (NobodyWins, "0 of 8 writers were told that they won: the store refuses every conditional write"),
        (ForgetsAfterAWhile, "a late writer was told that it won"),
    ],
)
def test_refuses_every_other_broken_guarantee(broken, reason):
    store = broken()
    if broken is LastWriterKept:
        # The winner of one race may happen to be the last writer, but not the winners of 50 races.
        with pytest.raises(StoreUnsafeError, match=reason):
            for _ in range(50):
                preflight(store, writers=8)
    else:
        with pytest.raises(StoreUnsafeError, match=reason):
            preflight(store, writers=8)
    assert not store.objects


def test_accepts_a_correct_store_in_memory():
    preflight(MemoryStore(), writers=8)


def test_accepts_a_store_that_refuses_deletes():
    class NoDelete(MemoryStore):
        def delete(self, key):
            raise SettingsError("AccessDenied")

    preflight(NoDelete(), writers=8)


@pytest.mark.parametrize("writers", [-1, 0, 1, 1001])
def test_a_wrong_number_of_writers_is_refused(writers):
    with pytest.raises(SettingsError, match=f"PREFLIGHT_WRITERS={writers}: must be 2 to 1000"):
        preflight(MemoryStore(), writers)
