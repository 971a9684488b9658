"""Where the tests take place: namespaces, an object store, releases of the chart, and pods to ask from."""

import contextlib
import dataclasses
import itertools
import json
import os
import re
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
import yaml

from datamodels.runners.cluster.templates import COMPONENT, RUN_LABEL
from tests.helpers.waiting import LIMIT

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm" / "datamodels"
VERSION = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
IMAGE = os.environ.get("DATAMODELS_TEST_IMAGE", "datamodels")
"""Repository of the images that `make images IMAGE=...` made, on the nodes or where nodes can pull them."""

VALUES = os.environ.get("DATAMODELS_TEST_VALUES", "")
"""File of values that this cluster asks for, e.g. imagePullSecrets, or where its DNS is."""

RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}
POD_SECURITY = {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}}
CONTAINER_SECURITY = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "anyone", "AWS_SECRET_ACCESS_KEY": "anything"}
SMALL = {"requests": {"cpu": "20m", "memory": "128Mi"}}
COMMITTED = """
import json, sys
from datamodels.settings import StoreSettings
from datamodels.storage import keys, open_store
parts = open_store(StoreSettings.load()).list(keys.parts(sys.argv[1]))
print(json.dumps(sorted(parts)))
"""
FREEZE = """
import os, signal, sys
for process in filter(str.isdecimal, os.listdir("/proc")):
    if int(process) not in (1, os.getpid()):
        os.kill(int(process), getattr(signal, sys.argv[1]))
"""
"""Sends a signal to all processes of a pod but the first: SIGSTOP, and then SIGCONT."""
METRICS = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:9090/metrics').read().decode())"
LISTED = """
import json, sys
from datamodels.aggregate import manifest
from datamodels.settings import StoreSettings
from datamodels.storage import open_store
snapshot = manifest.read_newest(open_store(StoreSettings.load()), sys.argv[1])
print(json.dumps([[part.key, part.first, part.last, part.rows] for part in snapshot.parts]))
"""


def run(command, *, check=True, input=None, env=None):
    done = subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        input=input,
        timeout=LIMIT,
        env=env,
        check=False,
    )
    if check and done.returncode:
        raise AssertionError(f"{' '.join(map(str, command))[:300]} ended with {done.returncode}: {done.stderr[-3000:]}")
    return done


def until(condition, what, *, every=0.5):
    """What `condition` returns, once that is true. Fails with `what`, called for more words, when it takes too long."""
    end = time.monotonic() + LIMIT
    while not (found := condition()):
        if time.monotonic() > end:
            pytest.fail(f"{what() if callable(what) else what}: not within {LIMIT:.0f} s")
        time.sleep(every)
    return found


