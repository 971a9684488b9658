import subprocess
import sys

import numpy as np
import pytest

from datamodels import run as runs
from datamodels import sample, shards
from datamodels.aggregate import manifest
from datamodels.errors import CorruptObjectError, NotReadyError, SettingsError, StoreFullError
from datamodels.storage.local import LocalStore
from tests import committed

FAILED = (0, 17, 18, 203)


@pytest.fixture
def made(tmp_path):
    """(store, run, snapshot): models 0 to 199 are for the fit, 200 to 205 for evaluation."""
    store, run = LocalStore(tmp_path / "store"), committed.make_run()
    runs.create(store, run)
    return store, run, committed.commit(store, run, failed=FAILED)


def test_rows_are_the_models_of_the_fit_that_have_outputs(made, tmp_path):
    store, run, snapshot = made
    found = shards.materialise(store, run, snapshot, tmp_path / "shards")
    expected = [model for model in range(200) if model not in FAILED]
    assert found.model_index.tolist() == expected
    assert found.failed == 3
    assert found.outputs.dtype == np.float16
    assert np.array_equal(found.outputs, committed.outputs_of(run, expected))
    assert np.array_equal(found.masks, np.concatenate([sample.subsets(run.design, i, i + 1) for i in expected]))


def test_shards_that_are_there_are_used_without_the_store(made, tmp_path):
    store, run, snapshot = made
    first = shards.materialise(store, run, snapshot, tmp_path / "shards")
    for part in snapshot.parts:
        store.delete(part.key)
    again = shards.materialise(store, run, snapshot, tmp_path / "shards")
    assert np.array_equal(again.outputs, first.outputs) and np.array_equal(again.masks, first.masks)
    assert again.failed == first.failed


class Killed(BaseException):
    pass


def test_half_made_shards_are_never_used(made, tmp_path):
    store, run, snapshot = made

    def kill(fraction):
        raise Killed

    with pytest.raises(Killed):
        shards.materialise(store, run, snapshot, tmp_path / "shards", progress=kill)
    assert not (tmp_path / "shards").exists()
    # A SIGKILL would have left the folder under its other name.
    (tmp_path / "shards.part").mkdir()
    (tmp_path / "shards.part" / "outputs.f2").write_bytes(b"half")
    found = shards.materialise(store, run, snapshot, tmp_path / "shards")
    assert len(found.outputs) == 197
    assert [path.name for path in tmp_path.glob("shards*")] == ["shards"]


def test_a_part_that_is_not_what_was_committed_is_named(made, tmp_path):
    store, run, snapshot = made
    part = snapshot.parts[3]
    data = bytearray(store.read(part.key))
    data[100] ^= 1
    store.delete(part.key)
    store.create(part.key, bytes(data))
    with pytest.raises(CorruptObjectError, match=part.key):
        shards.materialise(store, run, snapshot, tmp_path / "shards")
    store.delete(part.key)
    with pytest.raises(CorruptObjectError, match=part.key):
        shards.materialise(store, run, snapshot, tmp_path / "shards")


def test_no_model_to_fit(tmp_path):
    store, run = LocalStore(tmp_path / "store"), committed.make_run()
    runs.create(store, run)
    for snapshot in (manifest.read_newest(store, run.name), committed.commit(store, run, stop=10, failed=range(10))):
        with pytest.raises(NotReadyError, match="0 to 199"):
            shards.materialise(store, run, snapshot, tmp_path / "shards")


def test_outputs_of_another_number_of_targets(made, tmp_path):
    store, run, snapshot = made
    other = committed.make_run(targets="both")
    with pytest.raises(CorruptObjectError, match="on 5 targets"):
        shards.materialise(store, runs.Run(run.spec, run.design, other.own), snapshot, tmp_path / "shards")


LIMITED = """
import resource, sys
from datamodels import run as runs, shards
from datamodels.aggregate import manifest
from datamodels.errors import StoreFullError
from datamodels.storage.local import LocalStore
store = LocalStore(sys.argv[1])
run = runs.read(store, sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, resource.RLIM_INFINITY))
try:
    shards.materialise(store, run, manifest.read_newest(store, run.name), __import__("pathlib").Path(sys.argv[3]))
except StoreFullError as error:
    print(error)
"""


def test_a_disk_without_room(made, tmp_path):
    """The file-size limit of a process stands in for a full disk: the write fails half-way likewise."""
    _, run, _ = made
    arguments = [str(tmp_path / "store"), run.name, str(tmp_path / "shards")]
    done = subprocess.run([sys.executable, "-c", LIMITED, *arguments], capture_output=True, text=True, check=True)
    assert "free some space" in done.stdout and str(tmp_path / "shards") in done.stdout
    assert not list(tmp_path.glob("shards*"))


def test_a_full_disk(made, tmp_path):
    store, run, snapshot = made
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", disk], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"mounting a small tmpfs needs root: {mounted.stderr.strip()}")
    try:
        with pytest.raises(StoreFullError, match="No space left on device"):
            shards.materialise(store, run, snapshot, disk / "shards")
        assert not list(disk.iterdir())
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_scratch_folder_that_is_a_file(made, tmp_path):
    store, run, snapshot = made
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="DATAMODELS_FITTER_SCRATCH"):
        shards.materialise(store, run, snapshot, tmp_path / "file" / "shards")
