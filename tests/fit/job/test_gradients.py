"""Scores by gradients in the store: committed once, checked, and a part of what a fit is made from."""

import dataclasses

import numpy as np
import pytest

from datamodels.errors import CorruptObjectError, NotReadyError
from datamodels.fit.data.problem import FOLDS
from datamodels.fit.job import gradients
from datamodels.fit.job.job import FitJob
from datamodels.run import runs
from datamodels.storage.local import LocalStore
from datamodels.testing import committed

MODELS = 20


@pytest.fixture
def store(tmp_path):
    return LocalStore(str(tmp_path / "store"))


def run_of(**fit):
    return committed.make_run(m=60, fit={"estimator": "prior"} | fit)


@pytest.fixture
def scores():
    found = np.random.default_rng(0).normal(size=(FOLDS, committed.N, committed.D)).astype(np.float32)
    found[:, 1] *= 1e-6
    found[2, 3] = np.nan
    return found


def test_they_come_back_in_blocks_and_nearly_exact(store, scores, tmp_path, monkeypatch):
    monkeypatch.setattr(gradients, "BLOCK_BYTES", 2 * FOLDS * committed.D * 2)
    written = gradients.write(store, run_of(), MODELS, scores, 1.5)
    found = gradients.find(store, run_of())
    assert found == written and [block.last for block in found.blocks] == [2, 4, 5]
    assert gradients.verify(store, found) == committed.N
    back = gradients.materialise(store, found, tmp_path / "here")
    expected = np.nanmean(scores, axis=0)
    # Small scores of one target keep three digits beside large ones of another.
    error = np.abs(back.of(np.arange(committed.N)) - expected).max(axis=1)
    assert (error <= 1e-3 * np.abs(expected).max(axis=1)).all()


def test_the_first_that_commits_wins(store, scores):
    first = gradients.write(store, run_of(), MODELS, scores, 1.0)
    assert gradients.write(store, run_of(), MODELS, 2 * scores, 1.0) == first
    assert gradients.write(store, run_of(), 10, 2 * scores, 1.0).digest != first.digest


def test_only_fits_that_ask_for_them_have_them(store, scores):
    gradients.write(store, run_of(), MODELS, scores, 1.0)
    assert gradients.find(store, run_of()) is not None
    assert gradients.find(store, run_of(gradients=0)) is None
    assert gradients.find(store, run_of(estimator="lasso")) is None
    assert gradients.find(LocalStore(f"{store.url.removeprefix('file://')}-other"), run_of()) is None
    with pytest.raises(NotReadyError, match=r"fit.gradients = 10: .* --fit gradients=10` computes them, on a machine"):
        gradients.find(store, run_of(gradients=10))


def test_a_fit_is_made_from_them(store, scores):
    run = run_of()
    runs.create(store, run)
    committed.commit(store, run)
    before, plain = FitJob(store, run.name).digest, FitJob(store, run.name, {"estimator": "ridge"}).digest
    gradients.write(store, run, MODELS, scores, 1.0)
    assert FitJob(store, run.name).digest != before
    assert FitJob(store, run.name, {"estimator": "ridge"}).digest == plain
    without = run.spec.fit.model_copy(update={"gradients": 0}).model_dump(mode="json")
    assert FitJob(store, run.name, without).finished() is None


@pytest.mark.parametrize("damage", ["flipped", "gone", "record", "another size"])
def test_damage_is_found_and_named(store, scores, tmp_path, damage):
    run = run_of()
    written = gradients.write(store, run, MODELS, scores, 1.0)
    block, root = written.blocks[0], tmp_path / "store"
    path = root / block.key
    if damage == "flipped":
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
        match = f"{block.key}: sha256 is "
    elif damage == "gone":
        path.unlink()
        match = "belongs to committed scores and is gone"
    elif damage == "record":
        record = next((root / "runs" / run.name / "gradients").glob("*.json"))
        record.write_text(record.read_text().replace("1.0", "2.0"))
        match = "sha256 is"
    else:
        run = dataclasses.replace(run, own=run.own[:-1])
        match = "its sizes are not those of the run"
    with pytest.raises(CorruptObjectError, match=match):
        gradients.materialise(store, gradients.find(store, run), tmp_path / "here")
