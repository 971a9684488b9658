"""One bad read is no damage, and no checksum comes from a bad read."""

import hashlib

import pytest

from datamodels.errors import CorruptObjectError, ObjectNotFoundError
from datamodels.storage import records
from datamodels.storage.metrics import REREAD
from tests.helpers.memory import FlippingStore

DATA = bytes(range(256))
SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def store():
    store = FlippingStore()
    store.create("a", DATA)
    records.create(store, "record", {"x": 1})
    return store


def rereads():
    return REREAD._value.get()


def test_one_bad_read_is_repeated_and_counted(store):
    before = rereads()
    for place in range(0, 256, 17):
        store.faults = [place]
        assert store.get("a", sha256=SHA256) == DATA
    for place in range(20):
        store.faults = [place]
        assert records.read(store, "record") == {"x": 1}
    assert rereads() == before + 16 + 20


def test_two_bad_reads_are_damage(store):
    store.faults = [3, 3]
    with pytest.raises(CorruptObjectError, match="memory:///a"):
        store.get("a", sha256=SHA256)
    assert store.reads == 2
    store.faults = [3, 4]
    with pytest.raises(CorruptObjectError, match="record"):
        records.read(store, "record")


def test_a_good_read_is_not_repeated(store):
    store.get("a", sha256=SHA256)
    records.read(store, "record")
    assert store.reads == 2


@pytest.mark.parametrize("faults", [[], [7], [None, 7], [7, 8], [7, None, None]])
def test_two_reads_that_agree_are_the_object(store, faults):
    store.faults = faults
    assert store.read_twice("a") == DATA


def test_reads_that_never_agree_are_refused(store):
    store.faults = [1, 2, 3, 4]
    with pytest.raises(CorruptObjectError, match="4 reads of it differ"):
        store.read_twice("a")


def test_what_is_absent_is_absent(store):
    for call in (store.read_twice, store.reread, lambda key: store.get(key, sha256=SHA256)):
        with pytest.raises(ObjectNotFoundError):
            call("none")
