"""TLS over real sockets, with real certificates made here."""

import ssl
import threading

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from datamodels.errors import SettingsError, UnavailableError
from datamodels.rpc import tls
from datamodels.rpc.client import connect
from datamodels.settings import ClientSettings
from tests.helpers.certificates import Authority, write
from tests.helpers.waiting import LIMIT

SHAPES = ["Unary", "Many", "Collect", "Chat"]


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


@pytest.fixture
def trusting(authority):
    """Settings of a client that trusts the authority."""
    return {"ca_file": str(authority.ca_file), "attempts": 1}


@pytest.fixture
def mutual(authority):
    """Settings of a server that requires client certificates of the authority."""
    return authority.issue("server") | {"client_ca_file": str(authority.ca_file)}


def certificate(address):
    """Return the certificate that the server presents to a new connection."""
    host, port = address.split(":")
    return ssl.get_server_certificate((host, int(port)), timeout=LIMIT)


@pytest.mark.parametrize("shape", SHAPES)
def test_calls_of_every_shape_use_tls(serve, channels, stub_of, authority, trusting, shape):
    stub = stub_of(channels(serve(**authority.issue("server")).address, **trusting))
    assert list(stub.call(shape, ["say 1"])) == ["1"]


@pytest.mark.parametrize("how", ["with_call", "future"])
def test_with_call_and_future_use_tls(serve, channels, stub_of, authority, trusting, how):
    unary = stub_of(channels(serve(**authority.issue("server")).address, **trusting)).Unary
    assert (unary.with_call("say 1")[0] if how == "with_call" else unary.future("say 1").result()) == "1"


def test_without_tls_a_client_is_not_answered(serve, channels, stub_of, authority, echo):
    stub = stub_of(channels(serve(**authority.issue("server")).address, attempts=1))
    with pytest.raises(UnavailableError):
        stub.Unary("say 1")
    assert echo.calls == 0


def test_a_server_of_another_authority_is_not_trusted(serve, channels, stub_of, tmp_path, trusting, echo):
    stranger = Authority(tmp_path, "stranger")
    stub = stub_of(channels(serve(**stranger.issue("server")).address, **trusting))
    with pytest.raises(UnavailableError):
        stub.Unary("say 1")
    assert echo.calls == 0


def test_the_name_in_the_certificate_must_be_the_expected_one(serve, channels, stub_of, authority, trusting):
    address = serve(**authority.issue("server", host="dm-query.ns", ip="")).address
    with pytest.raises(UnavailableError):
        stub_of(channels(address, **trusting)).Unary("say 1")
    assert stub_of(channels(address, server_name="dm-query.ns", **trusting)).Unary("say 1") == "1"


def test_a_client_with_a_certificate_is_accepted(serve, channels, stub_of, authority, trusting, mutual):
    stub = stub_of(channels(serve(**mutual).address, **trusting, **authority.issue("client")))
    assert stub.Unary("say 1") == "1"


def test_a_client_without_a_certificate_is_refused(serve, channels, stub_of, trusting, mutual, echo):
    with pytest.raises(UnavailableError):
        stub_of(channels(serve(**mutual).address, **trusting)).Unary("say 1")
    assert echo.calls == 0


def test_a_client_of_another_authority_is_refused(serve, channels, stub_of, tmp_path, trusting, mutual, echo):
    wrong = Authority(tmp_path, "stranger").issue("client")
    with pytest.raises(UnavailableError):
        stub_of(channels(serve(**mutual).address, **trusting, **wrong)).Unary("say 1")
    assert echo.calls == 0


def test_only_health_is_served_without_tls(serve, raw_channel, stub_of, mutual):
    server = serve(**mutual)
    channel = raw_channel(server.health_address)
    check = health_pb2_grpc.HealthStub(channel).Check
    for service in ("", "datamodels.test.EchoService"):
        assert check(health_pb2.HealthCheckRequest(service=service)).status == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(grpc.RpcError) as caught:
        stub_of(channel).Unary("say 1")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_without_tls_there_is_no_second_port(serve):
    assert serve().health_address == ""


def test_health_ends_with_the_server(serve, raw_channel, mutual):
    server = serve(**mutual)
    channel = raw_channel(server.health_address)
    server.__exit__(None, None, None)
    with pytest.raises(grpc.RpcError):
        health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=LIMIT)


def test_a_server_reloads_certificates_without_dropping_a_call(
    serve, channels, stub_of, authority, trusting, echo, eventually
):
    """Running streams continue, new calls succeed at all times, and new connections get the new certificate."""
    server = serve(**authority.issue("server"))
    stub = stub_of(channels(server.address, **trusting))
    held = stub.Many("say first\nhold second")
    assert next(held) == "first"
    stop, answers = threading.Event(), []

    def call_all_the_time():
        while not stop.is_set():
            with connect(server.address, ClientSettings(**trusting)) as channel:  # a new connection for each call
                answers.append(stub_of(channel).Unary("say 1"))
            answers.append(stub.Unary("say 1"))

    caller = threading.Thread(target=call_all_the_time)
    caller.start()
    shown = [certificate(server.address)]
    for _ in range(3):
        authority.issue("server")  # replaces first the key, then the certificate: for a moment they do not match
        shown.append(certificate(server.address))
        before = len(answers)
        eventually(lambda before=before: len(answers) >= before + 4, while_true=caller.is_alive)
    stop.set()
    caller.join()
    echo.release.set()
    assert list(held) == ["second"]
    assert len(set(shown)) == 4 and len(answers) >= 12 and set(answers) == {"1"}


