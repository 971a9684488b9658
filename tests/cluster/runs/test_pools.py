"""Pools of trainers side by side: one that stays, and one whose pods are taken away as those of spot nodes are."""

import re

import pytest

from datamodels.runners.cluster import templates
from tests.cluster.place import METRICS, each_once, until
from tests.cluster.specs import sleeping

POOL = templates.POOL_LABEL


@pytest.fixture(scope="module", autouse=True)
def tools(running):
    running.make_tools()


def pods_of(namespace, run, pool):
    """Names of a pool's pods that work, or soon will."""
    found = namespace.get("pods", f"{templates.RUN_LABEL}={run},{POOL}={pool}")
    return [
        pod["metadata"]["name"]
        for pod in found
        if pod["status"].get("phase") in ("Pending", "Running") and "deletionTimestamp" not in pod["metadata"]
    ]


def trained(namespace, pod):
    """Models that a trainer has trained."""
    text = namespace.within(pod, "python", "-c", METRICS, check=False)
    found = re.search(r"^datamodels_train_models_total\S* (\S+)", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def test_pods_of_both_pools_train_and_spot_pods_may_go_at_any_time(running, tmp_path):
    namespace = running.namespace
    running.upgrade(jobs={"trainer": {"parallelism": 1}, "pools": {"spot": {"parallelism": 2}}})
    path, spec = sleeping(tmp_path, "pools", 15_000)
    namespace.datamodels("submit", path)
    for pool, count in (("main", 1), ("spot", 2)):
        pods = until(lambda p=pool, n=count: len(f := pods_of(namespace, spec.run, p)) == n and f, f"pods of {pool}")
        until(lambda one=pods[0]: trained(namespace, one) > 0, f"a trainer of {pool} trains nothing")

    for how in (["--wait=false"], ["--force", "--grace-period=0", "--wait=false"]):  # with and without a warning
        gone = pods_of(namespace, spec.run, "spot")[0]
        namespace.kubectl("delete", "pod", gone, *how)
        until(lambda one=gone: len(f := set(pods_of(namespace, spec.run, "spot")) - {one}) == 2 and f, "another one")

    namespace.datamodels("scale", spec.run, "4", "--pool", "spot")  # more than it began with
    until(lambda: len(pods_of(namespace, spec.run, "spot")) == 4, "the pool does not grow")
    namespace.datamodels("scale", spec.run, "6")  # more than the main Job has indexes
    until(lambda: len(pods_of(namespace, spec.run, "main")) == 6, "the main trainers do not grow")

    assert f"{spec.run}  done" in namespace.datamodels("submit", path, "--watch").stdout
    each_once(running, spec.run, spec.models)
    until(lambda: not namespace.get("jobs", f"{templates.RUN_LABEL}={spec.run},{POOL}=spot"), "the pool's Job stays")
    (job,) = namespace.get("jobs", f"{templates.RUN_LABEL}={spec.run},{POOL}=main")
    assert not job["status"].get("failedIndexes"), job["status"]
    running.upgrade()


def test_a_run_ends_without_a_pool_that_finds_no_nodes(running, tmp_path):
    namespace = running.namespace
    nowhere = {"parallelism": 2, "nodeSelector": {"lifecycle": "spot-that-there-is-not"}}
    running.upgrade(jobs={"pools": {"spot": nowhere}})
    path, spec = sleeping(tmp_path, "no-spot", 3000)
    namespace.datamodels("submit", path)
    running.status_line(spec.run, r"trainer \(spot\): cannot be scheduled: ")
    assert f"{spec.run}  done" in namespace.datamodels("submit", path, "--watch").stdout
    each_once(running, spec.run, spec.models)
    running.upgrade()
