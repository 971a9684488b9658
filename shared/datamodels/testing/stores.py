"""Test that object stores conform to the interface. A backend's test class inherits `StoreTests` and sets two hooks."""

from __future__ import annotations

import concurrent.futures
import hashlib
import threading
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datamodels.errors import CorruptObjectError, InputError, ObjectNotFoundError
from datamodels.storage import ObjectStore
from datamodels.storage.keys import Numbered

PARTS = st.text("abcXYZ019_-", min_size=1, max_size=8)
KEYS = st.lists(PARTS, min_size=1, max_size=3).map("/".join).map(lambda key: key + ".bin")
NUMBERED = Numbered("numbered/", 6)
SUPPRESSED = (HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.differing_executors)
"""Health checks to turn off: examples share the store of their test, and the classes of several stores share tests."""


class StoreTests:
    """Inherit from it in a class whose name begins with `Test`, and set the two hooks.

    `store` returns an empty store for each test. `alter` damages an object, so that checksums have something to find.
    """

    rounds = 20
    """How often writers race for an object."""

    @pytest.fixture
    def store(self) -> ObjectStore:
        """Return an empty store."""
        raise NotImplementedError("a backend's test sets this hook")

    def alter(self, store: ObjectStore, key: str, data: bytes) -> None:
        """Replace the bytes of an object without using the store."""
        raise NotImplementedError("a backend's test sets this hook")

    def test_create_then_read(self, store):
        data = bytes(range(256)) * 100
        assert store.create("a/b/c.bin", data) is True
        assert store.read("a/b/c.bin") == data
        assert store.reread("a/b/c.bin") == store.read_twice("a/b/c.bin") == data
        assert store.get("a/b/c.bin", sha256=hashlib.sha256(data).hexdigest()) == data
        assert store.exists("a/b/c.bin")

    def test_an_object_is_never_overwritten(self, store):
        assert store.create("a/b", b"first")
        assert store.create("a/b", b"second") is False
        assert store.create("a/b", b"first") is False
        assert store.read("a/b") == b"first"

    def test_empty_and_large_objects(self, store):
        large = b"0123456789abcdef" * 2**17
        assert store.create("empty", b"") and store.create("large", large)
        assert store.read("empty") == b"" and store.read("large") == large

    def test_a_missing_object(self, store):
        assert not store.exists("a/b")
        with pytest.raises(ObjectNotFoundError, match="a/b"):
            store.read("a/b")
        with pytest.raises(ObjectNotFoundError):
            store.reread("a/b")
        with pytest.raises(ObjectNotFoundError):
            store.get("a/b", sha256="0" * 64)
        store.delete("a/b")

    def test_delete_frees_the_key(self, store):
        store.create("a/b", b"first")
        store.delete("a/b")
        assert not store.exists("a/b")
        assert store.create("a/b", b"second")
        assert store.read("a/b") == b"second"

    def test_list_ascends_and_takes_any_prefix(self, store):
        found = ["a/b/1", "a/b/2", "a/b-c", "a/b.d", "a/b0", "ab", "b/1"]
        for key in found:
            assert store.create(key, key.encode())
        assert list(store.list("")) == sorted(found)
        assert list(store.list("a/")) == ["a/b-c", "a/b.d", "a/b/1", "a/b/2", "a/b0"]
        assert list(store.list("a/b")) == ["a/b-c", "a/b.d", "a/b/1", "a/b/2", "a/b0"]
        assert list(store.list("a/b/")) == ["a/b/1", "a/b/2"]
        assert list(store.list("nothing/")) == []
        assert list(store.list("a/", after="a/b.d")) == ["a/b/1", "a/b/2", "a/b0"]
        assert list(store.list("a/b/", after="a/b/1")) == list(store.list("", after="a/b/1"))[:1] == ["a/b/2"]
        assert list(store.list("", deep=False)) == ["ab"]
        assert list(store.list("a/b", deep=False)) == ["a/b-c", "a/b.d", "a/b0"]
        assert list(store.list("a/", after="a/b-c", deep=False)) == ["a/b.d", "a/b0"]

    def test_entries_have_sizes_and_times(self, store):
        before = time.time()
        for size in (3, 5):
            store.create(f"sizes/{size}", bytes(size))
        found = list(store.entries("sizes/"))
        assert [(entry.key, entry.bytes) for entry in found] == [("sizes/3", 3), ("sizes/5", 5)]
        # S3 tells whole seconds, by the clock of its server.
        assert all(before - 5 < entry.modified < time.time() + 5 for entry in found)

    @pytest.mark.parametrize(
        "key", ["", "/etc/passwd", "../x", "a/../../x", "a//b", "a/", ".tmp/x", "a/.b", "a\0b", "é"]
    )
    def test_keys_that_point_outside_or_that_a_backend_cannot_hold_are_refused(self, store, key):
        for call in (store.read, store.exists, store.delete, lambda key: store.create(key, b"")):
            with pytest.raises(InputError, match="object key"):
                call(key)
        assert list(store.list("")) == []

    def test_a_flipped_byte_is_found_and_named(self, store):
        data = bytes(1000)
        store.create("a/b.parquet", data)
        sha256 = hashlib.sha256(data).hexdigest()
        for position in (0, 500, 999):
            altered = bytearray(data)
            altered[position] ^= 1
            self.alter(store, "a/b.parquet", bytes(altered))
            with pytest.raises(CorruptObjectError) as caught:
                store.get("a/b.parquet", sha256=sha256)
            assert f"{store.url}/a/b.parquet" in str(caught.value)
            assert sha256 in str(caught.value)
        self.alter(store, "a/b.parquet", data)
        assert store.get("a/b.parquet", sha256=sha256) == data

    def test_of_32_racing_writers_one_wins_in_each_round(self, store):
        writers, rounds = 32, self.rounds
        together = threading.Barrier(writers)

        def write(round_: int, writer: int) -> bool:
            together.wait()
            return store.create(f"race/{round_}", f"writer {writer}".encode() * 100)

        with concurrent.futures.ThreadPoolExecutor(writers) as pool:
            for round_ in range(rounds):
                won = list(pool.map(write, [round_] * writers, range(writers)))
                assert sum(won) == 1, f"round {round_}: {sum(won)} of {writers} won"
                assert store.read(f"race/{round_}") == f"writer {won.index(True)}".encode() * 100
        assert len(list(store.list("race/"))) == rounds

    def test_newest_of_numbered_keys(self, store):
        assert store.newest(NUMBERED) == -1
        for version in range(12):
            store.create(NUMBERED(version), b"")
            assert store.newest(NUMBERED) == version
            assert store.newest(NUMBERED, known=version // 2) == version

    @pytest.mark.parametrize("left", [{3}, {11}, {4, 5, 11}, {0, 1, 7}, {2, 10, 11}, set()])
    def test_newest_of_numbered_keys_of_which_some_were_removed(self, store, left):
        for key in ("numbered/00000012.json", "numbered/0000x3.json", "numbered/000099/a", "numbered/abc/000099.json"):
            store.create(key, b"")
        for number in left:
            store.create(NUMBERED(number), b"")
        assert list(store.numbers(NUMBERED)) == sorted(left)
        for known in (-1, 0, 2, 3):
            expected = max(left, default=-1)
            if known not in left or known + 1 in left or known < 0:
                assert store.newest(NUMBERED, known) == (expected if expected > known or known in left else -1)
            else:
                assert store.newest(NUMBERED, known) in left  # while `known` exists, what follows is thought to, too

    # The store is emptied first, and each backend's class runs this as its own test.
    @settings(
        max_examples=max(1, settings().max_examples // 5),
        deadline=None,
        suppress_health_check=SUPPRESSED,
    )
    @given(objects=st.dictionaries(KEYS, st.binary(max_size=50), max_size=8))
    def test_holds_any_objects(self, store, objects):
        for key in list(store.list("")):
            store.delete(key)
        for key, data in objects.items():
            assert store.create(key, data)
        assert list(store.list("")) == sorted(objects)
        assert {key: store.read(key) for key in objects} == objects
