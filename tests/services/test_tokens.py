"""Every call of the services that ask for tokens, with a token of another run, and with none."""

import numpy as np
import pytest
from google.protobuf import message_factory

from datamodels import keys
from datamodels.aggregate.committer import Committer
from datamodels.errors import DeniedError, TokenError
from datamodels.fit.fitter import Fitter
from datamodels.rpc import auth
from datamodels.rpc.client import connect
from datamodels.rpc.clients.aggregator import AggregatorClient
from datamodels.rpc.serve import Server
from datamodels.settings import AggregatorSettings, ClientSettings, FitterSettings, ServeSettings
from datamodels.storage.local import LocalStore
from datamodels.v1 import aggregator_pb2, fitter_pb2
from services.aggregator.service import service as aggregator
from services.fitter.service import service as fitter
from tests import committed
from tests.certificates import ISSUER, SUBJECT, Authority, Issuer, write

METHODS = [
    method
    for module, name in ((aggregator_pb2, "AggregatorService"), (fitter_pb2, "FitterService"))
    for method in module.DESCRIPTOR.services_by_name[name].methods
]


@pytest.fixture
def issuer():
    return Issuer()


@pytest.fixture
def store(tmp_path):
    return LocalStore(tmp_path / "store")


@pytest.fixture
def place(issuer, store, tmp_path):
    """(address, settings of clients) of an aggregator and a fitter that ask for tokens."""
    authority = Authority(tmp_path)
    committer = Committer(store, AggregatorSettings(publish_interval=0.05))
    committer.start()
    both = [aggregator(committer), fitter(Fitter(store, FitterSettings(scratch=str(tmp_path / "scratch"))))]
    guard = auth.Guard(auth.Keys(issuer.keys), ISSUER, [SUBJECT])
    client = ClientSettings(ca_file=str(authority.ca_file), token_file=str(tmp_path / "token"), attempts=1)
    with Server(ServeSettings(**authority.issue("server"), grace=5.0), both, "both", guard) as server:
        yield server.address, client


def call(channel, method, run):
    """Makes a call about a run, whatever its shape, and gives its answers."""
    kind = message_factory.GetMessageClass(method.input_type)
    request = kind()
    about = {"CreateRun": "record", "PutOutputs": "header"}.get(method.name)
    (getattr(request, about) if about else request).run = run
    shape = ("stream" if method.client_streaming else "unary", "stream" if method.server_streaming else "unary")
    answer = getattr(channel, "_".join(shape))(
        f"/{method.containing_service.full_name}/{method.name}", request_serializer=kind.SerializeToString
    )(iter([request]) if method.client_streaming else request)
    return list(answer) if method.server_streaming else [answer]


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
def test_a_call_is_denied_to_another_runs_token_and_to_none(place, issuer, store, method, tmp_path):
    address, settings = place
    write(tmp_path / "token", issuer.token("mine").encode())
    with connect(address, settings, with_token=True) as shown, connect(address, settings) as none:
        with pytest.raises(DeniedError, match=r"^the token is for run mine, not for 'yours'$"):
            call(shown, method, "yours")
        with pytest.raises(TokenError, match="asks for a bearer token"):
            call(none, method, "yours")
    assert list(store.list("")) == []


def test_a_trainer_commits_to_its_run_and_to_no_other(place, issuer, store, tmp_path):
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
