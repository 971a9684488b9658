"""Trainers and fitters wait in a queue of Kueue, where the cluster has it."""

import json
import time

import pytest

from datamodels.runners.cluster import templates
from datamodels.runners.cluster.api import KUEUE
from tests.cluster.place import SMALL, each_once, run, until
from tests.cluster.specs import written

QUEUE = "trainers"
TWO = {"cpu": "40m", "memory": "256Mi"}
"""What two trainers ask for."""
START_SECONDS = 5


class Queue:
    """A LocalQueue of the release's namespace, with room for two trainers."""

    def __init__(self, namespace, version):
        self.namespace, self.name, self.version = namespace, namespace.name, version

    def make(self):
        flavor = {"name": self.name, "resources": [{"name": k, "nominalQuota": v} for k, v in TWO.items()]}
        group = {"coveredResources": list(TWO), "flavors": [flavor]}
        self.namespace.apply(
            self._thing("ResourceFlavor", self.name),
            self._thing("ClusterQueue", self.name, namespaceSelector={}, resourceGroups=[group]),
            self._thing("LocalQueue", QUEUE, clusterQueue=self.name),
        )

    def _thing(self, kind, name, **spec):
        return {"apiVersion": f"{KUEUE}/{self.version}", "kind": kind, "metadata": {"name": name}, "spec": spec}

    def set(self, policy):
        """None lets Jobs in; Hold lets no more in; HoldAndDrain takes room from those that are in, too."""
        patch = json.dumps({"spec": {"stopPolicy": policy}})
        self.namespace.kubectl("patch", "clusterqueue", self.name, "--type=merge", "--patch", patch)

    def remove(self):
        for kind in ("clusterqueue", "resourceflavor"):
            self.namespace.kubectl("delete", kind, self.name, "--wait=false", check=False)


@pytest.fixture(scope="module")
def queue(running):
    found = run(["kubectl", "get", "--raw", f"/apis/{KUEUE}"], check=False)
    if found.returncode:
        pytest.skip("the cluster has no Kueue")
    made = Queue(running.namespace, json.loads(found.stdout)["preferredVersion"]["version"])
    made.make()
    running.make_tools()
    yield made
    made.remove()


def jobs(running, spec, component):
    return running.namespace.get("jobs", f"{templates.RUN_LABEL}={spec.run},{templates.COMPONENT}={component}")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (QUEUE, r".*maximum capacity.*; lower jobs.trainer.parallelism.* or set jobs.kueue.minParallelism"),
        ("nowhere", r"LocalQueue nowhere doesn't exist; create it"),
    ],
)
def test_a_run_says_what_it_waits_for(running, queue, tmp_path, name, words):
    running.upgrade(jobs={"kueue": {"queue": name}})
    path, spec = written(tmp_path, "digits", name=f"wait-{name}", m=3000, evaluate={"subsets": 0})
    running.namespace.datamodels("submit", path)
    running.status_line(spec.run, f"trainer: waits in queue {name} of Kueue: {words}")
    assert not running.namespace.pods("trainer", spec.run)
    running.namespace.datamodels("cancel", spec.run)


def test_a_run_starts_with_the_trainers_there_is_room_for_and_survives_their_eviction(running, queue, tmp_path):
    running.upgrade(jobs={"kueue": {"queue": QUEUE, "minParallelism": 1}})
    path, spec = written(tmp_path, "digits", name="queued", m=6000, evaluate={"subsets": 0})
    namespace = running.namespace
    namespace.datamodels("submit", path)
    before = until(lambda: running.committed(spec.run), "no progress")
    (job,) = jobs(running, spec, "trainer")
    assert job["spec"]["completions"] == 6 and job["spec"]["parallelism"] == 2

    queue.set("HoldAndDrain")
    until(lambda: not namespace.pods("trainer", spec.run), "trainers are not evicted")
    running.status_line(spec.run, f"trainer: waits in queue {QUEUE} of Kueue")
    evicted = running.committed(spec.run)
    assert set(before) <= set(evicted) and len(evicted) < spec.models // spec.sub_chunk
    queue.set("None")
    assert f"{spec.run}  done" in namespace.datamodels("submit", path, "--watch").stdout
    assert set(evicted) <= set(running.committed(spec.run))
    each_once(running, spec.run, spec.models)


def test_a_fitter_may_queue_for_longer_than_it_may_take_to_start(running, queue, tmp_path):
    fitter = {"enabled": True, "startSeconds": START_SECONDS}
    running.upgrade(
        jobs={"kueue": {"queue": QUEUE, "minParallelism": 1}, "fitter": fitter}, fitter={"resources": SMALL}
    )
    path, spec = written(tmp_path, "digits", name="fit-queued", m=3000, evaluate={"subsets": 0})
    running.namespace.datamodels("submit", path)
    until(lambda: running.namespace.ready("trainer", spec.run), "no trainer")
    queue.set("Hold")
    (job,) = until(lambda: jobs(running, spec, "fitter"), "no fitter's Job")
    assert job["spec"]["suspend"]
    running.status_line(spec.run, f"fitter: waits in queue {QUEUE} of Kueue: ")
    time.sleep(2 * START_SECONDS)
    queue.set("None")
    assert f"{spec.run}  done" in running.namespace.datamodels("submit", path, "--watch").stdout
