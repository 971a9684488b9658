"""Who may read and write which runs, over real sockets: tokens of runs, and readers of one or two issuers."""

import contextlib
import json

import grpc
import numpy as np
import pytest
from datamodels.services.aggregator.service import service as aggregator_service
from datamodels.services.query.service import service as query_service

from datamodels.aggregate.committer import Committer
from datamodels.errors import DeniedError, NotReadyError, RunNotFoundError, SettingsError, TokenError
from datamodels.query.weights import WeightStore
from datamodels.rpc import access, auth
from datamodels.rpc.clients.aggregator import AggregatorClient
from datamodels.rpc.clients.query import QueryClient
from datamodels.rpc.serve import Server
from datamodels.run import runs
from datamodels.settings import AuthSettings, ClientSettings, ServeSettings
from datamodels.storage.local import LocalStore
from datamodels.telemetry import metrics
from datamodels.testing import committed
from tests.helpers.certificates import ISSUER, SUBJECT, Authority, Issuer, write

ELSEWHERE = "https://login.example"
READERS = "alice=mnist-*; group:team=cifar-*,mnist-*; dash=*"


class Place:
    """A query service and an aggregator over one store, with three runs: mnist-..., mnist-big-... and cifar-...."""

    def __init__(self, folder, **settings):
        self.folder, self.issuer, self.other = folder, Issuer(), Issuer()
        self.issuer.write(folder / "jwks.json")
        self.other.write(folder / "other.json")
        self.authority = Authority(folder)
        self.store = LocalStore(folder / "store")
        self.cifar, self.mnist, self.big = (self.create(name).name for name in ("cifar", "mnist", "mnist-big"))
        self.names = sorted((self.cifar, self.mnist, self.big))
        given = {"keys": str(folder / "jwks.json"), "issuer": ISSUER, "subjects": SUBJECT} | settings
        self.settings = AuthSettings(**{name: value for name, value in given.items() if value})

    def create(self, name):
        run = committed.make_run(name=name)
        runs.create(self.store, run)
        return run

    @contextlib.contextmanager
    def served(self):
        services = [query_service(WeightStore(self.store)), aggregator_service(Committer(self.store))]
        certificate = self.authority.issue("server") | {"client_ca_file": str(self.authority.ca_file)}
        with Server(ServeSettings(**certificate), services, "both", auth.guard(self.settings)) as server:
            self.address = server.address
            yield self

    @contextlib.contextmanager
    def clients(self, token=None):
        """(client of the query service, client of the aggregator) that show a token."""
        write(self.folder / "token", (token or "").encode())
        more = {"token_file": str(self.folder / "token")} if token else {}
        settings = ClientSettings(
            ca_file=str(self.authority.ca_file), attempts=1, **more, **self.authority.issue("client")
        )
        with QueryClient(self.address, settings) as query, AggregatorClient(self.address, settings) as aggregator:
            yield query, aggregator


@pytest.fixture
def place(tmp_path):
    with Place(tmp_path, readers=READERS).served() as found:
        yield found


def readable(place, token):
    """Names of runs that a token lets read, call by call; `ListRuns` must agree."""
    with place.clients(token) as (query, aggregator):
        found = []
        for name in place.names:
            with contextlib.suppress(DeniedError):
                query.run(name)
                assert aggregator.progress(name).committed == 0
                found.append(name)
        assert [run.run for run in query.runs()] == found
        return found


@pytest.mark.parametrize(
    ("claims", "names"),
    [
        ({"sub": "alice", "aud": "datamodels"}, ["mnist", "mnist-big"]),
        ({"sub": "bob", "aud": ["other", "datamodels"], "groups": ["staff", "team"]}, ["cifar", "mnist", "mnist-big"]),
        ({"sub": "dash", "aud": "datamodels"}, ["cifar", "mnist", "mnist-big"]),
    ],
)
def test_a_reader_reads_the_runs_of_its_patterns_and_writes_none(place, claims, names):
    token = place.issuer.token(**claims)
    assert readable(place, token) == [name for name in place.names if name.rpartition("-")[0] in names]
    with place.clients(token) as (_, aggregator):
        for name in place.names:
            with pytest.raises(DeniedError):
                aggregator.publish(name)
        with pytest.raises(DeniedError):
            aggregator.create_run(committed.make_run(name="new"))
        with pytest.raises(DeniedError):
            aggregator.put(place.mnist, range(10), np.zeros(0, np.int32), np.zeros((0, 5), np.float32))


def test_a_token_of_a_run_reads_and_writes_that_run_alone(place):
    token = place.issuer.token(place.mnist)
    assert readable(place, token) == [place.mnist]
    with place.clients(token) as (query, aggregator):
        aggregator.publish(place.mnist)
        with pytest.raises(DeniedError):
            aggregator.publish(place.big)
        with pytest.raises(NotReadyError):
            list(query.targets(place.mnist))


@pytest.mark.parametrize(
    ("claims", "error"),
    [
        ({"sub": "alice", "aud": "other"}, TokenError),
        ({"sub": "alice", "run": "mnist-000000000000"}, DeniedError),
        ({"sub": "mallory", "aud": "datamodels"}, DeniedError),
        ({"sub": "mallory", "aud": "datamodels", "groups": "team"}, DeniedError),
        ({"sub": "mallory", "aud": "datamodels", "groups": {"team": 1}}, DeniedError),
        ({"sub": "group:team", "aud": "datamodels"}, DeniedError),
        ({"sub": SUBJECT, "aud": "datamodels"}, DeniedError),
        ({"sub": "alice", "aud": "datamodels", "life": -120.0}, TokenError),
    ],
)
def test_who_is_no_reader_reads_nothing(place, claims, error):
    with place.clients(place.issuer.token(**claims)) as (query, aggregator):
        for call in (
            lambda: query.run(place.mnist),
            lambda: list(query.runs()),
            lambda: aggregator.progress(place.mnist),
        ):
            with pytest.raises(error):
                call()
    with place.clients() as (query, _), pytest.raises(TokenError):
        query.run(place.mnist)


