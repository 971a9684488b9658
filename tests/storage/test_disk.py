import pytest

from datamodels.storage import disk


def test_only_a_folder_that_is_there_is_flushed(tmp_path):
    disk.flush(tmp_path)
    with pytest.raises(FileNotFoundError):
        disk.flush(tmp_path / "none")