@dataclasses.dataclass(frozen=True)
class Namespace:
    name: str

    @classmethod
    @contextlib.contextmanager
    def made(cls, purpose):
        made = cls(f"dm-test-{purpose.replace('_', '-').strip('-')}-{uuid.uuid4().hex[:6]}")
        labels = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": made.name, "labels": RESTRICTED}}
        run(["kubectl", "apply", "-f", "-"], input=json.dumps(labels))
        try:
            yield made
        finally:
            run(["kubectl", "delete", "namespace", made.name, "--wait=false"], check=False)

    def kubectl(self, *arguments, check=True, input=None):
        """Standard output of kubectl in this namespace."""
        return run(["kubectl", "-n", self.name, *arguments], check=check, input=input).stdout

    def apply(self, *things):
        self.kubectl("apply", "-f", "-", input="---\n".join(yaml.safe_dump(thing) for thing in things))

    def get(self, kind, selector=""):
        chosen = ["-l", selector] if selector else []
        return json.loads(self.kubectl("get", kind, *chosen, "-o", "json"))["items"]

    def pods(self, component, run=None):
        """Pods of a component that are neither ended nor about to go."""
        found = self.get("pods", f"{COMPONENT}={component}" + (f",{RUN_LABEL}={run}" if run else f",!{RUN_LABEL}"))
        return [
            pod["metadata"]["name"]
            for pod in found
            if pod["status"].get("phase") in ("Pending", "Running") and "deletionTimestamp" not in pod["metadata"]
        ]

    def ready(self, component, run=None):
        names = self.pods(component, run)
        found = [pod for pod in self.get("pods", f"{COMPONENT}={component}") if pod["metadata"]["name"] in names]
        return [
            pod["metadata"]["name"]
            for pod in found
            if any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", []))
        ]

    def quota(self, **hard):
        """Set the namespace's quota, and wait until it holds."""
        self.apply({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "quota"}, "spec": {"hard": hard}})
        until(lambda: self.get("resourcequota")[0].get("status", {}).get("hard") == hard, "the quota")

    def kill(self, pod):
        """By SIGKILL, with no time to end anything."""
        self.kubectl("delete", "pod", pod, "--force", "--grace-period=0", "--wait=false", check=False)

    def make_pod(
        self,
        name,
        *,
        code="import signal; signal.pause()",
        env=None,
        labels=None,
        image=f"{IMAGE}:{VERSION}",
        seconds=180,
    ):
        """Make a pod of our image, and wait until it runs; by default one that does nothing, to run commands in."""
        container = {
            "name": "c",
            "image": image,
            "command": ["python", "-c", code],
            "env": [{"name": key, "value": value} for key, value in (env or {}).items()],
            "securityContext": CONTAINER_SECURITY,
            "resources": SMALL,
            "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
        }
        spec = {
            "securityContext": POD_SECURITY,
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 1,
            "containers": [container],
            "volumes": [{"name": "tmp", "emptyDir": {}}],
        }
        metadata = {"name": name, "labels": labels or {}}
        self.apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
        self.kubectl("wait", "--for=condition=Ready", f"pod/{name}", f"--timeout={seconds}s")

    def within(self, pod, *command, check=True):
        """What a command in a pod prints."""
        return self.kubectl("exec", pod, "--", *command, check=check)

    def tried(self, pod, *command):
        """What a command in a pod, which has to fail, complains of."""
        done = run(["kubectl", "-n", self.name, "exec", pod, "--", *command], check=False)
        assert done.returncode != 0, done.stdout
        return done.stderr

    def datamodels(self, *arguments, check=True):
        """Our own command, from here."""
        command = [sys.executable, "-m", "datamodels", *arguments, "--namespace", self.name]
        return run(command, check=check, env=os.environ | {"PYTHONPATH": f"{ROOT / 'shared'}:{ROOT}"})


def make_store(namespace):
    """An S3 server with right conditional writes and no access control: `DevStore` of the chart, outside of it.

    It is a child of the pod's first process, because that one cannot be stopped by a signal; see FREEZE.
    """
    labels = {"app": "store"}
    container = {
        "name": "store",
        "image": f"{IMAGE}-devstore:{VERSION}",
        "command": ["python", "-c", "import subprocess as s; s.run(['python', '/opt/datamodels/devstore.py'])"],
        "securityContext": CONTAINER_SECURITY,
        "resources": SMALL,
        "ports": [{"containerPort": 4566}],
        "readinessProbe": {"httpGet": {"path": "/datamodels", "port": 4566}, "periodSeconds": 2},
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    }
    spec = {
        "securityContext": POD_SECURITY,
        "terminationGracePeriodSeconds": 1,
        "containers": [container],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
        "automountServiceAccountToken": False,
    }
    namespace.apply(
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "store", "labels": labels}, "spec": spec},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "store"},
            "spec": {"selector": labels, "ports": [{"port": 4566}]},
        },
    )
    namespace.kubectl("wait", "--for=condition=Ready", "pod/store", "--timeout=180s")


def for_this_cluster(values):
    """Values of the chart, with those that the cluster asks for."""
    return merged(values, yaml.safe_load(Path(VALUES).read_text()) if VALUES else {})


def labels_of(component):
    """Of a pod that NetworkPolicies take for one of a component."""
    return {"app.kubernetes.io/name": "datamodels", "app.kubernetes.io/instance": "dm", COMPONENT: component}


