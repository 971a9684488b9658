"""Drive runs as in a cluster: real services, drivers and trainers, with a small fake of the Kubernetes API.

`Controller` replaces the Job controller: it starts a trainer for each index of a Job, with the arguments that the
driver filled in.
"""

import collections
import contextlib
import os
import subprocess
import sys
import threading
from concurrent import futures

import pytest

from datamodels.runners.local import LocalRunner
from datamodels.settings import ClusterSettings, StoreSettings, TrainerSettings
from tests.runners.cluster.conftest import templates


class Controller(threading.Thread):
    """Starts the trainers of every Indexed Job, all indexes at once, and ends the Job as Kubernetes would.

    hold       set it to let trainers start
    addresses  folder where each trainer writes its address, while it lives
    """

    def __init__(self, fake, environ, addresses):
        super().__init__(daemon=True)
        self.fake, self.environ, self.addresses = fake, environ, addresses
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
        name = job["metadata"]["name"]
        (container,) = job["spec"]["template"]["spec"]["containers"]
        command = [sys.executable, *container["command"][1:], *container["args"]]
        # Paths and addresses of the template are those of a cluster; what the driver adds is of the run.
        added = {e["name"]: e["value"] for e in container["env"] if e["name"] == f"{TrainerSettings.prefix}_SPEC"}

        def end(index):
            with serving_at(self.addresses / f"{name}-{index}.json") as where:
                environ = os.environ | self.environ | added | where | {"JOB_COMPLETION_INDEX": str(index)}
                return subprocess.run(command, env=environ, stderr=subprocess.DEVNULL, check=False).returncode

        indexes = range(job["spec"]["completions"])
        self.fake.set_status(name, active=len(indexes), ready=len(indexes))
        with futures.ThreadPoolExecutor(len(indexes)) as pool:
            codes = list(pool.map(end, indexes))
        self.indexes.update(indexes)
        kind = "Failed" if any(codes) else "Complete"
        failed = ",".join(str(i) for i, code in enumerate(codes) if code)
        self.fake.finish(name, kind, failedIndexes=failed)


@contextlib.contextmanager
def serving_at(file):
    """Yield the setting by which a process writes its address into a file, and delete the file afterwards."""
    try:
        yield {"DATAMODELS_SERVE_ADDRESS_FILE": str(file)}
    finally:
        file.unlink(missing_ok=True)


@contextlib.contextmanager
def place_of(folder, api):
    """Start services and mount templates. Yields (environment of drivers and trainers, Controller).

    Services and trainers write their addresses into `folder`/home/addresses.
    """
    for name, text in templates().items():
        (folder / name).write_text(text)
    store = StoreSettings(url=f"file://{folder / 'store'}")
    with LocalRunner(folder / "home", store=store, trainers=1).services() as services:
        environ = store.environ() | services.environ()
        controller = Controller(api, environ, folder / "home" / "addresses")
        controller.start()
        yield environ | {"KUBECONFIG": api.kubeconfig, "DATAMODELS_CLUSTER_TEMPLATES": str(folder)}, controller
        controller.stop.set()
        controller.join()


@pytest.fixture
def place(tmp_path, api):
    with place_of(tmp_path, api) as made:
        yield made


def drive(environ, job):
    """Start the process of a driver's Job."""
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
