import dataclasses
import threading

import numpy as np
import pytest

from datamodels.errors import SpecError, StageError
from datamodels.fit.data import examples
from datamodels.fit.data.sums import Kept
from datamodels.fit.job import fits
from datamodels.fit.job.job import FitJob
from datamodels.fit.residual.kept import BITS
from datamodels.outputs import LOSS, MARGIN
from datamodels.run import runs
from datamodels.settings import FitterSettings
from datamodels.storage.local import LocalStore
from datamodels.testing import committed

GRAM = {"solver": "gram", "lambdas": 6, "tolerance": 1e-6}


@pytest.fixture
def store(tmp_path):
    return LocalStore(tmp_path / "store")


def made(store, estimator="lasso", **fields):
    run = committed.make_run(fit=GRAM | {"estimator": estimator}, **fields)
    runs.create(store, run)
    examples.write(store, run, committed.make_dataset())
    return run


def solve(store, run, folder, **settings):
    settings = FitterSettings(scratch=str(folder), device="cpu", threads=1, **settings)
    record = FitJob(store, run.name).solve(settings, progress=lambda *progress: None, stop=threading.Event())
    return fits.load(store, record)


@pytest.mark.parametrize("estimator", ["lasso", "prior"])
def test_fits_as_models_arrive_end_as_one_from_scratch(store, tmp_path, estimator):
    run = made(store, estimator, m=300)
    for stop in (40, 130, 260):
        committed.commit(store, run, stop=stop, failed=(7, 33))
        solve(store, run, tmp_path / "scratch")
    committed.commit(store, run, failed=(7, 33))
    increments = solve(store, run, tmp_path / "scratch")
    other = LocalStore(tmp_path / "other")
    made(other, estimator, m=300)
    committed.commit(other, run, failed=(7, 33))
    scratch = solve(other, run, tmp_path / "elsewhere")
    assert fits.read_newest_fit(store, run.name).digest == fits.read_newest_fit(other, run.name).digest
    np.testing.assert_allclose(increments.lambda_, scratch.lambda_, rtol=1e-9)
    rounding = {"rtol": 2 / 2**BITS} if estimator == "prior" else {"atol": 1e-6}
    np.testing.assert_allclose(increments.dense(range(run.n)), scratch.dense(range(run.n)), **rounding)
    np.testing.assert_allclose(increments.intercept, scratch.intercept, **rounding)
    assert (tmp_path / "scratch" / run.name / "sums.npz").exists()


@pytest.mark.parametrize("estimator", ["lasso", "pooled", "prior"])
def test_a_refit_reads_only_new_models(store, tmp_path, estimator):
    """Neither from the store nor from the fitter's disk: there is nothing left to read of the others."""
    run = made(store, estimator, m=300)
    early = committed.commit(store, run, stop=260)
    solve(store, run, tmp_path / "scratch")
    whole = committed.commit(store, run)
    scratch = solve(store, run, tmp_path / "elsewhere")
    for name in store.list(f"fit/{run.name}/"):
        store.delete(name)
    for part in early.parts:
        store.delete(part.key)
    rows = sum(part.rows for part in early.parts)
    for name, bytes_of_row in (("masks.bin", run.design.mask_bytes), ("outputs.bin", 4 * run.n)):
        file = tmp_path / "scratch" / run.name / "shards" / name
        assert file.stat().st_size == rows * bytes_of_row
        file.write_bytes(b"\xff" * file.stat().st_size)  # outputs that are NaN
    found = solve(store, run, tmp_path / "scratch")
    assert whole.rows > rows and found.status == ["ok"] * run.n
    assert (estimator == "prior") == ("prior alone" in (found.choice or {}).get("errors", ()))
    np.testing.assert_allclose(found.dense(range(run.n)), scratch.dense(range(run.n)), atol=1e-5)


def test_a_refit_that_reads_rows_repairs_them(store, tmp_path):
    run = made(store, "ridge", m=300)
    committed.commit(store, run, stop=260)
    solve(store, run, tmp_path / "scratch")
    committed.commit(store, run)
    file = tmp_path / "scratch" / run.name / "shards" / "outputs.bin"
    file.write_bytes(b"\xff" * file.stat().st_size)
    found, scratch = (solve(store, run, tmp_path / folder) for folder in ("scratch", "elsewhere"))
    assert np.array_equal(found.weights, scratch.weights)


def test_shares_are_fitted_again_if_another_threshold_is_declared(store, tmp_path):
    run = made(store)
    committed.commit(store, run)

    def digest(estimator):
        return FitJob(store, run.name, {"estimator": estimator}).digest

    shares, weights = digest("influence"), digest("ridge")
    for output, same in ((MARGIN, True), (MARGIN.judged(0.5), False)):
        runs.create(store, dataclasses.replace(run, declared=output))
        assert (digest("influence") == shares) == same and digest("ridge") == weights
    runs.create(store, dataclasses.replace(run, declared=LOSS))
    with pytest.raises(SpecError, match=r"counts models that are right; the output 'loss' has no threshold"):
        digest("influence")


def test_kept_sums_are_used_and_damaged_ones_are_not(store, tmp_path):
    """Sums that are wrong on purpose show that they are used; the same, torn, that they are not."""
    run = made(store)
    parts = committed.commit(store, run, stop=100).parts
    solve(store, run, tmp_path / "scratch")
    home = tmp_path / "scratch" / run.name
    kept = Kept(home, run.name, run.spec.fit.holdout)
    sums = kept.load([(part.key, part.sha256) for part in parts])
    sums.fit.products[0] *= -1
    kept.save(sums)
    committed.commit(store, run)
    truth = committed.truth(run)
    for damaged in (False, True):
        if damaged:
            file = home / "sums.npz"
            file.write_bytes(file.read_bytes()[:-100])
            for name in store.list(f"fit/{run.name}/"):
                store.delete(name)
        found = solve(store, run, tmp_path / "scratch").dense([0])[0]
        assert (np.abs(found - truth[:, 0]).max() < 0.2) == damaged


def test_a_fit_that_is_stopped_while_it_adds_up_keeps_what_was_kept(store, tmp_path):
    run = made(store)
    committed.commit(store, run)
    stop = threading.Event()
    settings = FitterSettings(scratch=str(tmp_path / "scratch"), device="cpu", threads=1)

    def progress(fraction, done, stage, remaining):
        stop.set()

    with pytest.raises(StageError):
        FitJob(store, run.name).solve(settings, progress=progress, stop=stop)
    assert solve(store, run, tmp_path / "scratch").status == ["ok"] * run.n


def test_what_is_kept_of_all_runs_stays_within_its_bound(store, tmp_path):
    scratch = tmp_path / "scratch"
    first, second, third = (made(store, name=name) for name in ("first", "second", "third"))
    for run in (first, second, third):
        committed.commit(store, run)
    solve(store, first, scratch)
    size = sum(path.stat().st_size for path in scratch.rglob("*") if path.is_file())
    solve(store, second, scratch, keep_bytes=int(2.5 * size))
    assert {path.name for path in scratch.iterdir() if path.is_dir()} == {first.name, second.name}
    solve(store, third, scratch, keep_bytes=int(2.5 * size))
    assert {path.name for path in scratch.iterdir() if path.is_dir()} == {second.name, third.name}
    committed.commit(store, third, stop=150)
    solve(store, third, scratch, keep_bytes=0)
    assert not [path for path in scratch.iterdir() if path.is_dir()]
