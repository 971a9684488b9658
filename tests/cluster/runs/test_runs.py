"""Runs on a cluster: undisturbed, disturbed by all that can go wrong, and submitted again."""

import json
import os
import random
import re
import subprocess
import sys

import pytest
import yaml

from datamodels.errors import ExitCode
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
    running.upgrade(jobs={"driver": {"gradients": True}})
    printed = namespace.datamodels("submit", path, "--watch").stdout
    assert f"run {spec.run} is submitted" in printed and f"{spec.run}  done" in printed
    (job,) = namespace.get("jobs", f"{templates.RUN_LABEL}={spec.run},{templates.COMPONENT}=trainer")
    assert job["spec"]["completions"] == 4 and job["status"]["completedIndexes"] == "0-3"
    each_once(running, spec.run, spec.models)

    value, low, high = lds(namespace.datamodels("logs", spec.run).stdout)
    command = [sys.executable, "-m", "datamodels", "run", path, "--home", tmp_path / "home", "--quiet"]
    environ = os.environ | {"PYTHONPATH": f"{ROOT / 'shared'}:{ROOT}"}
    here, here_low, here_high = lds(run(command, env=environ).stdout)
    print(f"LDS {value} ({low} to {high}) on the cluster, {here} ({here_low} to {here_high}) here")
    assert here_low <= value <= here_high and low <= here <= high

    def uids():
        return {pod["metadata"]["uid"] for pod in namespace.get("pods", f"{templates.COMPONENT}=trainer")}

    trainers = uids()
    printed = namespace.datamodels("submit", path, "--watch").stdout
    assert "is submitted again, although it was done" in printed and f"{spec.run}  done" in printed
    assert trainers >= uids(), "a run that is done was trained again"


def test_a_run_survives_the_loss_of_every_part_of_it(running, tmp_path):
    namespace, dice = running.namespace, random.Random(0)
    path, spec = written(tmp_path, "digits", name="chaos", m=8000, evaluate=EVALUATE)
    namespace.datamodels("submit", path)
    parts = spec.models // spec.sub_chunk

    def grown_to(share):
        """Parts, once there are so many; then the run still goes on, or what is lost now would be lost on nobody."""
        found = until(lambda: (p := running.committed(spec.run)) and len(p) >= share * parts and p, "no progress")
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

    printed = namespace.datamodels("submit", path, "--watch").stdout
    assert "is already submitted; nothing to do" in printed and f"{spec.run}  done" in printed
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


@pytest.fixture
def one_at_a_time(running):
    """Trainers come one after the other, and the first index that fails ends their Job. They read a ConfigMap."""
    configured(running.namespace)
    pod = {"envFrom": [{"configMapRef": {"name": "ours"}}]}
    trainer = {"parallelism": 1, "backoffLimitPerIndex": 0, "maxFailedIndexes": 0, "pod": pod}
    running.upgrade(jobs={"trainer": trainer})
    yield
    running.upgrade()


def configured(namespace, **settings):
    namespace.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "ours"}, "data": settings})


def test_a_run_that_failed_in_part_is_topped_up(running, one_at_a_time, tmp_path):
    namespace = running.namespace
    path, spec = written(tmp_path, "digits", name="in-part", m=3000, evaluate=EVALUATE)
    namespace.datamodels("submit", path)
    until(lambda: running.committed(spec.run), "no progress")
    configured(namespace, DATAMODELS_TRAINER_THREADS="many")  # the trainers that start from now on are wrong
    failed = namespace.datamodels("submit", path, "--watch", check=False)
    (last,) = failed.stderr.splitlines()
    print(last)
    assert failed.returncode == ExitCode.CONFIG
    assert re.search(
        r"trainers failed \([12] of 4 indexes done, 1 failed: [12]\), the last because: .*DATAMODELS_TRAINER_THREADS",
        last,
    )
    assert "what is committed is kept" in last
    before = running.committed(spec.run)
    assert 0 < len(before) < spec.models // spec.sub_chunk

    configured(namespace)
    printed = namespace.datamodels("submit", path, "--watch").stdout
    assert "is submitted again; it resumes from what is committed" in printed and f"{spec.run}  done" in printed
    (job,) = namespace.get("jobs", f"{templates.RUN_LABEL}={spec.run},{templates.COMPONENT}=trainer")
    assert job["spec"]["completions"] < 4, "chunks that were whole are trained again"
    assert set(before) <= set(running.committed(spec.run))
    each_once(running, spec.run, spec.models)


def test_runs_listed_in_values_are_submitted_once(running, tmp_path):
    namespace = running.namespace
    path, spec = written(tmp_path, "breast-cancer", name="listed", m=300)
    running.upgrade(runs={"listed": yaml.safe_load(path.read_text())})
    until(lambda: f"{spec.run}  done" in namespace.datamodels("list").stdout, "the run is not done")
    running.upgrade(
        runs={"listed": yaml.safe_load(path.read_text())}, sampler={"env": {"DATAMODELS_LOG_LEVEL": "debug"}}
    )
    submits = until(
        lambda: [
            p for p in namespace.get("pods", f"{templates.COMPONENT}=submit") if p["status"]["phase"] == "Succeeded"
        ],
        "the second submit",
    )
    assert any("although it was done" in namespace.kubectl("logs", p["metadata"]["name"]) for p in submits)
    until(lambda: f"{spec.run}  done" in namespace.datamodels("list").stdout, "the run is not done again")
    running.upgrade()
