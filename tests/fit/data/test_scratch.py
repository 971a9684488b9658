import contextlib
import os

import numpy as np
import pytest

from datamodels.errors import SettingsError, StoreFullError
from datamodels.fit.data import scratch
from tests.helpers.disks import files_up_to

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


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder away")
@pytest.mark.parametrize(
    ("mode", "owner", "refused"), [(0o1777, 12345, True), (0o1777, 0, False), (0o755, 12345, False)]
)
def test_a_folder_that_another_user_made_where_anyone_can_is_refused(tmp_path, mode, owner, refused):
    scratches = tmp_path / "scratch"
    scratches.mkdir()
    os.chown(scratches, owner, -1)
    tmp_path.chmod(mode)
    expected = pytest.raises(SettingsError, match="belongs to another user") if refused else contextlib.nullcontext()
    with expected, scratch.alone(scratches / "run", lambda: None):
        pass
