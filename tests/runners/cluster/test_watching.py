"""Watches of a small real API."""

import time

import pytest

from datamodels.errors import ClusterError
from datamodels.runners.cluster.watching import Watching

FAILED = {"phase": "Failed"}


@pytest.fixture
def watched(cluster):
    with Watching(cluster) as watching:
        yield watching


def names(watched, *query):
    return [pod["metadata"]["name"] for pod in watched.pods(*query)]


def test_a_list_follows_what_is_added_changed_and_deleted(api, watched, eventually):
    api.add_pod("other", color="blue")
    assert names(watched, "color=red") == []
    api.add_pod("a", color="red")
    eventually(lambda: names(watched, "color=red") == ["a"])
    api.add_pod("b", color="red", status={"phase": "Running"})
    eventually(lambda: names(watched, "color=red") == ["a", "b"])
    api.objects["pods"]["b"]["status"]["phase"] = "Failed"
    eventually(lambda: watched.pods("color=red")[1]["status"] == FAILED)
    del api.objects["pods"]["a"]
    eventually(lambda: names(watched, "color=red") == ["b"])
    assert [call for call in api.calls if call[:2] == ("GET", "pods")] == [("GET", "pods", "")]


def test_a_pod_that_is_selected_no_longer_is_gone(api, watched, eventually):
    api.add_pod("a", color="red", status={"phase": "Running"})
    unfinished = ("color=red", "status.phase!=Succeeded")
    assert names(watched, *unfinished) == ["a"]
    api.objects["pods"]["a"]["status"]["phase"] = "Succeeded"
    eventually(lambda: not names(watched, *unfinished))


def test_a_version_that_is_too_old_is_read_again(api, watched, eventually):
    assert names(watched, "color=red") == []
    with api.lock:
        api.expired = True
        api.add_pod("a", color="red")
    eventually(lambda: names(watched, "color=red") == ["a"])
    assert api.calls.count(("GET", "pods", "")) == 2
    api.add_pod("b", color="red")
    eventually(lambda: names(watched, "color=red") == ["a", "b"])


def test_a_list_that_is_refused_says_so(api, watched):
    api.refusals["GET", "pods"] = (403, 'User "u" cannot list resource "pods"')
    with pytest.raises(ClusterError, match="ask for the rights"):
        watched.pods("color=red")


def test_what_is_known_is_told_while_the_api_is_away(api, cluster, watched, eventually):
    api.add_pod("a", color="red")
    assert names(watched, "color=red") == ["a"]
    eventually(lambda: ("WATCH", "pods", "") in api.calls)
    api.refusals["GET", "pods"] = (503, "etcd is electing a leader")
    api.expired = True
    assert names(watched, "color=red") == ["a"]
    api.add_pod("b", color="red")
    eventually(lambda: names(watched, "color=red") == ["a", "b"])


def test_events_of_pods_are_asked_for_rarely(api, watched):
    api.warn("Pod", "a", "FailedMount", "no such secret")
    for _ in range(5):
        assert [event["reason"] for event in watched.warnings("Pod", "a")] == ["FailedMount"]
    assert api.calls.count(("GET", "events", "")) == 1


@pytest.mark.parametrize("finished", [1_000, 3_000, 100_000])
def test_looking_costs_the_same_however_many_pods_have_finished(api, watched, finished):
    """Requests and bytes of a hundred looks at a Job, its pods and its events."""
    api.finished, api.page = finished, 500
    for number in range(20):
        api.add_pod(f"p{number}", job="j", status={"phase": "Running"})
    began = time.monotonic()
    for _ in range(100):
        assert watched.job("j") is None and watched.warnings("Job", "j") == []
        assert len(watched.pods("batch.kubernetes.io/job-name=j", "status.phase!=Succeeded")) == 20
    assert len(api.calls) <= 6, "three lists, and three watches"
    assert api.sent < 20_000
    assert time.monotonic() - began < 60
