import contextlib
import socket
import threading

import pytest
from datamodels.services.query.service import service

from datamodels.errors import ClusterError, ConfigError, NotReadyError, UnavailableError
from datamodels.query.weights import WeightStore
from datamodels.rpc.clients.query import QueryClient
from datamodels.rpc.serve import Server
from datamodels.runners.cluster import forward
from datamodels.runners.cluster.templates import COMPONENT, INSTANCE
from datamodels.settings import ClientSettings, ServeSettings
from datamodels.storage.local import LocalStore
from datamodels.testing import fitted as made
from tests.helpers.waiting import LIMIT


def test_calls_pass_through_and_a_connection_that_fails_is_tried_again(tmp_path):
    store, run, _ = made.make_store(tmp_path)
    failures = iter([UnavailableError("not yet")])
    with Server(ServeSettings(), [service(WeightStore(store))]) as server:
        host, _, port = server.address.rpartition(":")

        def dial():
            for error in failures:
                raise error
            return socket.create_connection((host, int(port)))

        with forward.listening(dial) as address, QueryClient(address, ClientSettings()) as client:
            assert client.run(run.name).run == run.name
            assert client.object(run.name, f"runs/{run.name}.json") == LocalStore(tmp_path).read(
                f"runs/{run.name}.json"
            )


def test_the_end_of_one_side_is_the_end_of_the_other():
    far, ours = socket.socketpair()
    with forward.listening(lambda: ours) as address:
        near = socket.socket(socket.AF_UNIX)
        near.settimeout(LIMIT)
        near.connect(address.removeprefix("unix:"))
        near.sendall(b"question")
        assert far.recv(100) == b"question"
        far.sendall(b"answer")
        assert near.recv(100) == b"answer"
        far.close()
        assert near.recv(100) == b""


def pod(name, component="query", release="dm", ready="True"):
    labels = {
        "app.kubernetes.io/name": "datamodels",
        COMPONENT: component,
        INSTANCE: release,
        "pod-template-hash": "5d",
    }
    return {
        "metadata": {"name": name, "namespace": "ns", "labels": labels, "generateName": "x-query-5d-"},
        "spec": {"containers": [{"name": "query", "ports": [{"name": "grpc", "containerPort": 50051}]}]},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]},
    }


def test_connections_go_to_a_ready_pod_of_the_release(api, cluster, monkeypatch):
    dialled, (ours, _) = threading.Event(), socket.socketpair()
    asked = []

    def opened(self, name, port):
        asked.append((name, port))
        dialled.set()
        return ours

    monkeypatch.setattr(type(cluster), "forward", opened)
    for each in (pod("good"), pod("late", ready="False"), pod("foreign", release="dm2"), pod("other", "sampler")):
        api.add("pods", each)
    with forward.forwarded(cluster, "query") as (address, name), contextlib.closing(socket.socket(socket.AF_UNIX)) as s:
        assert name == "x-query.ns"
        s.connect(address.removeprefix("unix:"))
        assert dialled.wait(LIMIT)
    assert asked == [("good", 50051)]


def test_without_a_ready_pod_it_says_where_to_look(api, cluster):
    api.add("pods", pod("late", ready="False"))
    with pytest.raises(NotReadyError, match="no pod of the query service is ready; `datamodels status -n ns`"):
        forward.forwarded(cluster, "query").__enter__()
    with pytest.raises(ConfigError, match="no release dm9 of the chart is installed"):
        forward.forwarded(cluster, "query", "dm9").__enter__()


def test_a_call_fails_with_the_reason_why_the_cluster_cannot_be_reached(api, cluster, monkeypatch):
    refusal = ClusterError("namespace ns: cannot forward a port of good: forbidden")

    def refused(self, name, port):
        raise refusal

    monkeypatch.setattr(type(cluster), "forward", refused)
    api.add("pods", pod("good"))
    with (
        pytest.raises(ClusterError, match="forbidden"),
        forward.forwarded(cluster, "query") as (address, _),
        QueryClient(address, ClientSettings(attempts=1)) as client,
    ):
        client.run("any")
