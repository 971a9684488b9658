import http.client
import json
import ssl
import subprocess
import sys

import pytest
from datamodels.services.explorer import audit
from datamodels.services.explorer.service import application

from datamodels.environment import child_environ
from datamodels.errors import SettingsError
from datamodels.query.weights import WeightStore
from datamodels.settings import ExplorerSettings, ServeSettings, StoreSettings
from tests.helpers.certificates import Authority
from tests.helpers.waiting import LIMIT, eventually
from tests.services.explorer.conftest import TOKEN, Served, serving

RUNS = "/api/v1/runs"


def test_nobody_enters_without_the_token(served):
    for token in ("", "wrong", TOKEN + "x"):
        found = served.ask(RUNS, token=token)
        assert found.status == 401 and found.json()["code"] == "UNAUTHENTICATED"
        assert found.headers["content-type"] == "application/problem+json"
    assert served.ask("/", token="").status == 401
    assert served.ask("/?token=wrong", token="").status == 401
    assert served.ask("/healthz", token="").body == b"serving\n"


def test_the_token_in_the_first_address_becomes_a_cookie(served):
    first = served.ask(f"/runs/x?fit=3&token={TOKEN}", token="")
    assert (first.status, first.headers["location"]) == (303, "/runs/x?fit=3")
    cookie, *rest = first.headers["set-cookie"].split("; ")
    assert set(rest) == {"Path=/", "HttpOnly", "SameSite=Strict"} and TOKEN not in cookie
    assert served.ask(RUNS, token="", cookie=cookie).status == 200
    assert served.ask(RUNS, token="", cookie=cookie + "x").status == 401
    assert served.ask(f"//evil.example/?token={TOKEN}", token="").headers["location"] == "/evil.example/"


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:80", "", "10.0.0.1"])
def test_a_name_that_is_not_ours_is_refused(served, host):
    assert served.ask(RUNS, host=host).status == 403


def test_pages_of_others_change_nothing(served):
    path, verdict = f"{RUNS}/{served.run.name}/verdicts", {"kind": "label", "index": 0, "other": -1, "verdict": "keep"}
    host = f"127.0.0.1:{served.port}"
    for headers in ({"origin": "http://evil.example"}, {"origin": "null"}, {"sec_fetch_site": "cross-site"}):
        assert served.ask(path, verdict, **headers).status == 403
    assert served.ask(path, verdict, content_type="text/plain").status == 400
    assert served.ask(path, verdict, origin=f"http://{host}", sec_fetch_site="same-origin").status == 201
    assert served.ask(path, verdict | {"verdict": "open"}).status == 201


