import tempfile
import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from datamodels.errors import SettingsError
from datamodels.fit import memory
from datamodels.fit.estimators.base import sums_of
from datamodels.fit.job.job import FitJob
from datamodels.fit.lasso import gram
from datamodels.fit.memory import Size
from datamodels.fit.solve import fit
from datamodels.plan.fit import made_up
from datamodels.run import runs
from datamodels.run.estimators import SOLVERS
from datamodels.run.specs import FitSpec
from datamodels.settings import FitterSettings
from datamodels.storage.local import LocalStore
from datamodels.testing import committed
from tests.fit.conftest import with_small_models

PANELS = FitSpec(estimator="lasso", lambdas=2, lambda_ratio=0.8)
"""Few columns get a weight, and the fit takes a tenth of the time: its arrays are as large."""


@pytest.fixture(scope="module", autouse=True)
def compiled():
    """Memory that numba takes to compile, and what is made once for a process, are not the fit's."""
    ways = [FitSpec(solver=solver, lambdas=2, tolerance=1e-3) for solver in SOLVERS]
    ways += [FitSpec(lambdas=2, tolerance=3e-6), *(FitSpec(estimator=name, lambdas=2) for name in ("pooled", "prior"))]
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        with_small_models(patch)
        for leave_out in (0, 2):
            for settings in ways:
                fit(made_up(Size(300, 30, 2, leave_out), 30, 2, settings), settings, 0)
        patch.setattr(gram, "GRAM_BYTES", 0)
        fit(made_up(Size(300, 30, 2), 30, 2, PANELS), PANELS, 0, checkpoint=Path(folder))


@pytest.mark.parametrize(
    "solver, m, d, n, own, threads, tolerance",
    [
        ("gram", 1800, 300, 256, 0, 1, 1e-3),
        ("gram", 900, 600, 64, 0, 1, 1e-3),
        ("gram", 1800, 300, 512, 0, 2, 1e-3),
        ("gram", 1800, 300, 300, 0, 1, 3e-6),
        ("gram", 1200, 200, 128, 64, 1, 1e-3),
        ("gram", 1200, 200, 256, 256, 1, 1e-3),
        ("stream", 600, 200, 128, 0, 1, 1e-3),
        ("stream", 12_000, 40, 64, 0, 1, 1e-3),
        ("stream", 600, 1200, 64, 0, 1, 1e-3),
        ("stream", 1500, 100, 128, 128, 1, 1e-3),
        ("saga", 1500, 100, 128, 0, 1, 1e-3),
        ("saga", 1500, 100, 128, 128, 1, 1e-3),
    ],
)
def test_memory_is_what_the_arrays_then_take(tmp_path, solver, m, d, n, own, threads, tolerance):
    settings = FitSpec(solver=solver, lambdas=2, tolerance=tolerance)
    planned, taken = planned_and_taken(Size(m, d, n, own), settings, threads, tmp_path)
    assert planned == pytest.approx(taken, rel=0.25)


@pytest.mark.parametrize("m, d, n, own", [(600, 400, 128, 0), (1500, 150, 150, 0), (400, 100, 32, 32)])
def test_memory_of_a_choice_is_not_more_than_was_planned(tmp_path, m, d, n, own):
    """It depends on labels and on what is chosen, so the plan is an upper bound."""
    for estimator in ("pooled", "prior"):
        planned, taken = planned_and_taken(Size(m, d, n, own), FitSpec(estimator=estimator, lambdas=2), 1, tmp_path)
        assert taken < planned < 3 * taken


def planned_and_taken(size, settings, threads, folder) -> tuple[float, float]:
    """Bytes that a fit of made-up outputs is planned to take, and takes."""
    problem = made_up(size, size.columns, size.targets, settings)
    tracemalloc.start()
    try:
        known = sums_of(problem, settings)
        folder = folder if settings.solver == "saga" or gram.GRAM_BYTES == 0 else None
        fit(problem, settings, 0, threads=threads, sums=known, checkpoint=folder)
        taken = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    return memory.memory(size, settings, threads=threads).peak / memory.HEAP, taken


def test_memory_of_a_gram_that_is_too_large_is_that_of_streaming():
    size, settings = Size(60_000, 80_000, 500), FitSpec(estimator="lasso", solver="gram")
    assert gram.panel_bytes_of(80_000) > gram.PANEL_BYTES
    found = memory.memory(size, settings, threads=2)
    assert found == memory.memory(size, settings.model_copy(update={"solver": "stream"}), threads=2)
    assert (found.rows, found.gram) == (0, 0), "too large to keep as floats"
    assert found.disk == 60_000 * (10_000 + 2_000)


