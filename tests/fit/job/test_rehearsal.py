"""Rehearse a fit of 600,000 examples and 3,000,000 models, which pods share, at 1% of this size in both."""

import threading

import numpy as np
import pytest

from datamodels.fit import memory
from datamodels.fit.data import rows, scratch, sums
from datamodels.fit.job import fits
from datamodels.fit.job.job import FitJob, Share
from datamodels.fit.kernels import membership
from datamodels.fit.lasso import gram
from datamodels.fit.memory import Size
from datamodels.plan import fit as plan
from datamodels.plan.fit import Rates
from datamodels.run import designs, runs, specs
from datamodels.run.dataset import Dataset
from datamodels.run.designs import drawing
from datamodels.settings import FitterSettings
from datamodels.storage.local import LocalStore
from datamodels.testing import committed

D, M, N, PODS = 6000, 30_000, 4, 2
FULL = 600_000
MATTER = 100
"""Examples that have an effect on a target."""


@pytest.fixture
def scaled(monkeypatch):
    """Scale what limits a fit by its size down to this one, so that it goes the way of the full size."""
    for module, name, power in (
        (gram, "GRAM_BYTES", 2),
        (gram, "PANEL_BYTES", 2),
        (sums, "MOST_BYTES", 2),
        (memory, "CACHE_BYTES", 2),
        (rows, "MEASURED_BYTES", 1),
    ):
        monkeypatch.setattr(module, name, round(getattr(module, name) * (D / FULL) ** power))
    monkeypatch.setitem(rows.Rows.__init__.__kwdefaults__, "cache", memory.CACHE_BYTES)
    monkeypatch.setattr(drawing, "COMPILED_FROM", 0)


def planted():
    """Return columns int32[N, MATTER] and weights float32[N, MATTER], which have one size."""
    rng = np.random.default_rng(0)
    columns = np.stack([rng.choice(D, MATTER, replace=False) for _ in range(N)]).astype(np.int32)
    return columns, rng.choice([-0.2, 0.2], size=columns.shape).astype(np.float32)


def truth(masks):
    """Return float64[s, N]: outputs of packed masks, without noise."""
    columns, weights = planted()
    words = membership.words_of(masks, D)
    indptr = np.arange(N + 1) * MATTER
    return membership.sums(indptr, columns.ravel(), weights.ravel(), np.arange(N), words, len(masks))


def outputs_of(run, models):
    """The planted weights explain half of the variance."""
    found = truth(designs.subsets(run.design, models[0], models[-1] + 1))
    return (found + np.random.default_rng([1, models[0]]).normal(size=found.shape)).astype(np.float32)


def test_pods_stream_a_fit_that_is_too_large_for_a_gram(tmp_path, monkeypatch, scaled):
    document = {
        "name": "rehearsal",
        "dataset": {"load": "a:b"},
        "trainer": {"class": "a:B"},
        "evaluate": {"subsets": 0},
    }
    fit = {"estimator": "lasso", "solver": "gram", "lambdas": 10, "lambda_ratio": 0.1, "tolerance": 1e-2}
    spec = specs.parse(document | {"m": M, "chunk": M // 10, "sub_chunk": M // 10, "fit": fit})
    y = np.arange(D + N) % 2
    run = runs.resolve(spec, Dataset(np.zeros((D, 1)), y[:D], np.zeros((N, 1)), y[D:]))
    store, size = LocalStore(tmp_path / "store"), Size.of_run(run)
    runs.create(store, run)
    committed.commit(store, run, outputs=outputs_of)

    assert plan.rehearsed(size, spec.fit, "cpu").solver == "stream"
    given = {"threads": 1, "block": N // PODS}
    planned = plan.on_pods(size, spec.fit, Rates(10.0, 1.0), PODS, **given)
    assert (planned.pods, planned.seconds) == (PODS, 10 + N / PODS)
    monkeypatch.setattr(gram.shared_gram, "solve", None)  # a Gram would fail
    records = []
    for pod in range(PODS):
        folder = tmp_path / f"pod {pod}"
        how, job = FitterSettings(scratch=str(folder), device="cpu", **given), FitJob(store, run.name)
        share = Share(pod, PODS)
        records.append(job.solve(how, progress=lambda *_: None, stop=threading.Event(), share=share))
        assert planned.disk_bytes == pytest.approx(scratch.size(folder), rel=0.05)
    assert records[0] is None, "the blocks of the other pod are missing"

    found, columns = fits.load(store, records[-1]), planted()[0]
    assert found.status == ["ok"] * N and found.gap.max() <= spec.fit.tolerance
    theta = found.dense(range(N))
    for j in range(N):
        strongest = np.argsort(-abs(theta[j]))[: MATTER // 2]
        assert np.isin(strongest, columns[j]).all()
    unseen = designs.subsets(run.design, M, M + 200)
    predicted = designs.unpack(unseen, D) @ theta.T
    assert all(np.corrcoef(predicted[:, j], truth(unseen)[:, j])[0, 1] > 0.98 for j in range(N))
