import re
import socket
from pathlib import Path

import pytest

from datamodels.errors import ClusterError, ConflictError, SettingsError, UnavailableError
from datamodels.runners.cluster.api import connect

JOB = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "a"}, "spec": {}}


def test_jobs_are_made_read_listed_and_deleted(api, cluster, eventually):
    assert cluster.namespace == "ns" and cluster.job("a") is None
    cluster.create_job(JOB)
    assert cluster.job("a")["metadata"]["uid"]
    with pytest.raises(ConflictError, match=r"namespace ns: cannot create a: jobs\.batch \"a\" already exists"):
        cluster.create_job(JOB)
    cluster.delete_job("a")
    eventually(lambda: cluster.job("a") is None)
    cluster.delete_job("a")


def test_lists_are_read_to_their_last_page(api, cluster):
    for number in range(2 * api.page + 1):
        api.add_pod(f"p{number}", job="j", color="red")
    api.add_pod("other", color="blue")
    assert len(cluster.pods("color=red")) == 2 * api.page + 1


@pytest.mark.parametrize(
    ("status", "message", "kind", "expected"),
    [
        (403, 'jobs.batch "a" is forbidden: exceeded quota: jobs', ClusterError, "raise the quota, or ask for less"),
        (403, 'User "u" cannot create resource "jobs"', ClusterError, "ask for the rights of the chart's role"),
        (401, "Unauthorized", ClusterError, "cannot create a: Unauthorized"),
        (422, "spec.completions: Invalid value: -1", ClusterError, "spec.completions: Invalid value: -1"),
    ],
)
def test_refusals_are_one_line_that_says_what_to_do(api, cluster, status, message, kind, expected):
    api.refusals["POST", "jobs"] = (status, message)
    with pytest.raises(kind) as raised:
        cluster.create_job(JOB)
    assert expected in str(raised.value) and "\n" not in str(raised.value)


def test_a_call_is_made_again_while_the_api_is_unavailable(api, cluster):
    api.refusals["GET", "jobs"] = (503, "etcd is electing a leader")
    assert cluster.job("a") is None
    assert api.calls.count(("GET", "jobs", "a")) == 2


def test_logs_come_as_lines(api, cluster):
    api.logs["p"] = ["one", "two"]
    assert list(cluster.log("p")) == ["one", "two"]


def test_no_cluster_is_a_setting_to_correct(tmp_path):
    with pytest.raises(SettingsError, match=r"no cluster to talk to: .*; set KUBECONFIG or --context"):
        connect(kubeconfig=str(tmp_path / "none"))


def test_a_context_that_there_is_not_is_named(api):
    with pytest.raises(SettingsError, match="nowhere"):
        connect(kubeconfig=api.kubeconfig, context="nowhere")


def test_an_api_that_is_gone_is_unavailable(tmp_path, api):
    with socket.socket() as unused:  # bound, and nobody listens
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        path = tmp_path / "gone"
        path.write_text(re.sub(r"127\.0\.0\.1:\d+", f"127.0.0.1:{port}", Path(api.kubeconfig).read_text()))
        gone = connect(kubeconfig=str(path))
        with pytest.raises(UnavailableError, match="the Kubernetes API does not answer"):
            list(gone.log("p"))


@pytest.mark.parametrize("kueue", [True, False])
def test_what_kueue_keeps_about_a_job(api, cluster, kueue):
    api.kueue = kueue
    cluster.create_job(JOB)
    assert cluster.workload(cluster.job("a")) is None
    api.queue("a", "no room")
    found = cluster.workload(cluster.job("a"))
    assert (found or {}).get("metadata", {}).get("name") == ("job-a" if kueue else None)
    api.refusals["GET", "workloads"] = (403, "User cannot list resource workloads")
    assert cluster.workload(cluster.job("a")) is None