class Release:
    """One release `dm` of the chart in a namespace, over a prefix of the store that is the namespace's own."""

    def __init__(self, namespace, store):
        self.namespace = namespace
        endpoint = f"http://store.{store.name}.svc.cluster.local:4566"
        self.store_env = CREDENTIALS | {
            "DATAMODELS_STORE_URL": f"s3://datamodels/{namespace.name}",
            "DATAMODELS_STORE_S3_ENDPOINT": endpoint,
        }
        one = {"replicas": 1, "resources": SMALL}
        self.values = {
            "image": {"repository": IMAGE},
            "store": {"url": self.store_env["DATAMODELS_STORE_URL"], "endpoint": endpoint, "existingSecret": "store"},
            "networkPolicy": {"store": {"cidrs": [], "namespaces": [store.name], "ports": [4566]}},
            "sampler": one,
            "aggregator": one,
            "fitter": one,
            "query": {"resources": SMALL},
            "jobs": {
                "driver": {"resources": SMALL},
                "trainer": {"resources": SMALL, "terminationGracePeriodSeconds": 30},
            },
        }
        self.values = for_this_cluster(self.values)

    def make_secret(self):
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "store"}, "stringData": CREDENTIALS}
        self.namespace.apply(secret)

    def install(self, chart=CHART, **values):
        self.make_secret()
        text = yaml.safe_dump(merged(self.values, values))
        self.helm("install", "dm", chart, "--values", "-", "--wait", "--timeout=5m", input=text)

    def upgrade(self, *arguments, chart=CHART, wait=True, **values):
        """To the values of the install, and these."""
        text = yaml.safe_dump(merged(self.values, values))
        waiting = ["--wait", "--timeout=5m"] if wait else []
        self.helm("upgrade", "dm", chart, "--reset-values", "--values", "-", *waiting, *arguments, input=text)

    def helm(self, *arguments, input=None):
        return run(["helm", *arguments, "--namespace", self.namespace.name], input=input).stdout

    def test(self):
        """`helm test`, with what its pod says where that fails."""
        done = run(["helm", "test", "dm", "--timeout=3m", "-n", self.namespace.name], check=False)
        logs = self.namespace.kubectl("logs", "dm-test", "--all-containers", check=False)
        assert done.returncode == 0 and "Succeeded" in done.stdout, f"{done.stderr} {logs}"

    def make_tools(self, name="tools", labels=None):
        """A pod that is a client of the services and of the store; without labels it belongs to no release."""
        services = {
            f"DATAMODELS_CLIENT_{service.upper()}": f"dns:///dm-{service}.{self.namespace.name}:50051"
            for service in ("sampler", "aggregator", "fitter", "query")
        }
        self.namespace.make_pod(name, env=self.store_env | services, labels=labels)

    def committed(self, run):
        """Keys of the parts that the store holds of a run."""
        return json.loads(self.namespace.within("tools", "python", "-c", COMMITTED, run))

    def listed(self, run):
        """[key, first, last, rows] of the parts in the newest manifest."""
        return json.loads(self.namespace.within("tools", "python", "-c", LISTED, run))

    def status(self, run, check=True):
        """Lines of `datamodels status`."""
        return self.namespace.datamodels("status", run, check=check).stdout.splitlines()

    def status_line(self, run, words):
        """Lines of `datamodels status` that a pattern matches from their start, once there are any."""
        lines = []

        def found():
            lines[:] = self.status(run)
            return [line for line in lines if re.match(words, line)]

        return until(found, lambda: f"{words} is not in {lines}")


def merged(first, second):
    """`second` over `first`, as Helm does with values."""
    if not (isinstance(first, dict) and isinstance(second, dict)):
        return second
    return first | {key: merged(first[key], value) if key in first else value for key, value in second.items()}


def lds(text):
    """(LDS, low, high) of a summary."""
    found = re.search(r"^LDS +([\d.]+) +\(95% interval ([\d.]+) to ([\d.]+)", text, re.MULTILINE)
    assert found, text
    return tuple(float(part) for part in found.groups())


def each_once(release, run, models):
    """Every model of a run is listed exactly once, and the store has no part that is not listed."""
    listed = release.listed(run)
    spans = sorted((first, last) for _, first, last, _ in listed)
    assert spans[0][0] == 0 and spans[-1][1] == models
    assert all(before[1] == after[0] for before, after in itertools.pairwise(spans)), spans
    assert sum(rows for *_, rows in listed) == models
    assert sorted(key for key, *_ in listed) == release.committed(run)