def test_whether_a_run_exists_is_not_said_to_who_may_not_read_it(place):
    with place.clients(place.issuer.token(sub="alice", aud="datamodels")) as (query, _):
        for name in (place.cifar, "cifar-000000000000", ""):
            with pytest.raises(DeniedError, match="'alice' may read runs mnist-"):
                query.run(name)
        with pytest.raises(RunNotFoundError):
            query.run("mnist-000000000000")


def test_readers_of_another_issuer_never_pass_for_accounts_of_runs(tmp_path):
    """Who controls the readers' issuer can name any subject and audience in its tokens."""
    more = {"reader_keys": str(tmp_path / "other.json"), "reader_issuer": ELSEWHERE, "readers": "alice=mnist-*"}
    with Place(tmp_path, **more).served() as place:
        reader = place.other.token(sub="alice", aud="datamodels", iss=ELSEWHERE)
        assert readable(place, reader) == sorted((place.mnist, place.big))
        assert readable(place, place.issuer.token(place.cifar)) == [place.cifar]
        for token in (
            place.other.token(place.cifar, iss=ELSEWHERE),
            place.other.token(place.cifar, iss=ISSUER),
            place.issuer.token(sub="alice", aud="datamodels"),
            place.issuer.token(sub="alice", aud="datamodels", iss=ELSEWHERE),
        ):
            with place.clients(token) as (query, aggregator):
                with pytest.raises((TokenError, DeniedError)):
                    query.run(place.mnist)
                with pytest.raises((TokenError, DeniedError)):
                    aggregator.publish(place.cifar)


def test_without_readers_the_query_service_asks_for_no_token(tmp_path):
    with Place(tmp_path).served() as place, place.clients() as (query, aggregator):
        assert [run.run for run in query.runs()] == place.names
        with pytest.raises(TokenError):
            aggregator.progress(place.mnist)


def test_denied_calls_are_counted_and_logged_and_writes_leave_an_audit_log(place, caplog):
    caplog.set_level("INFO")
    before = {code: metrics.DENIED.labels(code)._value.get() for code in ("UNAUTHENTICATED", "PERMISSION_DENIED")}
    with place.clients(place.issuer.token(sub="alice", aud="datamodels")) as (query, aggregator):
        with pytest.raises(DeniedError):
            aggregator.publish(place.mnist)
        query.run(place.mnist)
    with place.clients() as (query, _), pytest.raises(TokenError):
        query.run(place.mnist)
    with place.clients(place.issuer.token(place.mnist)) as (_, aggregator):
        aggregator.publish(place.mnist)
    after = {code: metrics.DENIED.labels(code)._value.get() for code in before}
    assert after == {code: value + 1 for code, value in before.items()}
    lines = [record.msg for record in caplog.records if record.name == access.__name__]
    denied, nobody, audit = (line if isinstance(line, dict) else json.loads(line) for line in lines)
    assert (denied["event"], denied["method"], denied["run"], denied["caller"]) == (
        "denied",
        "PublishManifest",
        place.mnist,
        "alice",
    )
    assert nobody["event"] == "denied" and "caller" not in nobody and nobody["peer"].startswith("ipv4:127.0.0.1:")
    assert (audit["event"], audit["method"], audit["code"]) == ("audit", "PublishManifest", grpc.StatusCode.OK.name)
    assert (audit["run"], audit["caller"]) == (place.mnist, SUBJECT)
    assert denied["certificate"] == nobody["certificate"] == audit["certificate"] == "client"


def test_writes_are_recorded_without_tokens_too(tmp_path, caplog):
    caplog.set_level("INFO")
    store = LocalStore(tmp_path)
    server = Server(ServeSettings(), [aggregator_service(Committer(store))])
    with server, AggregatorClient(server.address) as client:
        run = committed.make_run()
        client.create_run(run)
        client.progress(run.name)
    (line,) = [record.msg for record in caplog.records if record.name == access.__name__]
    assert (line["event"], line["method"], line["run"], line["code"]) == ("audit", "CreateRun", run.name, "OK")


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"readers": "alice"}, "'alice': must be SUBJECT=PATTERN"),
        ({"readers": "alice=;bob=x"}, "'alice=': must be SUBJECT=PATTERN"),
        ({"readers": "=x"}, "must be SUBJECT=PATTERN"),
        ({"readers": "a=b", "keys": ""}, "DATAMODELS_AUTH_READERS: needs"),
        ({"reader_keys": "https://x"}, "DATAMODELS_AUTH_READER_KEYS: needs DATAMODELS_AUTH_READERS"),
        ({"readers": "a=b", "reader_keys": "x.json"}, "DATAMODELS_AUTH_READER_ISSUER: must name"),
        ({"readers": "a=b", "reader_keys": "http://x"}, "DATAMODELS_AUTH_READER_KEYS=http://x: must be https://"),
    ],
)
def test_wrong_settings_are_named(tmp_path, fields, fault):
    Issuer().write(tmp_path / "jwks.json")
    with pytest.raises(SettingsError, match=fault):
        auth.guard(AuthSettings(**{"keys": str(tmp_path / "jwks.json"), "issuer": ISSUER, "subjects": "a"} | fields))
