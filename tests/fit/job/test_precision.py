"""Units do not matter: outputs in other units, about another mean, give the same fit and the same quality."""

import functools
import threading

import numpy as np
import pytest

from datamodels.analyze.quality import noise
from datamodels.analyze.quality.unseen import Unseen
from datamodels.fit.job import fits
from datamodels.fit.job.job import FitJob
from datamodels.run import runs
from datamodels.settings import FitterSettings
from datamodels.storage.local import LocalStore
from datamodels.testing import committed

FITS = {
    "gram": {"solver": "gram"},
    "saga": {"solver": "saga"},
    "fista": {"solver": "stream"},
    "ridge": {"estimator": "ridge"},
    "difference": {"estimator": "difference"},
}


def measured(folder, scale, mean, **fields):
    """(weights, LDS, R^2 of means, misfit) of a run with these outputs times `scale` plus `mean`, in its units."""
    store, run = LocalStore(folder / "store"), committed.make_run(evaluate={"subsets": 20, "models": 3}, **fields)
    runs.create(store, run)
    snapshot = committed.commit(
        store, run, outputs=lambda run, models: exact(run, models) * scale + mean * np.ones(run.n)
    )
    settings = FitterSettings(scratch=str(folder / "scratch"), device="cpu", threads=1)
    record = FitJob(store, run.name).solve(settings, progress=lambda *told: None, stop=threading.Event())
    solution = fits.load(store, record)
    quality = Unseen.read(run, snapshot, store).predicted_by(solution).quality(resamples=20)
    assert set(solution.status) == {"ok"}
    misfit = noise.measure(run, snapshot, store, solution).misfit
    return solution.dense(range(run.n)) / scale, quality.evaluation.lds, quality.mean.r2, misfit


def exact(run, models):
    return committed.outputs_of(run, models).astype(np.float64)


def given(name):
    """Fields of the run. Some targets are training examples, which the solver `gram` fits by another method."""
    return {"fit": FITS[name] | {"lambdas": 6}, "targets": "both" if name == "gram" else "test"}


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """What `measured` returns for outputs as they are, by the name of the fit."""
    return functools.cache(lambda name: measured(tmp_path_factory.mktemp(name), 1, 0, **given(name)))


@pytest.mark.parametrize(
    ("name", "scale", "mean"),
    [("gram", 0.1, 1000), ("gram", 1e-8, 0), ("gram", 1, 30_000), *((name, 1e-8, -1e-4) for name in FITS)],
)
def test_scale_and_mean_of_outputs_change_nothing(plain, tmp_path, name, scale, mean):
    weights, lds, r2, misfit = plain(name)
    moved = measured(tmp_path, scale, mean, **given(name))
    size = np.abs(weights).max()
    assert lds > 0.85
    np.testing.assert_allclose(moved[0] / size, weights / size, atol=5e-3)
    assert moved[1:3] == pytest.approx((lds, r2), abs=2e-3)
    np.testing.assert_allclose(moved[3], misfit, atol=5e-3)