def test_a_server_keeps_its_certificate_if_the_new_one_cannot_be_used(
    serve, channels, stub_of, authority, trusting, tmp_path
):
    server = serve(**authority.issue("server"))
    before = certificate(server.address)
    write(tmp_path / "server.crt", b"nonsense")
    assert certificate(server.address) == before
    (tmp_path / "server.crt").unlink()
    assert certificate(server.address) == before
    authority.issue("server")
    assert certificate(server.address) != before


def test_a_server_reloads_the_authorities_of_clients(serve, channels, stub_of, authority, trusting, tmp_path):
    newer = Authority(tmp_path, "newer")
    clients = tmp_path / "clients.crt"
    write(clients, authority.ca_file.read_bytes())
    address = serve(**authority.issue("server"), client_ca_file=str(clients)).address
    client = newer.issue("client")
    with pytest.raises(UnavailableError):
        stub_of(channels(address, **trusting, **client)).Unary("say 1")
    write(clients, newer.ca_file.read_bytes())
    assert stub_of(channels(address, **trusting, **client)).Unary("say 1") == "1"


def test_a_client_reloads_certificates_between_calls(
    serve, channels, stub_of, authority, trusting, mutual, tmp_path, echo
):
    """Its stream continues. Once the server drops the old authority, it accepts only the new certificate."""
    newer, clients = Authority(tmp_path, "newer"), tmp_path / "clients.crt"
    write(clients, authority.ca_file.read_bytes() + newer.ca_file.read_bytes())
    first = serve(**mutual | {"client_ca_file": str(clients)})
    client = authority.issue("client")
    stub = stub_of(channels(first.address, **trusting, **client))
    held = stub.Many("say first\nhold second")
    assert next(held) == "first"
    newer.issue("client")
    for _ in range(3):
        assert stub.Unary("say 1") == "1"
        assert stub.Unary.future("say 1").result() == "1"
        assert list(stub.Chat(iter(["say 2", "say 3"]))) == ["2", "3"]
    write(clients, newer.ca_file.read_bytes())
    assert stub_of(channels(first.address, **trusting, **client)).Unary("say 1") == "1"
    echo.release.set()
    assert list(held) == ["second"]
    authority.issue("client")  # of the authority that the server has dropped
    with pytest.raises(UnavailableError):
        stub.Unary("say 1")
    newer.issue("client")
    assert stub.Unary("say 1") == "1"


def test_a_client_closes_replaced_channels(serve, stub_of, authority, trusting, mutual, echo, eventually):
    settings = ClientSettings(**trusting, **authority.issue("client"))
    with tls.secure_channel(serve(**mutual).address, settings, []) as channel:
        stub = stub_of(channel)
        held = stub.Many("say first\nhold second")
        assert next(held) == "first"
        for _ in range(3):
            authority.issue("client")
            assert stub.Unary("say 1") == "1"
        assert channel.open == 2, "the current one, and the one with a running call"
        echo.release.set()
        assert list(held) == ["second"]
        eventually(lambda: stub.Unary("say 1") and channel.open == 1)


def test_a_client_keeps_its_certificate_if_the_new_one_cannot_be_used(
    serve, channels, stub_of, authority, trusting, mutual, tmp_path
):
    stub = stub_of(channels(serve(**mutual).address, **trusting, **authority.issue("client")))
    assert stub.Unary("say 1") == "1"
    write(tmp_path / "client.key", b"nonsense")
    assert stub.Unary("say 1") == "1"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "server.crt").unlink(), r"^DATAMODELS_SERVE_CERT_FILE=.*server.crt: No such file"),
        (lambda f: (f / "server.key").unlink(), r"^DATAMODELS_SERVE_KEY_FILE=.*server.key: No such file"),
        (lambda f: write(f / "server.key", b""), r"^DATAMODELS_SERVE_CERT_FILE=.*: is not a certificate for .*\.key"),
        (lambda f: write(f / "server.crt", b"x"), r"^DATAMODELS_SERVE_CERT_FILE=.*: is not a certificate for"),
        (lambda f: Authority(f).issue("server") and (f / "authority.crt").write_text("x"), "CLIENT_CA_FILE=.*has no"),
        (lambda f: write(f / "server.key", (f / "other.key").read_bytes()), r"^DATAMODELS_SERVE_CERT_FILE=.*mismatch"),
    ],
)
def test_a_certificate_that_cannot_be_used_is_named(serve, authority, mutual, tmp_path, echo, spoil, message):
    authority.issue("other")
    spoil(tmp_path)
    with pytest.raises(SettingsError, match=message):
        serve(**mutual)
    assert echo.closed.is_set()


def test_a_client_names_its_faulty_file(tmp_path):
    with pytest.raises(SettingsError, match=r"^DATAMODELS_CLIENT_CA_FILE=.*none.crt: No such file"):
        connect("localhost:1", ClientSettings(ca_file=str(tmp_path / "none.crt")))
