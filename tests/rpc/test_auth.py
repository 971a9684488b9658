"""Tokens over real sockets, signed by an issuer made here. The API server is a real HTTPS server."""

import base64
import hmac
import http.server
import json
import ssl
import threading

import pytest

from datamodels.errors import DeniedError, ExitCode, SettingsError, TokenError, UnavailableError
from datamodels.rpc import auth
from datamodels.rpc.client import connect
from datamodels.rpc.serve import Server, main
from datamodels.settings import AuthSettings, ClientSettings, ServeSettings
from tests.helpers.certificates import ISSUER, SUBJECT, Authority, Issuer, write
from tests.helpers.waiting import LIMIT, eventually

SHAPES = ["Unary", "Many", "Collect", "Chat"]


@pytest.fixture
def issuer():
    return Issuer()


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


@pytest.fixture
def settings(issuer, tmp_path):
    """Settings of a service that accepts the issuer's tokens."""
    issuer.write(tmp_path / "jwks.json")
    return AuthSettings(keys=str(tmp_path / "jwks.json"), issuer=ISSUER, subjects=f"someone,{SUBJECT}")


@pytest.fixture
def place(settings, authority, echo, stub_of, tmp_path):
    """place.show(token) returns a stub that sends the token. A call of `echo` is about the run that is its argument."""
    service = echo.service(run_of=lambda request: request.value.splitlines()[0].split()[-1])
    certificate = authority.issue("server")

    class Place:
        token_file = tmp_path / "token"

        def __init__(self, address):
            client = ClientSettings(ca_file=str(authority.ca_file), token_file=str(self.token_file), attempts=1)
            self.channel = connect(address, client, with_token=True)
            self.bare = connect(address, client)

        def show(self, token):
            write(self.token_file, token.encode())
            return stub_of(self.channel)

    with Server(ServeSettings(**certificate), [service], "echo", auth.guard(settings)) as server:
        place = Place(server.address)
        with place.channel, place.bare:
            yield place


@pytest.mark.parametrize("shape", SHAPES)
def test_a_token_of_the_run_permits_calls_of_every_shape(place, issuer, shape):
    assert list(place.show(issuer.token("a")).call(shape, ["say a", "say b"]))[-1].endswith(("a", "b"))


@pytest.mark.parametrize("shape", SHAPES)
def test_a_token_of_another_run_is_denied(place, issuer, shape, echo):
    with pytest.raises(DeniedError, match=r"^the token is for run b, not for 'a'$"):
        list(place.show(issuer.token("b")).call(shape, ["say a"]))


@pytest.mark.parametrize("shape", SHAPES)
def test_a_call_without_a_token_is_refused(place, stub_of, echo, shape):
    with pytest.raises(TokenError, match="requires a bearer token of the run; set DATAMODELS_CLIENT_TOKEN_FILE"):
        list(stub_of(place.bare).call(shape, ["say a"]))
    assert echo.calls == 0


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"life": -120.0}, "it has expired"),
        ({"iat": 4e9}, "it is not valid yet"),
        ({"nbf": 4e9}, "it is not valid yet"),
        ({"iss": "https://elsewhere"}, f"it was not issued by {ISSUER}"),
        ({"iss": None}, "it has no claim iss"),
        ({"exp": None}, "it has no claim exp"),
        ({"sub": None}, "it has no claim sub"),
        ({"aud": None}, "it has no claim aud"),
        ({"aud": "https://kubernetes.default.svc"}, "its audience is not datamodels/RUN"),
        ({"aud": ["datamodels", 3]}, "its audience is not datamodels/RUN"),
        ({"header": {"kid": "unknown"}}, "its signing key is not one of the issuer's keys"),
        ({"header": {"kid": ""}}, "its signing key is not one of the issuer's keys"),
    ],
)
def test_a_refusal_gives_the_reason_and_never_shows_the_token(place, issuer, echo, caplog, capfd, claims, reason):
    token = issuer.token(**{"run": "a"} | claims)
    with pytest.raises(TokenError, match=f"^the bearer token is not accepted: {reason}") as caught:
        place.show(token).Unary("say a")
    assert echo.calls == 0
    printed = str(caught.value) + caplog.text + "".join(capfd.readouterr())
    assert not any(part in printed for part in token.split("."))


