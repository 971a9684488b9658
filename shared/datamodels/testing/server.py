"""Run the query service inside this process, on a free port, for tests of its clients."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np

from datamodels.query.weights import WeightStore
from datamodels.rpc.serve import Server
from datamodels.run import runs
from datamodels.services.query.service import service  # type: ignore[import-not-found]  # `services` in the clone
from datamodels.settings import ServeSettings
from datamodels.storage import ObjectStore
from datamodels.storage.local import LocalStore
from datamodels.testing import fitted


@dataclasses.dataclass(frozen=True)
class Served:
    """A query service and what it serves.

    address  host:port
    run      name of the run
    store    where the run is
    """

    address: str
    run: str
    store: ObjectStore


@contextlib.contextmanager
def query_server(theta: np.ndarray, intercept: np.ndarray | None = None, **fields: Any) -> Iterator[Served]:
    """Serve weights as those of a run with n test examples as targets and d training examples as columns.

    theta      float[n, d]
    intercept  float[n]; by default 0
    fields     fields of the run's spec, for instance `name`

    The store is a temporary folder. The service is the real one: only the training and the fit are left out.
    """
    n, d = theta.shape
    with tempfile.TemporaryDirectory(prefix="datamodels-") as folder:
        store, run = LocalStore(folder), fitted.make_run(d=d, n=n, **fields)
        runs.create(store, run)
        fitted.commit_fit(store, run, theta, intercept=np.zeros(n) if intercept is None else intercept)
        with serve(store) as address:
            yield Served(address, run.name, store)


@contextlib.contextmanager
def serve(store: ObjectStore) -> Iterator[str]:
    """Serve the fits of all runs of a store; the value is the address, host:port."""
    with Server(ServeSettings(), [service(WeightStore(store))], "query") as server:
        yield server.address
