"""The local store loses nothing acknowledged when the power fails, and never has half of an object."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodels.storage.local import LocalStore
from tests.helpers.properties import examples
from tests.storage import power
from tests.storage.power import KEYS, Disk

WRITES = st.lists(st.tuples(st.sampled_from(power.ACTIONS), st.sampled_from(KEYS)), max_size=power.MOST)


@examples(40)
@given(writes=WRITES, calls=st.none() | st.integers(0, 40), chance=st.randoms(use_true_random=False))
def test_nothing_acknowledged_is_lost_and_nothing_is_half_there(writes, calls, chance):
    power.lose(writes, calls, chance)


@pytest.mark.parametrize("control", power.CONTROLS.values(), ids=power.CONTROLS)
def test_a_store_that_flushes_too_little_is_found_out(control):
    """If this fails, the test above proves nothing."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(AssertionError):
        control(patch)
        for seed in range(50):
            power.once(random.Random(seed))


def test_commits_that_were_acknowledged_survive():
    for seed in range(10):
        power.commit_without_power(random.Random(seed))


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
