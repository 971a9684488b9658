"""The local store loses nothing acknowledged when the power fails, and never has half of an object."""

import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodels.storage import disk, local
from datamodels.storage.local import LocalStore
from tests.properties import examples
from tests.storage.power import Disk, PowerLoss

KEYS = ["a", "b/c", "b/d", "b/e/f", "g/h/i/j"]
WRITES = st.lists(
    st.tuples(st.sampled_from(["create", "create", "create", "delete", "open"]), st.sampled_from(KEYS)), max_size=12
)


def lose_power(writes, calls, chance):
    """Write to a store until the power fails. Fails if the store is not as it must be when the power is back.

    writes  (action, key) in order; two processes share the store and take turns
    calls   as of `Disk`
    """
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        before, after = Path(folder, "before"), Path(folder, "after")
        before.mkdir()
        after.mkdir()
        disk, place = Disk(before, calls), Path("made", "store")
        told, unsure = dict.fromkeys(KEYS), []
        with disk.attached(patch):
            try:
                stores = [LocalStore(before / place) for _ in range(2)]
                for i, (action, key) in enumerate(writes):
                    data = b"object %d, " % i * 50
                    if action == "open":
                        stores[i % 2] = LocalStore(before / place)
                    elif action == "create":
                        unsure = [key, data] if told[key] is None else []
                        stores[i % 2].create(key, data)
                        told[key] = told[key] or data
                    else:
                        unsure = [key, None]
                        stores[i % 2].delete(key)
                        told[key] = None
                    unsure = []
            except PowerLoss:
                pass
        disk.restart(after, chance.randrange)
        store = LocalStore(after / place)
        for key, data in told.items():
            found = store.read(key) if store.exists(key) else None
            assert found == data or [key, found] == unsure, f"{key} was {data}, is {found}"
            assert store.create(key, b"later") is (found is None)


@examples(40)
@given(writes=WRITES, calls=st.none() | st.integers(0, 40), chance=st.randoms(use_true_random=False))
def test_nothing_acknowledged_is_lost_and_nothing_is_half_there(writes, calls, chance):
    lose_power(writes, calls, chance)


def without_flushing_folders(patch):
    patch.setattr(disk, "flush", lambda folder: None)


def without_flushing_bytes(patch):
    patch.setattr(local, "_sync", lambda descriptor: None)


def in_place(patch):
    patch.setattr(LocalStore, "_link", lambda self, temporary, path: not path.write_bytes(temporary.read_bytes()))


@pytest.mark.parametrize("fault", [without_flushing_folders, without_flushing_bytes, in_place])
def test_a_store_that_flushes_too_little_is_found_out(monkeypatch, fault):
    """If this fails, the test above proves nothing."""
    fault(monkeypatch)
    with pytest.raises(AssertionError):
        for seed in range(50):
            chance = random.Random(seed)
            writes = [("create", chance.choice(KEYS)) for _ in range(6)]
            lose_power(writes, chance.choice([None, *range(30)]), chance)


def test_a_folder_that_others_made_is_made_durable_too(tmp_path):
    """As the home of `datamodels run`, which the command makes before the store."""
    with pytest.MonkeyPatch.context() as patch:
        disk = Disk(tmp_path / "before")
        (tmp_path / "before").mkdir()
        (tmp_path / "after").mkdir()
        with disk.attached(patch):
            (tmp_path / "before" / "home").mkdir()
            LocalStore(tmp_path / "before" / "home" / "store").create("a", b"1")
        disk.restart(tmp_path / "after", lambda n: 0)
        assert LocalStore(tmp_path / "after" / "home" / "store").read("a") == b"1"
