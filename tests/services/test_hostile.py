"""Whoever reaches the services can create runs of any spec and ask for any fit. No service runs what they name."""

import numpy as np
import pytest
from datamodels.services.aggregator.service import service as aggregator_service
from datamodels.services.fitter.service import service as fitter_service

from datamodels.aggregate.committer import Committer
from datamodels.errors import NotReadyError
from datamodels.fit.job.fitter import Fitter
from datamodels.rpc.clients.aggregator import AggregatorClient
from datamodels.rpc.clients.fitter import FitterClient
from datamodels.rpc.serve import Server
from datamodels.run import runs, specs
from datamodels.run.specs import FitSpec
from datamodels.settings import ClientSettings, FitterSettings, ServeSettings
from datamodels.storage.local import LocalStore
from datamodels.testing import committed
from datamodels.train import Dataset
from tests.helpers.waiting import LIMIT


@pytest.fixture
def place(tmp_path):
    """(store, client of the aggregator, client of the fitter)."""
    store = LocalStore(tmp_path / "store")
    fitter = Fitter(store, FitterSettings(scratch=str(tmp_path / "scratch"), device="cpu", threads=1))
    services = [aggregator_service(Committer(store)), fitter_service(fitter)]
    with Server(ServeSettings(), services) as server:
        settings = ClientSettings(attempts=1)
        with AggregatorClient(server.address, settings) as aggregator, FitterClient(server.address, settings) as client:
            yield store, aggregator, client


@pytest.mark.parametrize("estimator", ["weighted", "prior"])
def test_a_run_whose_data_set_is_a_shell_is_stored_but_never_run(tmp_path, place, estimator):
    """All modules are trusted in this process, so the services refrain from importing, and are not only refused."""
    store, aggregator, fitter = place
    marker = tmp_path / "ran"
    document = {
        "name": "shell",
        "dataset": {"load": "subprocess:check_output", "options": {"args": ["touch", str(marker)]}},
        "trainer": {"class": "subprocess:Popen", "options": {"args": ["touch", str(marker)]}},
        "m": 60,
        "chunk": 20,
        "sub_chunk": 10,
        "evaluate": {"subsets": 0},
        "fit": {"estimator": estimator, "features": "os:system", "lambdas": 4},
    }
    rng = np.random.default_rng(0)
    data = Dataset(rng.normal(size=(12, 2)), np.arange(12) % 2, rng.normal(size=(4, 2)), np.arange(4) % 2)
    run = runs.resolve(specs.parse(document), data)
    aggregator.create_run(run)
    committed.commit(store, run)
    for settings in (None, FitSpec(estimator=estimator, features="subprocess:check_output")):
        with pytest.raises(NotReadyError, match="the fitter runs no code of users"):
            fitter.fit(run.name, settings)
    started = fitter.fit(run.name, FitSpec(estimator="ridge", features="os:system"))
    assert [p.error for p in fitter.watch(run.name, started.digest, timeout=LIMIT)][-1] == ""
    assert not marker.exists()