def test_memory_of_a_gram_in_panels_does_not_count_its_file(tmp_path, monkeypatch):
    size = Size(3000, 2500, 128)
    on_disk = memory.memory(size, PANELS).disk
    monkeypatch.setattr(gram, "GRAM_BYTES", 0)
    assert memory.memory(size, PANELS).disk - on_disk == 4 * size.columns**2
    planned, taken = planned_and_taken(size, PANELS, 1, tmp_path)  # with two threads, it depends on whether they meet
    assert planned == pytest.approx(taken, rel=0.25)


def test_what_a_fit_does_not_try_is_known_beforehand():
    prior, wide = FitSpec(), Size(30_000, 50_000, 10)
    assert memory.untried(wide, prior, "cpu") == "30,000 models on 50,000 columns"
    assert memory.untried(Size(300, 200, 10, leave_out=1), prior, "cpu") == "targets are training examples"
    assert not memory.untried(Size(20_000, 50_000, 10), prior, "cpu")
    assert not memory.untried(wide, FitSpec(estimator="lasso"), "cpu")


def test_the_size_of_a_problem_and_of_its_run(make_run):
    run = make_run(d=30, own=[4, -1, 7], m=200)
    assert Size.of_run(run) == Size(200, 30, 3, leave_out=2, alpha=0.5)
    problem = made_up(Size(200, 30, 4, leave_out=2), 30, 4, FitSpec(estimator="lasso"))
    assert Size.of(problem) == Size(200, 30, 4, leave_out=2, alpha=0.5)


MANY = Size(rows=300_000, columns=10_000, targets=10_000)


def test_a_fit_that_there_is_no_memory_for_is_refused_with_what_to_do():
    settings = FitSpec(solver="gram")
    plenty = FitterSettings(device="cpu", threads=8, memory=1000)
    memory.check(MANY, settings, plenty, held=0)
    whole, one = (memory.memory(MANY, settings, threads=t).peak / memory.GIB for t in (8, 1))
    tight = FitterSettings(device="cpu", threads=8, memory=(whole + one) / 2)
    with pytest.raises(SettingsError, match=r"DATAMODELS_FITTER_THREADS=1, with which it takes") as raised:
        memory.check(MANY, settings, tight, held=0)
    assert "\n" not in str(raised.value) and f"takes {whole:.1f} GiB" in str(raised.value)
    small = memory.memory(MANY, settings, threads=1, block=memory.SMALL_BLOCK).peak / memory.GIB
    with pytest.raises(SettingsError, match=r"THREADS=1 and DATAMODELS_FITTER_BLOCK=32, with which"):
        memory.check(MANY, settings, FitterSettings(device="cpu", threads=8, memory=(small + one) / 2), held=0)
    with pytest.raises(SettingsError, match=r"a machine with more, or set DATAMODELS_FITTER_MEMORY"):
        memory.check(MANY, settings, FitterSettings(device="cpu", threads=8, memory=small / 2), held=0)
    with pytest.raises(SettingsError):
        memory.check(MANY, settings, FitterSettings(device="cpu", threads=8, memory=whole + 1), held=2 * memory.GIB)


def test_the_memory_of_this_process_is_known():
    before, array = memory.held_memory(), np.ones(2**23)
    assert memory.held_memory() >= before + 0.9 * array.nbytes


def test_the_fit_of_a_run_is_refused_before_it_starts(tmp_path):
    run = committed.make_run()
    store = LocalStore(tmp_path / "store")
    runs.create(store, run)
    committed.commit(store, run)
    tight = FitterSettings(scratch=str(tmp_path / "scratch"), device="cpu", memory=0.001)
    with pytest.raises(SettingsError, match=r"a fit of 200 models on 30 columns takes .* DATAMODELS_FITTER_MEMORY"):
        FitJob(store, run.name).solve(tight, progress=lambda *_: None, stop=threading.Event())
    assert not any((tmp_path / "scratch").glob("*/*")), "nothing was begun"


def test_a_fit_that_there_is_no_disk_for_is_refused_with_what_to_do(tmp_path):
    settings, how = FitSpec(estimator="lasso"), FitterSettings(device="cpu", scratch=str(tmp_path))
    memory.check_disk(Size(6000, 1000, 100), settings, how, tmp_path / "run")
    huge = Size(3_000_000, 600_000, 650_000)
    written = memory.memory(huge, settings).disk / memory.GIB
    with pytest.raises(SettingsError, match=r"set DATAMODELS_FITTER_SCRATCH .* in groups \(design: ") as raised:
        memory.check_disk(huge, settings, how, tmp_path / "run")
    assert f"writes {written:,.1f} GiB to {tmp_path}" in str(raised.value)
