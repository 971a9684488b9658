"""Make runs with weights that the caller chooses, committed as the fitter commits them. Nothing is fitted."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from datamodels.fit.data import problem
from datamodels.fit.job import fits
from datamodels.fit.job.fits import FitRecord
from datamodels.run import runs, specs
from datamodels.run.dataset import Dataset
from datamodels.run.runs import Run
from datamodels.storage import ObjectStore
from datamodels.storage.local import LocalStore

D, N = 60, 9
"""Training examples and test examples, by default."""


def make_run(name: str = "try", targets: str = "test", *, d: int = D, n: int = N, **fields: Any) -> Run:
    """Make a run of d training examples and n test examples in 4 classes. `fields` are fields of its spec."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(d + n, 3)).astype("f4"), np.arange(d + n) % 4
    data = Dataset(x[:d], y[:d], x[d:], y[d:], label_names=("a", "b", "c", "d"))
    base = {"name": name, "dataset": {"load": "a:b"}, "trainer": {"class": "a:B"}, "m": 100, "targets": targets}
    return runs.resolve(specs.parse(base | fields), data)


def make_theta(run: Run, seed: int = 0, density: float = 0.3) -> np.ndarray:
    """Return float32[n, d]: random sparse weights. Target 1 has none."""
    rng = np.random.default_rng(seed)
    theta = rng.normal(size=(run.n, run.design.columns)) * (rng.random((run.n, run.design.columns)) < density)
    theta[1] = 0
    return theta.astype(np.float32)


def commit_fit(
    store: ObjectStore,
    run: Run,
    theta: np.ndarray,
    digest: str = "d0",
    rows: int = 100,
    manifest_version: int = 4,
    intercept: np.ndarray | None = None,
    settings: dict[str, Any] | None = None,
    choice: dict[str, Any] | None = None,
    measured: np.ndarray | None = None,
) -> FitRecord:
    """Commit weights as a finished fit of a run, and return its record.

    theta             float[n, d]
    digest            identifies the fit among those of the run
    rows              number of models that the record names
    manifest_version  version of the manifest that the record names
    intercept         float[n]; by default target j has intercept j
    settings          fields of the fit section that the fit is said to have
    choice            what the estimator is said to have chosen, as `Solution.choice`
    measured          float[n, d]; how much of the weights is said to be measured; None for weights without a prior
    """
    n = len(theta)
    solution = problem.of_dense(
        theta,
        status=[problem.OK] * n,
        lambda_=np.linspace(0.1, 0.2, n),
        gap=np.full(n, 1e-6),
        heldout_r2=np.full(n, 0.5),
        intercept=np.arange(n, dtype=float) if intercept is None else intercept,
        measured=measured,
    )
    record = fits.FitRecord(
        run=run.name,
        number=0,
        digest=digest,
        manifest_version=manifest_version,
        spec_hash=run.spec.hash,
        solver="saga",
        settings=settings or {},
        rows=rows,
        columns=theta.shape[1],
        targets=n,
        blocks=(),
        seconds=1.0,
    )
    fits.write(store, run.name, digest, 0, dataclasses.replace(solution, choice=choice))
    return fits.commit(store, record, [(0, n)])


def make_store(folder: str | Path) -> tuple[LocalStore, Run, np.ndarray]:
    """Make a store in a folder with one fitted run; return the store, the run and its weights."""
    store, run = LocalStore(folder), make_run()
    theta = make_theta(run)
    runs.create(store, run)
    commit_fit(store, run, theta)
    return store, run, theta
