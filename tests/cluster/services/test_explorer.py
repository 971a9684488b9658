"""The explorer on a cluster: through a port-forward with its token, through a proxy, and denied without."""

import contextlib
import json
import re
import subprocess
import threading
import urllib.error
import urllib.request

import pytest

from tests.cluster.place import METRICS, Namespace, until
from tests.cluster.specs import written
from tests.helpers.waiting import LIMIT

TOKEN = "a-token-of-the-cluster-tests"
HOST = "explorer.example.org"
RUNS = "/api/v1/runs"
ASK = """
import json, sys, urllib.error, urllib.request
url, headers = sys.argv[1], json.loads(sys.argv[2])
try:
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=60) as answer:
        print(json.dumps([answer.status, json.load(answer)]))
except urllib.error.HTTPError as error:
    print(json.dumps([error.code, json.load(error)]))
"""
"""Asks as a pod does: prints [status, answer]."""


@pytest.fixture(scope="module")
def proxy(reachable):
    """The namespace of the authentication proxy, with a pod that asks as the proxy would."""
    with Namespace.made("proxy") as made:
        made.make_pod("proxy")
        yield made


@pytest.fixture(scope="module")
def explored(running, proxy, tmp_path_factory):
    """The name of a run that the explorer shows: to ada, to the group vision, and to whoever has the token."""
    namespace = running.namespace
    path, spec = written(tmp_path_factory.mktemp("specs"), "breast-cancer", name="explored", m=300)
    namespace.datamodels("submit", path, "--watch")
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "explorer"}, "stringData": {"token": TOKEN}}
    namespace.apply(secret)
    readers = {"ada": ["explored-*"], "group:vision": [spec.run], "bob": ["other-*"]}
    explorer = {
        "enabled": True,
        "userHeader": "X-Forwarded-User",
        "groupsHeader": "X-Forwarded-Groups",
        "readers": readers,
        "tokenSecret": "explorer",
        "hosts": [HOST, "localhost"],
        "allowNamespaces": [proxy.name],
        "resources": {"requests": {"cpu": "20m", "memory": "256Mi"}},
    }
    running.upgrade(explorer=explorer)
    yield spec.run
    running.upgrade()


@contextlib.contextmanager
def forwarded(namespace):
    """Yield the address at which `kubectl port-forward` serves the explorer here."""
    command = ["kubectl", "-n", namespace.name, "port-forward", "service/dm-explorer", ":80"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as forwarding:
        try:
            said = forwarding.stdout.readline()
            port = re.search(r"127\.0\.0\.1:(\d+)", said)
            assert port, said
            threading.Thread(target=forwarding.stdout.read, daemon=True).start()  # it says each connection
            yield f"http://localhost:{port[1]}"
        finally:
            forwarding.terminate()


def fetched(url, **headers):
    """(status, type, text) of an answer."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=LIMIT) as answer:
            return answer.status, answer.headers["content-type"], answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers["content-type"], error.read().decode()


def test_through_a_port_forward_the_token_opens_it(running, explored):
    with forwarded(running.namespace) as address:
        status, _, text = fetched(f"{address}{RUNS}", Authorization=f"Bearer {TOKEN}")
        assert status == 200 and [one["run"] for one in json.loads(text)["runs"]] == [explored]
        status, kind, text = fetched(f"{address}{RUNS}/{explored}/targets?limit=3", Authorization=f"Bearer {TOKEN}")
        assert status == 200 and len(json.loads(text)["rows"]) == 3

        for headers in ({}, {"Authorization": "Bearer not-the-token-of-it"}):
            status, kind, text = fetched(f"{address}{RUNS}", **headers)
            assert status == 401 and kind == "application/problem+json" and explored not in text, text
        status, _, text = fetched(f"{address}{RUNS}", Authorization=f"Bearer {TOKEN}", Host="foreign.example.org")
        assert status == 403 and "foreign.example.org" in text

        pages = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())  # as a browser comes first
        with pages.open(f"{address}/?token={TOKEN}", timeout=LIMIT) as page:
            assert page.url == f"{address}/" and b"<html" in page.read().lower()
        with pages.open(f"{address}{RUNS}", timeout=LIMIT) as answer:
            assert explored in answer.read().decode()


def test_through_the_proxy_users_see_the_runs_that_they_may_read(running, explored, proxy):
    address = f"http://dm-explorer.{running.namespace.name}"

    def asked(path=RUNS, **headers):
        command = ("python", "-c", ASK, address + path, json.dumps({"Host": HOST} | headers))
        return json.loads(proxy.within("proxy", *command))

    def seen(**headers):
        status, answer = asked(**headers)
        return status, [one["run"] for one in answer.get("runs", [])]

    until(lambda: asked()[0] == 401, "the proxy does not reach the explorer")
    assert seen(**{"X-Forwarded-User": "ada"}) == (200, [explored])
    assert seen(**{"X-Forwarded-User": "eve", "X-Forwarded-Groups": "staff,vision"}) == (200, [explored])
    assert seen(**{"X-Forwarded-User": "bob"}) == (200, [])
    assert asked(f"{RUNS}/{explored}", **{"X-Forwarded-User": "bob"})[0] == 403
    assert seen(**{"X-Forwarded-Groups": "vision"}) == (401, []), "a group without a user"
    assert seen() == (401, [])
    status, answer = asked(f"{RUNS}/{explored}/targets/3", **{"X-Forwarded-User": "ada"})
    assert status == 200 and answer["look"]["index"] == 3 and answer["helpful"], answer


def test_its_pod_counts_the_requests(running, explored):
    (pod,) = running.namespace.ready("explorer")
    with forwarded(running.namespace) as address:
        assert fetched(f"{address}{RUNS}", Authorization=f"Bearer {TOKEN}")[0] == 200
    text = running.namespace.within(pod, "python", "-c", METRICS)
    counted = r'^datamodels_explorer_requests_total\{route="/api/v1/runs",status="200"\} (\S+)'
    assert float(re.search(counted, text, re.MULTILINE)[1]) >= 1