def test_answers_let_a_page_load_and_run_nothing_foreign(served):
    for path in ("/", RUNS, "/nothing", "/api/v1/nothing", "/healthz"):
        headers = served.ask(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
        assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == "no-store" and "access-control-allow-origin" not in headers


def test_bodies_are_bounded(served):
    found = served.ask(f"{RUNS}/{served.run.name}/predict", b"[" * (2**20 + 1))
    assert found.status == 400 and "content-length" in found.json()["detail"]


def test_a_proxy_names_the_user_and_no_header_is_trusted_otherwise(served):
    settings = ExplorerSettings(user_header="X-User", hosts="explorer.example.org")
    with serving(served.store, settings) as port:
        other = Served(port, served.store, served.run)
        asked = {"token": "", "host": "explorer.example.org"}
        assert other.ask(RUNS, **asked).status == 401
        assert other.ask(RUNS, **asked, x_user="ada").status == 200
        assert other.ask(RUNS, token="", x_user="ada").status == 403, "it is reached by its name alone"
        verdict = {"kind": "label", "index": 3, "other": -1, "verdict": "keep", "who": "mallory"}
        assert other.ask(f"{RUNS}/{served.run.name}/verdicts", verdict, **asked, x_user="ada").json()["who"] == "ada"
    assert served.ask(RUNS, token="", x_user="ada").status == 401


def test_who_is_denied_and_who_writes_is_logged(served, caplog):
    caplog.set_level("INFO", audit.__name__)
    path, verdict = f"{RUNS}/{served.run.name}/verdicts", {"kind": "label", "index": 4, "other": -1, "verdict": "keep"}
    settings = ExplorerSettings(user_header="X-User", hosts="127.0.0.1", readers=f"ada={served.run.name}; bob=other-*")
    with serving(served.store, settings) as port:
        other = Served(port, served.store, served.run)
        assert other.ask(f"{RUNS}?token=wrong", token="").status == 401
        assert other.ask(path, token="", x_user="bob").status == 403
        assert other.ask(path, verdict, token="", x_user="ada").status == 201
        assert other.ask(path, verdict | {"verdict": "open"}, token="", x_user="ada").status == 201
        assert other.ask(f"{RUNS}/{served.run.name}/verifications", {"target": 0}, token="", x_user="ada").status == 403
        assert other.ask(path, token="", x_user="ada").status == 200, "reading leaves no line"
    lines = [
        r.msg if isinstance(r.msg, dict) else json.loads(r.msg) for r in caplog.records if r.name == audit.__name__
    ]
    assert [(line["event"], line.get("caller"), line["method"], line["path"]) for line in lines] == [
        ("denied", None, "GET", RUNS),
        ("denied", "bob", "GET", path),
        ("audit", "ada", "POST", path),
        ("audit", "ada", "POST", path),
        ("denied", "ada", "POST", f"{RUNS}/{served.run.name}/verifications"),
    ]
    assert all(line["peer"].startswith("127.0.0.1:") for line in lines) and "wrong" not in str(lines)


def test_an_explorer_that_anybody_could_use_does_not_start(served):
    with pytest.raises(SettingsError, match="DATAMODELS_EXPLORER_TOKEN"):
        application(WeightStore(served.store), ExplorerSettings())
    with pytest.raises(SettingsError, match="HOSTS"):
        application(WeightStore(served.store), ExplorerSettings(user_header="X-User"))
    with pytest.raises(SettingsError, match="READERS: needs DATAMODELS_EXPLORER_USER_HEADER"):
        application(WeightStore(served.store), ExplorerSettings(token=TOKEN, readers="ada=*"))
    with pytest.raises(SettingsError, match="DATAMODELS_EXPLORER_READERS: 'ada'"):
        application(WeightStore(served.store), ExplorerSettings(user_header="X", hosts="x", readers="ada"))
    with pytest.raises(SettingsError, match="16 letters"):
        application(WeightStore(served.store), ExplorerSettings(token="short"))


def test_with_a_certificate_it_speaks_https_and_its_cookie_stays_there(served, tmp_path):
    authority, file = Authority(tmp_path), tmp_path / "address.json"
    serve = ServeSettings(
        port=0, metrics_port=0, address_file=str(file), follow_stdin=True, **authority.issue("server")
    )
    settings = (StoreSettings(url=served.store.url), serve, ExplorerSettings(token=TOKEN))
    command = [sys.executable, "-m", "datamodels.services.explorer"]
    with subprocess.Popen(command, env=child_environ(*settings), stdin=subprocess.PIPE) as process:
        text = eventually(lambda: file.exists() and file.read_text(), while_true=lambda: process.poll() is None)
        context = ssl.create_default_context(cafile=str(authority.ca_file))
        address = json.loads(text)["address"].replace("0.0.0.0", "127.0.0.1")
        connection = http.client.HTTPSConnection(address, timeout=LIMIT, context=context)
        connection.request("GET", f"/?token={TOKEN}")
        answer = connection.getresponse()
        assert answer.status == 303 and "Secure" in answer.headers["set-cookie"].split("; ")
        connection.close()
        process.stdin.close()
        assert process.wait(LIMIT) == 0
