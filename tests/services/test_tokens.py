"""A token permits calls about its run. test_every_call.py tests that it permits none about another run."""

import numpy as np
import pytest
from datamodels.services.aggregator.service import service as aggregator

from datamodels.aggregate.committer import Committer
from datamodels.errors import DeniedError, TokenError
from datamodels.rpc import auth
from datamodels.rpc.clients.aggregator import AggregatorClient
from datamodels.rpc.serve import Server
from datamodels.settings import AggregatorSettings, ClientSettings, ServeSettings
from datamodels.storage import keys
from datamodels.storage.local import LocalStore
from datamodels.testing import committed
from tests.helpers.certificates import ISSUER, SUBJECT, Authority, Issuer, write


@pytest.fixture
def issuer():
    return Issuer()


@pytest.fixture
def store(tmp_path):
    return LocalStore(tmp_path / "store")


@pytest.fixture
def place(issuer, store, tmp_path):
    """Yield (address, settings of clients) of an aggregator that requires tokens."""
    authority = Authority(tmp_path)
    committer = Committer(store, AggregatorSettings(publish_interval=0.05))
    committer.start()
    guard = auth.Guard(auth.Issuer(ISSUER, auth.Keys(issuer.keys)), [SUBJECT])
    client = ClientSettings(ca_file=str(authority.ca_file), token_file=str(tmp_path / "token"), attempts=1)
    with Server(ServeSettings(**authority.issue("server"), grace=5.0), [aggregator(committer)], guard=guard) as server:
        yield server.address, client


def test_a_trainer_can_commit_only_to_its_run(place, issuer, store, tmp_path):
    address, settings = place
    mine, yours = committed.make_run("mine"), committed.make_run("yours")
    first, second = range(0, 10), range(10, 20)

    def show(run, **claims):
        write(tmp_path / "token", issuer.token(run.name, **claims).encode())

    def put(client, run, models):
        return client.put(run.name, models, np.array(models), committed.outputs_of(run, models))

    with AggregatorClient(address, settings) as client:
        for run in (yours, mine):
            show(run)
            assert client.create_run(run)
        assert put(client, mine, first)
        with pytest.raises(DeniedError):
            put(client, yours, first)
        show(mine, life=-120.0)
        with pytest.raises(TokenError, match="expired"):
            put(client, mine, second)
        show(mine)
        assert put(client, mine, second)
        assert client.progress(mine.name).committed == 20
    assert len(list(store.list(keys.parts(mine.name)))) == 2 and not list(store.list(keys.parts(yours.name)))
