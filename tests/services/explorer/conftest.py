"""An explorer that serves a store with one run: pictures, labels and texts with markup in them."""

import contextlib
import dataclasses
import http.client
import json
import socket
import threading

import pytest
import uvicorn
from datamodels.services.explorer.service import application

from datamodels.display import stored
from datamodels.query.weights import WeightStore
from datamodels.settings import ExplorerSettings
from datamodels.storage.local import LocalStore
from tests.helpers.waiting import LIMIT
from tests.report import made

TOKEN = "a-token-of-some-length"
MARKUP = "<img src=x onerror=alert(1)>"


@dataclasses.dataclass
class Answer:
    status: int
    headers: dict
    body: bytes

    def json(self):
        return json.loads(self.body)


@dataclasses.dataclass
class Served:
    """A client of an explorer that serves."""

    port: int
    store: LocalStore
    run: object

    def ask(self, path, body=None, *, method=None, token=TOKEN, **headers):
        """Ask for a path; a body is sent as JSON."""
        given = {"host": f"127.0.0.1:{self.port}"} | ({"authorization": f"Bearer {token}"} if token else {})
        given |= {} if body is None else {"content-type": "application/json"}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LIMIT)
        with contextlib.closing(connection):
            data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
            connection.request(method or ("GET" if body is None else "POST"), path, data, given)
            found = connection.getresponse()
            return Answer(found.status, {name.lower(): value for name, value in found.getheaders()}, found.read())

    def get(self, path, status=200):
        """Return the JSON of a path below that of the run."""
        found = self.ask(f"/api/v1/runs/{self.run.name}{path}")
        assert found.status == status, found.body
        return found.json()


@contextlib.contextmanager
def serving(store, settings):
    """Serve a store, and yield the port."""
    app = application(WeightStore(store, refresh=0), settings)
    quiet = {"log_config": None, "log_level": "critical", "access_log": False}  # pytest closes what it would log to
    server = uvicorn.Server(uvicorn.Config(app.asgi, lifespan="on", timeout_graceful_shutdown=1, **quiet))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            app.end_streams()
            server.should_exit = True
            thread.join(LIMIT)


@pytest.fixture(scope="package")
def served(tmp_path_factory):
    folder = tmp_path_factory.mktemp("explored")
    titles = [f"{MARKUP}{i}.png" for i in range(30)]
    data = made.dataset(titles=titles, titles_test=[f"test-{i}" for i in range(5)])
    found = made.findings(folder, data=data)
    store = LocalStore(folder)
    stored.write(store, found.run, data)
    with serving(store, ExplorerSettings(token=TOKEN)) as port:
        yield Served(port, store, found.run)
