"""Runs on a cluster: undisturbed, disturbed by all that can go wrong, and submitted again."""

import json
import os
import random
import subprocess
import sys

import pytest

from datamodels.runners.cluster import templates
from tests.cluster.place import ROOT, each_once, lds, run, until
from tests.cluster.specs import written

EVALUATE = {"subsets": 100, "models": 10}


@pytest.fixture(scope="module", autouse=True)
def tools(running):
    running.make_tools()


def test_a_run_ends_as_on_one_machine(running, tmp_path):
    namespace = running.namespace
    path, spec = written(tmp_path, "digits", name="calm", m=3000, evaluate=EVALUATE)
    said = namespace.datamodels("submit", path, "--watch").stdout
    assert f"run {spec.run} is submitted" in said and f"{spec.run}  done" in said
    (job,) = namespace.get("jobs", f"{templates.RUN_LABEL}={spec.run},{templates.COMPONENT}=trainer")
    assert job["spec"]["completions"] == 4 and job["status"]["completedIndexes"] == "0-3"
    each_once(running, spec.run, spec.models)

    value, low, high = lds(namespace.datamodels("logs", spec.run).stdout)
    command = [sys.executable, "-m", "datamodels", "run", path, "--home", tmp_path / "home", "--quiet"]
    environ = os.environ | {"PYTHONPATH": f"{ROOT / 'shared'}:{ROOT}"}
    here, here_low, here_high = lds(run(command, seconds=600, env=environ).stdout)
    print(f"LDS {value} ({low} to {high}) on the cluster, {here} ({here_low} to {here_high}) here")
    assert here_low <= value <= here_high and low <= here <= high

    pods = [pod["metadata"]["uid"] for pod in namespace.get("pods")]
    assert "is done already; nothing to do" in namespace.datamodels("submit", path).stdout
    assert [pod["metadata"]["uid"] for pod in namespace.get("pods")] == pods


def test_a_run_survives_the_loss_of_every_part_of_it(running, tmp_path):
    namespace, dice = running.namespace, random.Random(0)
    path, spec = written(tmp_path, "digits", name="chaos", m=8000, evaluate=EVALUATE)
    namespace.datamodels("submit", path)
    parts = spec.models // spec.sub_chunk

    def grown_to(share):
        """Parts, once there are so many; then the run still goes on, or what is lost now would be lost on nobody."""
        found = until(lambda: (p := running.committed(spec.run)) and len(p) >= share * parts and p, "no progress", 400)
        assert len(found) < parts, "the run was over before it was disturbed; make it larger"
        return found

    before = grown_to(0.05)
    for how in (["--wait=false"], ["--force", "--grace-period=0", "--wait=false"]):
        namespace.kubectl("delete", "pod", dice.choice(namespace.pods("trainer", spec.run)), *how)
    before = kept(before, grown_to(0.15))
    namespace.kill(namespace.pods("aggregator")[0])
    before = kept(before, grown_to(0.3))
    namespace.kill(namespace.pods("driver", spec.run)[0])
    before = kept(before, grown_to(0.45))
    drain(namespace, f"{templates.RUN_LABEL}={spec.run},{templates.COMPONENT}=trainer")
    kept(before, grown_to(0.55))

    said = namespace.datamodels("submit", path, "--watch").stdout
    assert "goes on already; nothing to do" in said and f"{spec.run}  done" in said
    each_once(running, spec.run, spec.models)
    assert set(before) <= set(running.committed(spec.run))
    assert lds(namespace.datamodels("logs", spec.run).stdout)[0] > 0.85


def kept(before, now):
    assert set(before) <= set(now)
    return now


def drain(namespace, selector):
    """Drains the nodes that trainers are on of them, as whoever takes a node away does, and gives the nodes back."""
    pods = json.loads(namespace.kubectl("get", "pods", "-l", selector, "-o", "json"))["items"]
    nodes = {pod["spec"]["nodeName"] for pod in pods if pod["spec"].get("nodeName")}
    assert nodes
    try:
        for node in nodes:
            drained = run(
                ["kubectl", "drain", node, f"--pod-selector={selector}", "--delete-emptydir-data", "--timeout=120s"]
            )
            assert "evicted" in drained.stdout
    finally:
        for node in nodes:
            subprocess.run(["kubectl", "uncordon", node], check=True, stdout=subprocess.DEVNULL)