def test_a_token_of_another_account_is_denied(place, issuer):
    stranger = "system:serviceaccount:elsewhere:dm-trainer"
    with pytest.raises(DeniedError, match=f"^'{stranger}' may not use this service; its DATAMODELS_AUTH_SUBJECTS"):
        place.show(issuer.token("a", sub=stranger)).Unary("say a")


def test_a_token_signed_by_another_issuer_with_the_same_key_id(place):
    with pytest.raises(TokenError, match="its signature is wrong"):
        place.show(Issuer().token("a")).Unary("say a")


def encoded(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=")


@pytest.mark.parametrize("algorithm", ["none", "HS256"])
def test_a_token_that_anyone_could_sign(place, issuer, algorithm):
    """The two oldest attacks: no signature, and a signature with the public key as the secret."""
    claims = issuer.token("a").split(".")[1].encode()
    text = encoded(json.dumps({"alg": algorithm, "kid": "key"}).encode()) + b"." + claims
    public = json.dumps(issuer.keys()["keys"][0]).encode()
    signature = hmac.digest(public, text, "sha256") if algorithm == "HS256" else b""
    with pytest.raises(TokenError, match="its signature algorithm is not accepted"):
        place.show((text + b"." + encoded(signature)).decode()).Unary("say a")


NESTED = b".".join(map(encoded, (b'{"alg":"ES256","kid":"key"}', b'{"iss":' + b"[" * 2800 + b"]" * 2800 + b"}", b"x")))


@pytest.mark.parametrize("token", ["x", "a.b.c", "x" * 4000, NESTED.decode()])
def test_text_that_is_not_a_token(place, token):
    with pytest.raises(TokenError, match="it is not a JSON web token"):
        place.show(token).Unary("say a")


def test_a_slightly_wrong_clock_is_tolerated(place, issuer):
    assert place.show(issuer.token("a", life=-5.0)).Unary("say a") == "a"


def test_one_token_may_be_valid_for_several_runs(place, issuer):
    stub = place.show(issuer.token(aud=["other", auth.audience("a"), auth.audience("b")]))
    assert (stub.Unary("say a"), stub.Unary("say b")) == ("a", "b")
    with pytest.raises(DeniedError, match="is for run a, b, not for 'c'"):
        stub.Unary("say c")


def test_the_next_call_sends_a_renewed_token(place, issuer):
    stub = place.show(issuer.token("a", life=-120.0))
    with pytest.raises(TokenError, match="expired"):
        stub.Unary("say a")
    place.show(issuer.token("a"))
    assert stub.Unary("say a") == "a"


@pytest.mark.parametrize("shape", SHAPES)
def test_a_token_file_that_cannot_be_read_is_named(place, issuer, shape):
    stub = place.show(issuer.token("a"))
    place.token_file.unlink()
    with pytest.raises(SettingsError, match=r"^DATAMODELS_CLIENT_TOKEN_FILE=.*token: No such file"):
        list(stub.call(shape, ["say a"]))
    write(place.token_file, b"\n")
    with pytest.raises(SettingsError, match="is empty"):
        list(stub.call(shape, ["say a"]))


def test_health_requires_no_token(place):
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    answer = health_pb2_grpc.HealthStub(place.bare).Check(health_pb2.HealthCheckRequest())
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_a_token_is_never_sent_without_tls():
    with pytest.raises(SettingsError, match="DATAMODELS_CLIENT_TOKEN_FILE: needs TLS"):
        ClientSettings(token_file="token")


def test_rotated_keys_are_reread(issuer):
    keys = auth.Keys(issuer.keys, retry=0.0)
    guard = auth.Guard(auth.Issuer(ISSUER, keys), [SUBJECT])

    def caller(token):
        return guard.caller([(auth.HEADER, auth.SCHEME + token)])

    old = issuer.token("a")
    assert caller(old).runs == ("a",)
    issuer.turn("next")
    assert caller(issuer.token("b")).runs == ("b",)
    with pytest.raises(TokenError, match="its signing key is not one of the issuer's keys"):
        caller(old)


def test_keys_that_cannot_be_reread_stay_in_use(issuer):
    documents = iter([issuer.keys(), {"keys": "none"}])
    keys = auth.Keys(lambda: next(documents), retry=0.0)
    with pytest.raises(TokenError):
        keys.key("unknown")
    assert keys.key("key").key_id == "key"


def test_unknown_keys_do_not_cause_constant_reads(issuer):
    asked = []
    keys = auth.Keys(lambda: asked.append(1) or issuer.keys(), retry=3600.0)
    for number in range(50):
        with pytest.raises(TokenError):
            keys.key(f"made up {number}")
    assert len(asked) == 1


def test_calls_with_known_keys_do_not_wait_for_an_issuer_that_hangs(issuer):
    asked, answer = threading.Event(), threading.Event()

    def read():
        if asked.is_set():
            answer.wait(LIMIT)
        return issuer.keys()

    def look_for_a_new_one():
        with pytest.raises(TokenError):
            keys.key("unknown")

    keys = auth.Keys(read, retry=0.0)
    asked.set()
    stranger = threading.Thread(target=look_for_a_new_one)
    stranger.start()
    try:
        eventually(keys._lock.locked)
        assert keys.key("key").key_id == "key" and stranger.is_alive()
    finally:
        answer.set()
        stranger.join()


class ApiServer(http.server.ThreadingHTTPServer):
    """Serves /.well-known/openid-configuration and /openid/v1/jwks to clients that send the token `mine`.

    As a real API server does, it answers 406 unless the client accepts the type of the document.
    """

    def __init__(self, issuer, certificate):
        super().__init__(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate["cert_file"], certificate["key_file"])
        self.socket = context.wrap_socket(self.socket, server_side=True)
        self.documents = {
            "/.well-known/openid-configuration": {"issuer": ISSUER, "jwks_uri": "https://192.0.2.1/not/reached"},
            "/openid/v1/jwks": issuer.keys(),
        }
        self.url = f"https://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        found = self.server.documents.get(self.path)
        known = self.headers["Authorization"] == (None if self.path.startswith("/open/") else "Bearer mine")
        kind = "application/jwk-set+json" if self.path.endswith("jwks") else "application/json"
        taken = kind in self.headers["Accept"].split(", ")
        status = 401 if not known else 404 if found is None else 200 if taken else 406
        if isinstance(found, str):
            status = 302
        self.send_response(status)
        if status == 302:
            self.send_header("location", found)
        self.end_headers()
        if status == 200:
            self.wfile.write(json.dumps(found).encode())

    def log_message(self, *arguments):
        pass


@pytest.fixture
def api(issuer, authority):
    with ApiServer(issuer, authority.issue("api")) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def asking(api, authority, tmp_path):
    """Settings of a service that asks the API server."""
    write(tmp_path / "mine", b"mine\n")
    return {
        "keys": api.url,
        "subjects": SUBJECT,
        "ca_file": str(authority.ca_file),
        "token_file": str(tmp_path / "mine"),
    }


def test_an_api_server_is_asked_for_issuer_and_keys(asking, issuer):
    guard = auth.guard(AuthSettings(**asking))
    assert guard.caller([(auth.HEADER, auth.SCHEME + issuer.token("a"))]) == auth.Caller(SUBJECT, ("a",))


def test_any_openid_issuer_says_where_its_keys_are_and_gets_no_token(asking, issuer, api):
    name = f"{api.url}/open"
    place = f"{name}/.well-known/openid-configuration"
    api.documents |= {"/open/keys/jwks": issuer.keys()}
    found = api.documents["/open/.well-known/openid-configuration"] = {"issuer": name, "jwks_uri": f"{name}/keys/jwks"}
    settings = AuthSettings(**asking | {"keys": place, "readers": "alice=a*", "audience": "client"})
    token = issuer.token(sub="alice", aud="client", iss=name)
    caller = auth.guard(settings).caller([(auth.HEADER, auth.SCHEME + token)])
    assert caller == auth.Caller("alice", (), ("a*",))
    for wrong in ({"issuer": "https://elsewhere"}, {"issuer": ""}, {"jwks_uri": "http://127.0.0.1/keys"}):
        api.documents["/open/.well-known/openid-configuration"] = found | wrong
        with pytest.raises(SettingsError, match=f"^{place}: "):
            auth.guard(settings)


def test_no_redirect_takes_the_token_elsewhere(asking, api):
    api.documents |= {"/openid/v1/jwks": f"{api.url}/elsewhere", "/elsewhere": api.documents["/openid/v1/jwks"]}
    with pytest.raises(UnavailableError, match=r"jwks: cannot be read: .*302"):
        auth.guard(AuthSettings(**asking))


def test_another_issuer_may_be_set(asking, issuer, api):
    del api.documents["/.well-known/openid-configuration"]
    guard = auth.guard(AuthSettings(**asking, issuer="https://mine"))
    assert guard.caller([(auth.HEADER, auth.SCHEME + issuer.token("a", iss="https://mine"))]).runs == ("a",)


def test_an_api_server_that_refuses_or_is_not_trusted(asking, tmp_path):
    write(tmp_path / "mine", b"yours")
    with pytest.raises(UnavailableError, match=r"openid-configuration: cannot be read: .*401"):
        auth.guard(AuthSettings(**asking))
    stranger = str(Authority(tmp_path, "stranger").ca_file)
    with pytest.raises(UnavailableError, match="CERTIFICATE_VERIFY_FAILED"):
        auth.guard(AuthSettings(**asking | {"ca_file": stranger}))


def test_no_tokens_are_required_by_default():
    assert auth.guard(AuthSettings()) is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"keys": "http://here", "subjects": "a"}, "must be https://HOST, or a file"),
        ({"keys": "jwks.json", "issuer": "i"}, "DATAMODELS_AUTH_SUBJECTS: must name"),
        ({"keys": "jwks.json", "subjects": "a"}, "DATAMODELS_AUTH_ISSUER: must name the issuer"),
        ({"keys": "none.json", "subjects": "a", "issuer": "i"}, "DATAMODELS_AUTH_KEYS=none.json: No such file"),
        ({"keys": __file__, "subjects": "a", "issuer": "i"}, "is not JSON"),
        ({"keys": "https://h", "subjects": "a", "token_file": "none"}, "DATAMODELS_AUTH_TOKEN_FILE=none: No such"),
        ({"keys": "https://h", "subjects": "a", "token_file": __file__, "ca_file": "none"}, "DATAMODELS_AUTH_CA_FILE"),
    ],
)
def test_wrong_settings_are_named(fields, message):
    with pytest.raises(SettingsError, match=message):
        auth.guard(AuthSettings(**fields))


@pytest.mark.parametrize("document", [{}, [], {"keys": []}, {"keys": [{"kty": "?"}]}, {"keys": 3}])
def test_a_file_without_keys_is_refused(tmp_path, document):
    path = tmp_path / "keys.json"
    path.write_text(json.dumps(document))
    with pytest.raises(SettingsError, match="DATAMODELS_AUTH_KEYS: has no JSON web keys"):
        auth.guard(AuthSettings(keys=str(path), issuer=ISSUER, subjects=SUBJECT))


def test_a_service_with_wrong_settings_does_not_start(monkeypatch, capfd):
    monkeypatch.setenv("DATAMODELS_AUTH_KEYS", "none.json")
    assert main("echo", lambda: pytest.fail("was built")) == ExitCode.CONFIG
    assert "DATAMODELS_AUTH_SUBJECTS: must name" in "".join(capfd.readouterr())
