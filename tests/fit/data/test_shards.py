import contextlib
import dataclasses
import itertools
import os
import subprocess

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodels.aggregate import manifest
from datamodels.errors import CorruptObjectError, NotReadyError, SettingsError, StoreFullError, StoreUnavailableError
from datamodels.fit.data import shards
from datamodels.run import designs, runs
from datamodels.storage.local import LocalStore
from datamodels.testing import committed
from tests.helpers.disks import files_up_to

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
    assert found.outputs.dtype == np.float32
    assert np.array_equal(found.outputs, committed.outputs_of(run, expected))
    assert np.array_equal(found.masks, np.concatenate([designs.subsets(run.design, i, i + 1) for i in expected]))


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
    # A SIGKILL would have left some files.
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "outputs.bin").write_bytes(b"half")
    found = shards.materialise(store, run, snapshot, tmp_path / "shards")
    assert len(found.outputs) == 197
    assert np.array_equal(found.outputs, committed.outputs_of(run, found.model_index.tolist()))


def in_steps(folder, steps, **fields):
    """(store, run, snapshots) of models that arrive in steps; the parts that are missing in between come later."""
    store, run = LocalStore(folder / "store"), committed.make_run(**fields)
    runs.create(store, run)
    parts = committed.commit(store, run, failed=FAILED).parts
    return store, run, [manifest.Snapshot(run.name, i, tuple(parts[j] for j in step)) for i, step in enumerate(steps)]


def test_new_parts_alone_are_read_in_whatever_order_they_come(tmp_path):
    store, run, snapshots = in_steps(tmp_path, [range(2, 5), [0, *range(2, 5), 9], range(15)])
    for snapshot in snapshots:
        found = shards.materialise(store, run, snapshot, tmp_path / "shards")
        expected = [i for part in snapshot.parts for i in part.models if i not in FAILED]
        assert sorted(found.model_index) == expected
        assert np.array_equal(found.outputs, committed.outputs_of(run, found.model_index.tolist()))
        assert np.array_equal(found.masks, [designs.subsets(run.design, i, i + 1)[0] for i in found.model_index])
        assert found.failed == sum(len(part.failed) for part in snapshot.parts)
        for part in snapshot.parts:  # what was read is not read again
            store.delete(part.key)
    assert found.model_index[:28].tolist() == list(range(20, 48))


def test_a_killed_addition_leaves_what_there_was(tmp_path):
    store, run, (first, second) = in_steps(tmp_path, [range(3), range(9)])
    shards.materialise(store, run, first, tmp_path / "shards")
    kept = {path.name: path.read_bytes() for path in (tmp_path / "shards").iterdir()}

    def kill(fraction):
        if fraction > 0.5:
            raise Killed

    with pytest.raises(Killed):
        shards.materialise(store, run, second, tmp_path / "shards", progress=kill)
    assert {path.name: path.read_bytes() for path in (tmp_path / "shards").iterdir()} == kept
    # A SIGKILL would have left rows that do not count.
    with open(tmp_path / "shards" / "outputs.bin", "ab") as file:
        file.write(b"half a row")
    found = shards.materialise(store, run, second, tmp_path / "shards")
    assert np.array_equal(found.outputs, committed.outputs_of(run, found.model_index.tolist()))


def test_shards_of_a_part_that_is_gone_or_changed_are_made_again(tmp_path):
    store, run, (whole, less) = in_steps(tmp_path, [range(9), [0, *range(2, 9)]])
    shards.materialise(store, run, whole, tmp_path / "shards")
    assert 10 not in shards.materialise(store, run, less, tmp_path / "shards").model_index
    other = dataclasses.replace(whole.parts[0], sha256="0" * 64)
    with pytest.raises(CorruptObjectError, match=other.key):
        changed = dataclasses.replace(whole, parts=(other, *whole.parts[1:]))
        shards.materialise(store, run, changed, tmp_path / "shards")


@pytest.mark.parametrize("damage", ["foreign", "torn", "short", "gone", "nonsense", "altered"])
def test_shards_that_are_foreign_or_torn_are_made_again(tmp_path, damage):
    store, run, (snapshot,) = in_steps(tmp_path, [range(9)])
    folder = tmp_path / "shards"
    shards.materialise(store, run, snapshot, folder)
    shape = folder / "shards.json"
    if damage == "foreign":
        shape.write_text(shape.read_text().replace(run.name, "other-000000000000"))
    elif damage == "torn":
        shape.write_text(shape.read_text()[:40])
    elif damage == "short":
        (folder / "masks.bin").write_bytes(b"short")
    elif damage == "gone":
        (folder / "outputs.bin").unlink()
    elif damage == "altered":
        shape.write_text(shape.read_text().replace('"failed":1', '"failed":0'))
    else:
        shape.write_text("[1, 2]")
    found = shards.materialise(store, run, snapshot, folder)
    assert np.array_equal(found.outputs, committed.outputs_of(run, found.model_index.tolist()))
    assert len(found.masks) == 87


