"""A small real Kubernetes API: HTTP on a port of its own, for the few calls that are made."""

import contextlib
import copy
import functools
import itertools
import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from datamodels.run import specs
from datamodels.runners.cluster.api import KUEUE, connect
from datamodels.runners.cluster.templates import COMPONENT, INSTANCE, RUN_LABEL
from datamodels.settings import ClusterSettings
from tests.helm.conftest import VALUES, render

NAMESPACE = "ns"
TICK = 0.02
"""Seconds between two looks of a watch at the objects."""
FIELDS = {
    "metadata.name": ("metadata", "name"),
    "status.phase": ("status", "phase"),
    "involvedObject.kind": ("involvedObject", "kind"),
    "involvedObject.name": ("involvedObject", "name"),
    "type": ("type",),
}


FINISHED = {
    "metadata": {"name": "finished", "labels": {}, "managedFields": ["x" * 3000]},
    "spec": {"nodeName": "node", "containers": [{"name": "trainer", "env": ["x" * 3000]}]},
    "status": {"phase": "Succeeded", "message": "x" * 3000},
}
"""A pod of about 9 kB, the size of a trainer's on a real cluster."""


class FakeApi:
    """Keeps objects as the API server does, with names, uids and deletion; tests play the controllers.

    kueue     whether Kueue is installed
    refusals  {(method, kind): (status, message)}, answered in place of what was asked, once
    page      objects of one page of a list
    finished  pods that have succeeded, beyond those in `objects`; only a list of finished pods has them
    expired   whether versions to watch from are too old; reset by the next watch
    sent      bytes of answers about lists, and of watches
    """

    def __init__(self):
        self.objects = {kind: {} for kind in ("jobs", "pods", "events", "configmaps", "workloads")}
        self.kueue = False
        self.logs = {}
        self.refusals = {}
        self.calls = []
        self.page = 2
        self.finished = 0
        self.expired = False
        self.sent = 0
        self.closed = threading.Event()
        self._versions = {}
        self.lock = threading.RLock()
        self._numbers = itertools.count(1)
        self._version_numbers = itertools.count(1)

    def add(self, kind, thing):
        with self.lock:
            number = next(self._numbers)
            thing = copy.deepcopy(thing)
            thing["metadata"].setdefault("uid", f"uid-{number}")
            thing["metadata"].setdefault("creationTimestamp", f"2026-01-01T00:00:{number:02}Z")
            self.objects[kind][thing["metadata"]["name"]] = thing
            return thing

    def remove_job(self, name):
        """As the garbage collector does: with pods, and the Jobs that it owned."""
        with self.lock:
            uid = self.objects["jobs"].pop(name)["metadata"]["uid"]
            for pod in list(self.objects["pods"]):
                if self.objects["pods"][pod]["metadata"]["labels"].get("batch.kubernetes.io/job-name") == name:
                    del self.objects["pods"][pod]
            for child, job in list(self.objects["jobs"].items()):
                if uid in [owner["uid"] for owner in job["metadata"].get("ownerReferences", [])]:
                    self.remove_job(child)

    def finish(self, name, kind, **status):
        """Ends a Job: kind is Complete or Failed."""
        condition = {"type": kind, "status": "True"} | status.pop("condition", {})
        with self.lock:
            self.objects["jobs"][name]["status"] = {"conditions": [condition]} | status

    def set_status(self, name, **status):
        with self.lock:
            self.objects["jobs"][name]["status"] = status

    def add_pod(self, name, job="", status=None, index=None, **labels):
        labels |= {"batch.kubernetes.io/job-name": job} if job else {}
        if index is not None:
            labels["batch.kubernetes.io/job-completion-index"] = str(index)
        container = {"name": "c", "ports": [{"name": "grpc", "containerPort": 50051}]}
        spec = {"containers": [container]}
        return self.add("pods", {"metadata": {"name": name, "labels": labels}, "spec": spec, "status": status or {}})

    def queue(self, job, message):
        """As Kueue does, with a Job that it does not admit."""
        labels = {f"{KUEUE}/job-uid": self.objects["jobs"][job]["metadata"]["uid"]}
        condition = {"type": "QuotaReserved", "status": "False", "message": message}
        self.add(
            "workloads", {"metadata": {"name": f"job-{job}", "labels": labels}, "status": {"conditions": [condition]}}
        )

    def warn(self, kind, name, reason, message):
        event = {"involvedObject": {"kind": kind, "name": name}, "type": "Warning", "reason": reason}
        self.add("events", event | {"message": message, "metadata": {"name": f"{name}.{next(self._numbers)}"}})

    def answer(self, method, kind, name, query, body):
        """(status, object)"""
        with self.lock:
            self.calls.append((method, kind, name))
            if (method, kind) in self.refusals:
                status, message = self.refusals.pop((method, kind))
                return status, {"kind": "Status", "message": message}
            found = self.objects[kind].get(name)
            if method == "POST":
                if body["metadata"]["name"] in self.objects[kind]:
                    return 409, {"message": f'jobs.batch "{body["metadata"]["name"]}" already exists'}
                return 201, self.add(kind, body)
            if not name:
                return 200, self._listed(kind, query)
            if found is None:
                return 404, {"message": f'{kind}.batch "{name}" not found'}
            if method == "PATCH":
                found["spec"] |= body["spec"]
            if method == "DELETE":
                found["metadata"]["deletionTimestamp"] = "2026-01-01T00:01:00Z"
                threading.Timer(0.2, self._swept, (name,)).start()
            return 200, found

    def _swept(self, name):
        with self.lock, contextlib.suppress(KeyError):
            self.remove_job(name)

    def _listed(self, kind, query):
        found = list(self._selection(kind, query).values())
        if kind == "pods" and "status.phase!=Succeeded" not in query.get("fieldSelector", ""):
            found += [FINISHED] * self.finished
        start = int(query.get("continue", "0"))
        rest = start + self.page < len(found)
        metadata = {"resourceVersion": self._version(kind, query)}
        metadata |= {"continue": str(start + self.page)} if rest else {}
        return {"items": found[start : start + self.page], "metadata": metadata}

    def _selection(self, kind, query):
        return {name: o for name, o in self.objects[kind].items() if self._selected(o, query)}

    def _version(self, kind, query):
        """Remembers what a query finds now, and returns a number for it."""
        number = str(next(self._version_numbers))
        self._versions[number] = {name: json.dumps(o) for name, o in self._selection(kind, query).items()}
        return number

    def watched(self, kind, query):
        """Yields changes after a version as they happen, and a bookmark after each."""
        known = self._versions[query["resourceVersion"]]
        ends = time.monotonic() + float(query["timeoutSeconds"])
        while time.monotonic() < ends and not self.closed.wait(TICK):
            if self.expired:
                self.expired = False
                yield {"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "too old", "metadata": {}}}
                return
            with self.lock:
                number = self._version(kind, query)
            now = self._versions[number]
            for name in [name for name in known if name not in now]:
                yield self._event("DELETED", known[name], number)
            for name in [name for name in now if now[name] != known.get(name)]:
                yield self._event("MODIFIED" if name in known else "ADDED", now[name], number)
            if now != known:
                yield self._event("BOOKMARK", '{"metadata": {}}', number)
            known = now

    @staticmethod
    def _event(kind, text, number):
        thing = json.loads(text)
        thing["metadata"]["resourceVersion"] = number
        return {"type": kind, "object": thing}

    def _selected(self, thing, query):
        labels = thing["metadata"].get("labels", {})
        for term in filter(None, query.get("labelSelector", "").split(",")):
            key, equals, value = term.partition("=")
            if (key.removeprefix("!") in labels) if term.startswith("!") else (labels.get(key) != value or not equals):
                return False
        for term in filter(None, query.get("fieldSelector", "").split(",")):
            key, unequal, value = re.fullmatch(r"([\w.]+?)(!?)=(.*)", term).groups()
            place = thing
            for step in FIELDS[key]:
                place = place.get(step, {})
            if (place == value) == bool(unequal):
                return False
        return True


class _Handler(BaseHTTPRequestHandler):
    api: FakeApi

    def _serve(self):
        split = urlsplit(self.path)
        query = {key: values[-1] for key, values in parse_qs(split.query).items()}
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else {}
        path = re.fullmatch(
            rf"/(?:apis/batch/v1|api/v1|apis/{KUEUE}/v1beta7)/namespaces/{NAMESPACE}/(\w+)(?:/([^/]+))?(/log)?",
            split.path,
        )
        if split.path == "/apis/":
            groups = {"batch": "v1"} | ({KUEUE: "v1beta7"} if self.api.kueue else {})
            status, answer = (
                200,
                {"groups": [{"name": n, "preferredVersion": {"version": v}} for n, v in groups.items()]},
            )
        elif path is None:
            status, answer = 404, {"message": f"no such path {split.path}"}
        elif path[3] and ("GET", "log") in self.api.refusals:
            status, message = self.api.refusals.pop(("GET", "log"))
            answer = {"message": message}
        elif path[3]:
            return self._send(200, "\n".join(self.api.logs[path[2]]).encode() + b"\n", "text/plain")
        elif query.get("watch"):
            return self._stream(self.api.watched(path[1], query), path[1])
        else:
            status, answer = self.api.answer(self.command, path[1], path[2] or "", query, body)
        self._send(status, json.dumps(answer).encode(), "application/json")

    def _send(self, status, body, kind):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.api.sent += len(body)
        self.wfile.write(body)

    def _stream(self, events, kind):
        self.api.calls.append(("WATCH", kind, ""))
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            for event in events:
                line = json.dumps(event).encode() + b"\n"
                self.api.sent += len(line)
                self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
            self.wfile.write(b"0\r\n\r\n")

    do_GET = do_POST = do_PATCH = do_DELETE = _serve

    def log_message(self, *args):
        pass


@contextlib.contextmanager
def served(folder):
    """A FakeApi that is served, with a chart in it; its kubeconfig, in the folder, is the way there."""
    fake = FakeApi()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"api": fake}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u", "namespace": NAMESPACE}}],
        "current-context": "c",
    }
    fake.kubeconfig = str(folder / "kubeconfig")
    (folder / "kubeconfig").write_text(yaml.safe_dump(config))
    (jobs,) = [o for o in chart("defaults").objects if o["metadata"]["name"] == "dm-jobs"]
    fake.add("configmaps", jobs)
    yield fake
    fake.closed.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def api(tmp_path):
    with served(tmp_path) as fake:
        yield fake


@pytest.fixture
def cluster(api):
    return connect(kubeconfig=api.kubeconfig)


@functools.cache
def chart(name):
    """The chart, rendered with a file of values. Tests must not change it."""
    return render(name, VALUES[name])


@functools.cache
def _texts(name):
    return {f"{kind}.yaml": yaml.safe_dump(job) for kind, job in chart(name).templates.items()}


def templates(name="defaults"):
    """{file: YAML} of the chart, rendered with a file of values."""
    return dict(_texts(name))


def spec(**fields):
    base = {"name": "try", "dataset": {"load": "a:b"}, "trainer": {"class": "a:B"}, "m": 4000, "chunk": 100}
    return specs.parse(base | {"evaluate": {"subsets": 0}} | fields)


OWNER = ClusterSettings(owner="the-driver", owner_uid="uid-of-the-driver", namespace=NAMESPACE, fitter_start=20.0)
LABELS = {"app.kubernetes.io/name": "datamodels", INSTANCE: "dm"}


def service_labels(component):
    return LABELS | {COMPONENT: component}


__all__ = ["RUN_LABEL"]
