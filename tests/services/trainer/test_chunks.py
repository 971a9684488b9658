"""Which chunks a trainer trains, and with how many threads."""

import collections
import contextlib

import pytest
import torch
from datamodels.services.trainer import service as trainer
from datamodels.services.trainer import shares
from datamodels.services.trainer.shares import Shares
from hypothesis import given
from hypothesis import strategies as st

from datamodels.errors import SettingsError
from datamodels.settings import IndexedJobSettings


def test_threads_are_limited_as_set():
    before = torch.get_num_threads()
    with contextlib.ExitStack() as stack:
        stack.callback(torch.set_num_threads, before)
        stack.enter_context(trainer.limit_threads(1))
        assert torch.get_num_threads() == 1
    with pytest.raises(SettingsError, match="DATAMODELS_TRAINER_THREADS=0: must be at least 1"):
        trainer.limit_threads(0)


def test_chunks_on_the_command_line_win_over_the_jobs_index():
    assert shares.parse("3,5-7", 0, IndexedJobSettings(completion_index=1)).own() == [3, 5, 6, 7]
    assert shares.parse(None, 0, IndexedJobSettings.load({"JOB_COMPLETION_INDEX": "4"})).own() == [4]


def test_the_indexes_of_a_job_share_its_chunks():
    found = [shares.parse("0-3,9", 2, IndexedJobSettings(completion_index=i)).own() for i in range(3)]
    assert found == [[0, 1], [2, 3, 9], []]


@pytest.mark.parametrize("text", ["", "1,", "a", "1-", "-1", "1-2-3"])
def test_chunks_that_are_none_are_refused(text):
    with pytest.raises(SettingsError, match="must be numbers and ranges"):
        shares.parse(text, 0, IndexedJobSettings())


def test_shares_of_chunks_are_for_jobs():
    with pytest.raises(SettingsError, match="or run in an Indexed Job"):
        shares.parse("0-3", 2, IndexedJobSettings())


def test_what_others_leave_is_taken_from_the_end():
    chosen = Shares(list(range(12)), 3, 0)
    taken = {chosen.of_others({4, 8}.__contains__) for _ in range(200)}
    assert taken == {7, 11}, "of 5, 6, 7 and of 9, 10, 11, from the second half"
    assert chosen.of_others({4, 5, 6, 8, 9, 10}.__contains__) is None, "7 and 11 are in training"
    assert Shares([1, 2, 3]).of_others(lambda chunk: False) is None


@given(st.integers(1, 60), st.integers(2, 8), st.lists(st.integers(1, 9), min_size=8, max_size=8), st.integers(0, 7))
def test_all_chunks_are_trained_however_slow_some_indexes_are(chunks, indexes, speeds, dead):
    """Indexes train in turns, each as often as its speed says. One that is dead has its first chunk left at the end."""
    committed = collections.Counter()
    own = {i: Shares(list(range(chunks)), indexes, i) for i in range(indexes)}
    first = own[dead].own()[:1] if dead < indexes else []
    wanted = [c for c in range(chunks) if c not in first]
    for _ in range(100 * chunks):
        for i, mine in own.items():
            for _ in range(0 if i == dead else speeds[i]):
                waiting = [c for c in mine.own() if not committed[c]]
                chunk = waiting[0] if waiting else mine.of_others(lambda c: bool(committed[c]))
                if chunk is not None:
                    committed[chunk] += 1
        if sum(map(bool, committed.values())) == len(wanted):
            break
    assert sorted(c for c in committed if committed[c]) == wanted
    done = set(wanted).__contains__
    assert not [i for i, mine in own.items() if i != dead and mine.of_others(done) is not None]
