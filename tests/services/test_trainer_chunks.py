"""Which chunks a trainer trains, and with how many threads."""

import contextlib

import pytest
import torch
from datamodels.services.trainer import service as trainer

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
    assert trainer.chosen_chunks("3,5-7", 0, IndexedJobSettings(completion_index=1)) == [3, 5, 6, 7]
    assert trainer.chosen_chunks(None, 0, IndexedJobSettings.load({"JOB_COMPLETION_INDEX": "4"})) == [4]


def test_the_indexes_of_a_job_share_its_chunks():
    shares = [trainer.chosen_chunks("0-3,9", 2, IndexedJobSettings(completion_index=i)) for i in range(2)]
    assert shares == [[0, 1], [2, 3, 9]]


@pytest.mark.parametrize("text", ["", "1,", "a", "1-", "-1", "1-2-3"])
def test_chunks_that_are_none_are_refused(text):
    with pytest.raises(SettingsError, match="must be numbers and ranges"):
        trainer.chosen_chunks(text, 0, IndexedJobSettings())


def test_shares_of_chunks_are_for_jobs():
    with pytest.raises(SettingsError, match="or run in an Indexed Job"):
        trainer.chosen_chunks("0-3", 2, IndexedJobSettings())
