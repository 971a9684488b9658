import pytest

from datamodels.storage import disk


def test_flush_needs_an_existing_folder(tmp_path):
    disk.flush(tmp_path)
    with pytest.raises(FileNotFoundError):
        disk.flush(tmp_path / "none")
