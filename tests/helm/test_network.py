"""Which components may connect to which others, according to the rendered policies."""

import json

import pytest

from tests.helm.conftest import COMPONENTS

GRPC = {"protocol": "TCP", "port": 50051}
STORE_USERS = {"aggregator", "fitter", "query", "driver"}


def policy(each, component):
    (found,) = [p["spec"] for p in each.of("NetworkPolicy") if selected(p["spec"]["podSelector"]) == component]
    return found


def selected(selector):
    return selector.get("matchLabels", {}).get("app.kubernetes.io/component")


def components(peers):
    """Return the components of this release among the peers of a rule."""
    return {c for peer in peers for e in peer.get("podSelector", {}).get("matchExpressions", []) for c in e["values"]}


def reached(each, component):
    """Return {component: ports} to which a policy lets a component connect."""
    rules = policy(each, component).get("egress", [])
    return {peer: rule["ports"] for rule in rules for peer in components(rule["to"])}


def outside(each, component):
    """Return the ports of rules to destinations outside of the release, except DNS."""
    rules = [r for r in policy(each, component).get("egress", []) if not components(r["to"])]
    return {port["port"] for rule in rules for port in rule["ports"]} - {53}


def test_every_pod_is_denied_by_default_and_has_its_own_policy(each):
    denied = policy(each, None)
    assert denied["policyTypes"] == ["Ingress", "Egress"] and not {"ingress", "egress"} & set(denied)
    for who, pod in each.pods():
        labels = pod["metadata"]["labels"]
        assert denied["podSelector"]["matchLabels"].items() <= labels.items(), who
        assert policy(each, labels["app.kubernetes.io/component"])["policyTypes"] == ["Ingress", "Egress"], who


def test_trainers_reach_only_the_sampler_and_the_aggregator(rendered):
    for name in ("defaults", "dev", "everything"):
        assert reached(rendered[name], "trainer") == {"sampler": [GRPC], "aggregator": [GRPC]}
        assert outside(rendered[name], "trainer") == set()
    assert outside(rendered["gpu"], "trainer") == {443}, "the data set, where the values say so"
    assert "egress" not in policy(rendered["defaults"], "sampler")


def test_only_components_that_use_the_store_reach_it(rendered):
    for name, port in (("defaults", 443), ("everything", 9000)):
        users = {c for c in (*COMPONENTS, "trainer", "test") if outside(rendered[name], c) == {port}}
        assert users | {"driver"} == STORE_USERS
        assert outside(rendered[name], "driver") == {port, 443, 6443}
    assert outside(rendered["everything"], "upkeep") == {9000}
    dev = rendered["dev"]
    assert {c for c in (*COMPONENTS, "trainer", "driver") if "devstore" in reached(dev, c)} == STORE_USERS
    assert components(policy(dev, "devstore")["ingress"][0]["from"]) == STORE_USERS


@pytest.mark.parametrize(
    ("component", "callers"),
    [
        ("sampler", {"driver", "trainer", "test"}),
        ("aggregator", {"driver", "trainer", "test"}),
        ("fitter", {"driver", "test"}),
        ("query", {"driver", "test"}),
    ],
)
def test_callers_of_a_service_may_connect_to_it(each, component, callers):
    rule = policy(each, component)["ingress"][0]
    assert rule["ports"] == [GRPC] and components(rule["from"]) == callers
    assert all(component in reached(each, caller) for caller in callers)


def test_services_that_ask_the_api_server_for_keys_reach_it(rendered):
    """Besides the driver. The store uses port 443 too."""
    asking = {c for c in (*COMPONENTS, "trainer", "test") if 6443 in outside(rendered["tls"], c)}
    assert asking == {"aggregator", "fitter"}
    for name in ("defaults", "everything"):
        assert not any(6443 in outside(rendered[name], c) for c in (*COMPONENTS, "trainer", "test"))


def test_only_the_kubelet_reaches_health_without_tls(each):
    """Policies do not restrict nodes, which reach their own pods."""
    assert "50052" not in json.dumps(each.of("NetworkPolicy"))


def test_metrics_can_be_read_from_the_named_namespaces(rendered):
    for component in (*COMPONENTS, "driver", "trainer"):
        rules = [r for r in policy(rendered["everything"], component)["ingress"] if r["ports"][0]["port"] == 9090]
        ((peer,),) = [rule["from"] for rule in rules]
        assert peer["namespaceSelector"]["matchExpressions"][0]["values"] == ["monitoring"]
        closed = policy(rendered["defaults"], component).get("ingress", [])
        assert not [r for r in closed if r["ports"][0]["port"] == 9090]


def test_only_services_have_budgets_and_scaling(rendered):
    everything = rendered["everything"]
    assert [p["metadata"]["name"] for p in everything.of("PodDisruptionBudget")] == ["dm-query", "dm-sampler"]
    (scaler,) = everything.of("HorizontalPodAutoscaler")
    assert scaler["spec"]["scaleTargetRef"]["name"] == "dm-query"
    assert "replicas" not in everything.one("Deployment", "query")["spec"]
    (spread,) = everything.one("Deployment", "query")["spec"]["template"]["spec"]["topologySpreadConstraints"]
    assert spread["labelSelector"]["matchLabels"]["app.kubernetes.io/component"] == "query"


def test_clients_see_every_pod_of_a_service(each):
    for component in COMPONENTS:
        assert each.one("Service", component)["spec"]["clusterIP"] == "None"
    (container,) = each.templates["driver"]["spec"]["template"]["spec"]["containers"]
    addresses = {e["name"]: e["value"] for e in container["env"] if e["name"].startswith("DATAMODELS_CLIENT_")}
    assert addresses["DATAMODELS_CLIENT_QUERY"] == "dns:///dm-query.ns:50051"
    assert {name.removeprefix("DATAMODELS_CLIENT_").lower() for name in addresses} >= set(COMPONENTS)