class Counted(LocalStore):
    """Lists the keys that are read."""

    def __init__(self, folder):
        super().__init__(folder)
        self.keys = []

    def read(self, key):
        self.keys.append(key)
        return super().read(key)


@contextlib.contextmanager
def altered(path, place, flip):
    """Flip bits of a byte of a file while the body runs."""
    data = bytearray(path.read_bytes())
    data[place] ^= flip
    with open(path, "r+b") as file:  # in place, as a disk alters it
        file.write(data)
    try:
        yield
    finally:
        data[place] ^= flip
        assert path.read_bytes() == data, "the rows were not repaired"


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """(store, run, snapshot, folder) with all shards in the folder."""
    folder = tmp_path_factory.mktemp("kept")
    store, run, (snapshot,) = in_steps(folder, [range(12)])
    store = Counted(folder / "store")
    shards.materialise(store, run, snapshot, folder / "shards")
    return store, run, snapshot, folder / "shards"


@given(draw=st.data(), name=st.sampled_from(["masks.bin", "outputs.bin", "models.bin"]), bit=st.integers(0, 7))
def test_a_flipped_bit_is_found_and_its_part_alone_is_read_again(kept, draw, name, bit):
    store, run, snapshot, folder = kept
    place = draw.draw(st.integers(0, os.path.getsize(folder / name) - 1))
    before = shards.DAMAGED._value.get()
    store.keys.clear()
    with altered(folder / name, place, 1 << bit):
        found = shards.materialise(store, run, snapshot, folder)
        assert np.array_equal(found.outputs, committed.outputs_of(run, found.model_index.tolist()))
        assert np.array_equal(found.masks, [designs.subsets(run.design, i, i + 1)[0] for i in found.model_index])
    row = place * len(found.masks) // os.path.getsize(folder / name)
    assert store.keys == [part.key for part in snapshot.parts if found.model_index[row] in part.models]
    assert shards.DAMAGED._value.get() == before + 1


def test_damage_that_the_store_cannot_make_good_is_no_fit(kept):
    store, run, snapshot, folder = kept
    part, data = snapshot.parts[0], store.read(snapshot.parts[0].key)
    with altered(folder / "outputs.bin", 5, 1):
        store.delete(part.key)
        with pytest.raises(CorruptObjectError, match=part.key):
            shards.materialise(store, run, snapshot, folder)
        store.create(part.key, data)
        shards.materialise(store, run, snapshot, folder)


def test_a_disk_that_keeps_altering_rows_is_named(kept, monkeypatch):
    store, run, snapshot, folder = kept
    write = os.pwrite

    def alters(file, data, place):
        return write(file, bytes([data[0] ^ 1]) + bytes(data[1:]), place)

    with altered(folder / "outputs.bin", 5, 1):
        with (
            monkeypatch.context() as patched,
            pytest.raises(StoreUnavailableError, match="other bytes than were written"),
        ):
            patched.setattr(os, "pwrite", alters)
            shards.materialise(store, run, snapshot, folder)
        shards.materialise(store, run, snapshot, folder)


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


def test_a_disk_without_room(made, tmp_path):
    """The file-size limit of a process stands in for a full disk: the write fails half-way likewise."""
    store, run, snapshot = made
    with files_up_to(1000), pytest.raises(StoreFullError, match="free some space") as raised:
        shards.materialise(store, run, snapshot, tmp_path / "shards")
    assert str(tmp_path / "shards") in str(raised.value)
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


@given(cuts=st.sets(st.integers(0, 60), max_size=20), seed=st.integers(0, 1000))
def test_rows_of_some_parts_are_those_of_their_models(cuts, seed):
    rng, ends = np.random.default_rng(seed), sorted(cuts)
    spans = [span for span in itertools.pairwise(ends) if rng.random() < 0.6]
    parts = [manifest.Part(f"{a}-{b}", a, b, b - a, (), "", 1) for a, b in spans]
    models = rng.permutation(60).astype(np.int32)
    expected = [any(model in part.models for part in parts) for model in models.tolist()]
    assert shards.rows_of(parts, models).tolist() == expected
