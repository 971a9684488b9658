"""Behind an authentication proxy: a real one, which asks for a password and names the user in a header."""

import base64
import contextlib
import http.client
import http.server
import threading

import pytest

from datamodels.settings import ExplorerSettings
from tests.helpers.waiting import LIMIT
from tests.services.explorer.conftest import Served, serving

HOST = "explorer.example.org"
RUNS = "/api/v1/runs"
PASSWORDS = {"ada": "a", "bob": "b", "eve": "e"}
GROUPS = {"eve": "students, staff"}


@contextlib.contextmanager
def proxying(port):
    """Yield the port of a proxy in front of `port`. What callers say of their name and groups does not get through."""

    class Proxy(http.server.BaseHTTPRequestHandler):
        def forward(self):
            sent = self.headers.get("authorization", "").removeprefix("Basic ")
            user, _, password = base64.b64decode(sent).decode().partition(":")
            if PASSWORDS.get(user) != password or not user:
                self.send_error(401)
                return
            own = ("x-user", "x-groups", "authorization", "connection")
            headers = {name: value for name, value in self.headers.items() if name.lower() not in own}
            headers |= {"X-User": user, "X-Groups": GROUPS.get(user, "")}
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT)) as behind:
                behind.request(self.command, self.path, body, headers)
                answer = behind.getresponse()
                data = answer.read()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = forward  # names of the library

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join(LIMIT)


@pytest.fixture(scope="module")
def behind(served):
    """(the explorer itself, the proxy): ada may read the run, and so may members of the group staff."""
    readers = f"ada={served.run.name.partition('-')[0]}-*; bob=other-*; group:staff={served.run.name}"
    settings = ExplorerSettings(user_header="X-User", groups_header="X-Groups", hosts=HOST, readers=readers)
    with serving(served.store, settings) as port, proxying(port) as front:
        yield Served(port, served.store, served.run), Served(front, served.store, served.run)


def ask(served, user, path=RUNS, body=None, **headers):
    sign_in = base64.b64encode(f"{user}:{PASSWORDS.get(user, '')}".encode()).decode()
    return served.ask(path, body, token="", host=HOST, authorization=f"Basic {sign_in}", **headers)


def test_who_signs_in_reads_and_is_named_and_nobody_else_enters(behind):
    explorer, proxy = behind
    run = explorer.run.name
    assert [one["run"] for one in ask(proxy, "ada").json()["runs"]] == [run]
    verdict = {"kind": "label", "index": 6, "other": -1, "verdict": "keep"}
    path = f"{RUNS}/{run}/verdicts"
    assert ask(proxy, "ada", path, verdict, origin=f"http://{HOST}", x_user="mallory").json()["who"] == "ada"
    assert ask(proxy, "ada", path, verdict | {"verdict": "open"}).status == 201
    assert ask(proxy, "mallory", x_user="ada").status == 401
    assert explorer.ask(RUNS, token="", host=HOST).status == 401, "without the proxy"
    assert explorer.ask("/", token="", host=HOST).status == 401


def test_a_user_reads_the_runs_that_a_pattern_gives(behind):
    explorer, proxy = behind
    run = explorer.run.name
    assert ask(proxy, "eve", f"{RUNS}/{run}/targets/0").status == 200, "by a group"
    assert ask(proxy, "bob").json() == {"runs": [], "next": None}
    for path in (f"/{run}", f"/{run}/targets/0", f"/{run}/events", f"/{run}/examples/0/picture"):
        assert ask(proxy, "bob", RUNS + path, x_groups="staff").status == 403, path
    assert ask(proxy, "bob", f"/api/v1/comparison?one=other-0123456789ab&other={run}@0").status == 403
    assert ask(proxy, "bob", f"{RUNS}/{run[:-1]}%{ord(run[-1]):x}/targets/0").status == 403, "in another spelling"
    detail = ask(proxy, "bob", f"{RUNS}/{run}").json()["detail"]
    assert detail == ask(proxy, "bob", f"{RUNS}/small-000000000000").json()["detail"].replace("small-000000000000", run)
    assert ask(proxy, "ada", f"/api/v1/comparison?one={run}&other={run}").status == 200
    assert ask(proxy, "bob", "/").status == 200, "pages have no data"
