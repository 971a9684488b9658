"""A driver, real services and real trainers, with a small API in place of Kubernetes' own.

`Controller` plays the Job controller: it starts a trainer for each index of a Job, with the arguments that the driver
filled in. What the cluster alone can show is in tests marked `cluster`.
"""

import collections
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import yaml

from datamodels.aggregate import manifest
from datamodels.errors import ExitCode
from datamodels.fit import store as fits
from datamodels.runners.cluster import runs, templates
from datamodels.runners.local import LocalRunner
from datamodels.settings import ClusterSettings, StoreSettings
from datamodels.spec import parse
from datamodels.storage.local import LocalStore
from tests.runners.cluster.conftest import api, cluster  # noqa: F401 - fixtures
from tests.runners.cluster.conftest import templates as chart

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.timeout(300)


class Controller(threading.Thread):
    """Starts the trainers of every Indexed Job, one index after the other, and ends the Job as Kubernetes would.

    hold  set it to let trainers start
    """

    def __init__(self, fake, environ):
        super().__init__(daemon=True)
        self.fake, self.environ = fake, environ
        self.hold = threading.Event()
        self.stop = threading.Event()
        self.indexes = collections.Counter()

    def run(self):
        while not self.stop.wait(0.1):
            with self.fake.lock:
                jobs = [j for j in self.fake.objects["jobs"].values() if "completionMode" in j["spec"]]
            for job in jobs:
                if "status" not in job and self.hold.is_set():
                    self.train(job)

    def train(self, job):
        (container,) = job["spec"]["template"]["spec"]["containers"]
        codes = []
        for index in range(job["spec"]["completions"]):
            environ = os.environ | self.environ | {"JOB_COMPLETION_INDEX": str(index)}
            command = [sys.executable, *container["command"][1:], *container["args"]]
            codes.append(subprocess.run(command, env=environ, stderr=subprocess.DEVNULL, check=False).returncode)
            self.indexes[index] += 1
        kind = "Failed" if any(codes) else "Complete"
        failed = ",".join(str(i) for i, code in enumerate(codes) if code)
        self.fake.finish(job["metadata"]["name"], kind, failedIndexes=failed)


@pytest.fixture
def place(tmp_path, api):  # noqa: F811
    """(environment of drivers and trainers, Controller), with services up and templates mounted."""
    for name, text in chart().items():
        (tmp_path / name).write_text(text)
    store = StoreSettings(url=f"file://{tmp_path / 'store'}")
    with LocalRunner(tmp_path / "home", store=store, trainers=1).services() as services:
        environ = store.environ() | services.environ()
        controller = Controller(api, environ)
        controller.start()
        yield environ | {"KUBECONFIG": api.kubeconfig, "DATAMODELS_CLUSTER_TEMPLATES": str(tmp_path)}, controller
        controller.stop.set()
        controller.join()


def drive(environ, job):
    (container,) = job["spec"]["template"]["spec"]["containers"]
    spec = {e["name"]: e["value"] for e in container["env"] if e["name"] == f"{ClusterSettings.prefix}_SPEC"}
    owner = {
        "DATAMODELS_CLUSTER_OWNER": job["metadata"]["name"],
        "DATAMODELS_CLUSTER_OWNER_UID": job["metadata"]["uid"],
    }
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(
        [sys.executable, "-m", "datamodels", "drive"], env=os.environ | environ | spec | owner, **pipes
    )


def test_a_submitted_run_goes_on_after_its_driver_was_killed(api, cluster, place, tmp_path, eventually):  # noqa: F811
    environ, controller = place
    base = yaml.safe_load((ROOT / "deploy" / "specs" / "breast-cancer.yaml").read_text())
    spec = parse(
        base
        | {"m": 180, "chunk": 100, "evaluate": {"subsets": 10, "models": 2}, "fit": {"lambdas": 3, "tolerance": 0.1}}
    )
    runs.submit(cluster, spec)
    job = api.objects["jobs"][spec.run]
    train = templates.trainer_name(spec)
    with drive(environ, job) as first:
        eventually(lambda: train in api.objects["jobs"], seconds=120)
        first.send_signal(signal.SIGKILL)
    uid = api.objects["jobs"][train]["metadata"]["uid"]
    controller.hold.set()
    with drive(environ, job) as second:
        out, err = second.communicate(timeout=240)
    assert second.returncode == ExitCode.DONE, err
    assert api.objects["jobs"][train]["metadata"]["uid"] == uid
    assert controller.indexes == {0: 1, 1: 1}
    store = LocalStore(tmp_path / "store")
    found = [
        m for part in manifest.read_newest(store, spec.run).parts for m in range(part.models.start, part.models.stop)
    ]
    assert sorted(found) == list(range(spec.models))
    assert fits.read_newest_fit(store, spec.run).targets == 169
    assert "LDS" in out and json.loads(err.splitlines()[-1])["event"] == "done"
