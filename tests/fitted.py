"""A store with a run that has fitted weights, made through the real commit path."""

import numpy as np

from datamodels.fit.data import problem
from datamodels.fit.job import fits
from datamodels.run import runs, specs
from datamodels.storage.local import LocalStore
from datamodels.train import Dataset

D, N = 60, 9


def make_run(name="try", targets="test", **fields):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(D + N, 3)).astype("f4"), np.arange(D + N) % 4
    data = Dataset(x[:D], y[:D], x[D:], y[D:], label_names=("a", "b", "c", "d"))
    base = {"name": name, "dataset": {"load": "a:b"}, "trainer": {"class": "a:B"}, "m": 100, "targets": targets}
    return runs.resolve(specs.parse(base | fields), data)


def make_theta(run, seed=0, density=0.3):
    rng = np.random.default_rng(seed)
    theta = rng.normal(size=(run.n, run.design.columns)) * (rng.random((run.n, run.design.columns)) < density)
    theta[1] = 0
    return theta.astype(np.float32)


def commit_fit(store, run, theta, digest="d0", rows=100, manifest_version=4):
    n = len(theta)
    solution = problem.of_dense(
        theta,
        status=[problem.OK] * n,
        lambda_=np.linspace(0.1, 0.2, n),
        gap=np.full(n, 1e-6),
        heldout_r2=np.full(n, 0.5),
        intercept=np.arange(n, dtype=float),
    )
    record = fits.FitRecord(
        run=run.name,
        number=0,
        digest=digest,
        manifest_version=manifest_version,
        spec_hash=run.spec.hash,
        solver="saga",
        settings={},
        rows=rows,
        columns=theta.shape[1],
        targets=n,
        blocks=(),
        seconds=1.0,
    )
    fits.write(store, run.name, digest, 0, solution)
    return fits.commit(store, record, [(0, n)])


def make_store(folder):
    """(store, run, theta) of one fitted run."""
    store, run = LocalStore(folder), make_run()
    theta = make_theta(run)
    runs.create(store, run)
    commit_fit(store, run, theta)
    return store, run, theta
