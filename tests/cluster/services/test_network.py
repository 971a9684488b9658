"""What the chart's NetworkPolicies deny is tried, where the cluster enforces any; their text is tested everywhere."""

import pytest

from tests.cluster.place import Namespace, labels_of, until
from tests.cluster.specs import written

CONNECT = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=5).close()
    print("open")
except OSError:
    print("closed")
"""
LISTEN = """
import socket
server = socket.create_server(("", 50051))
while True:
    server.accept()[0].close()
"""


def reaches(namespace, pod, host, port):
    return namespace.within(pod, "python", "-c", CONNECT, host, str(port)).strip() == "open"


def address(namespace, component):
    (pod, *_) = namespace.ready(component)
    return namespace.kubectl("get", "pod", pod, "-o", "jsonpath={.status.podIP}")


@pytest.fixture(scope="module")
def enforced(running):
    """Skips where a policy that denies everything denies nothing."""
    with Namespace.made("canary") as namespace:
        deny = {"podSelector": {}, "policyTypes": ["Ingress"]}
        namespace.make_pod("canary", code=LISTEN)
        namespace.make_pod("asks")
        ip = namespace.kubectl("get", "pod", "canary", "-o", "jsonpath={.status.podIP}")
        until(lambda: reaches(namespace, "asks", ip, 50051), "the canary's socket")
        policy = {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": "deny"},
            "spec": deny,
        }
        namespace.apply(policy)
        for _ in range(15):
            if not reaches(namespace, "asks", ip, 50051):
                return
    pytest.skip("this cluster enforces no NetworkPolicies; their text is tested in tests/helm/test_network.py")


@pytest.fixture(scope="module")
def pods(running, enforced):
    """{who: pod} of pods to connect from, in the release's namespace."""
    running.make_tools()
    for component in ("trainer", "driver"):
        running.namespace.make_pod(f"as-{component}", labels=labels_of(component))
    (sampler,) = running.namespace.ready("sampler")
    return {"anybody": "tools", "trainer": "as-trainer", "driver": "as-driver", "sampler": sampler}


WAYS = [
    ("anybody", "query", 50051, True),
    ("anybody", "aggregator", 50051, False),
    ("anybody", "sampler", 50051, False),
    ("anybody", "fitter", 50051, False),
    ("anybody", "query", 9090, False),
    ("trainer", "sampler", 50051, True),
    ("trainer", "aggregator", 50051, True),
    ("trainer", "fitter", 50051, False),
    ("trainer", "store", 4566, False),
    ("trainer", "api", 443, False),
    ("driver", "api", 443, True),
    ("driver", "store", 4566, True),
    ("driver", "fitter", 50051, True),
    ("driver", "query", 9090, False),
    ("sampler", "aggregator", 50051, False),
    ("sampler", "store", 4566, False),
]


@pytest.mark.parametrize(("who", "to", "port", "allowed"), WAYS)
def test_a_pod_reaches_what_it_needs_and_no_more(running, store, pods, who, to, port, allowed):
    namespace = running.namespace
    if to == "store":
        host = store.kubectl("get", "pod", "store", "-o", "jsonpath={.status.podIP}")
        assert reaches(namespace, "tools", host, port), "the store is down for everybody"
    elif to == "api":
        host = namespace.kubectl("get", "service", "kubernetes", "-n", "default", "-o", "jsonpath={.spec.clusterIP}")
    else:
        host = address(namespace, to)
    until(lambda: reaches(namespace, pods[who], host, port) is allowed, f"{who} to {to}:{port}")


@pytest.mark.parametrize("component", ["query", "aggregator"])
def test_another_namespace_asks_nothing(running, enforced, component):
    host = address(running.namespace, component)
    with Namespace.made("stranger") as stranger:
        stranger.make_pod("tools")
        until(lambda: not reaches(stranger, "tools", host, 50051), f"a stranger reaches {component}")


def test_pods_can_do_their_work(running, enforced, tmp_path):
    """With the policies enforced: a run from its submission to its end."""
    path, spec = written(tmp_path, "breast-cancer", m=300)
    assert f"{spec.run}  done" in running.namespace.datamodels("submit", path, "--watch").stdout
