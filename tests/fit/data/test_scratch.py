import numpy as np
import pytest

from datamodels.errors import SettingsError, StoreFullError
from datamodels.fit.data import scratch
from tests.disks import files_up_to

DTYPE = np.dtype(np.float32)


def test_what_is_mapped_is_zeros_in_a_file_without_a_name(tmp_path):
    found = scratch.mapped(tmp_path / "new", (5, 3), DTYPE)
    assert found.dtype == DTYPE and found.shape == (5, 3) and not found.any()
    found[:] = np.arange(15).reshape(5, 3)
    assert found.sum() == 105
    assert list((tmp_path / "new").iterdir()) == []


def test_nothing_is_mapped_for_no_numbers(tmp_path):
    assert scratch.mapped(tmp_path / "new", (5, 0), DTYPE).shape == (5, 0)


def test_a_disk_without_room_is_said_before_anything_is_written(tmp_path):
    with files_up_to(1000), pytest.raises(StoreFullError, match="free some space"):
        scratch.mapped(tmp_path, (1000, 1), DTYPE)


def test_a_folder_that_cannot_be_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match=r"file: .*SCRATCH"):
        scratch.mapped(tmp_path / "file", (5, 3), DTYPE)
