"""The ways in which Prometheus finds our pods: the operator's monitors, and annotations with deploy/prometheus.yaml.

No package contains the operator's own schemas. So this file lists the few fields that the chart uses, as in version
0.93, and a test fails on any other field. Whoever adds a field looks it up.
"""

import re

import pytest
import yaml

from tests.helm.conftest import CHART, COMPONENTS, label

ENDPOINT = {"port", "interval"}
FIELDS = {
    "ServiceMonitor": {"jobLabel", "podTargetLabels", "selector", "endpoints"},
    "PodMonitor": {"jobLabel", "podTargetLabels", "selector", "podMetricsEndpoints"},
    "PrometheusRule": {"groups"},
}
RULE = {"alert": str, "expr": str, "for": str, "labels": dict, "annotations": dict}
RUN_LABELS = ("datamodels/run", "datamodels/pool")
DURATION = r"(\d+h)?(\d+m)?(\d+s)?"
TARGET_LABELS = ["app.kubernetes.io/name", "app.kubernetes.io/instance", "app.kubernetes.io/component"]


@pytest.fixture(params=FIELDS)
def foreign(request, rendered):
    (found,) = rendered["everything"].of(request.param)
    return found


def test_all_fields_exist_in_the_operators_schema(foreign):
    assert foreign["apiVersion"] == "monitoring.coreos.com/v1"
    assert set(foreign) == {"apiVersion", "kind", "metadata", "spec"}
    spec = foreign["spec"]
    assert set(spec) == FIELDS[foreign["kind"]]
    for endpoint in (*spec.get("endpoints", []), *spec.get("podMetricsEndpoints", [])):
        assert set(endpoint) == ENDPOINT and re.fullmatch(DURATION, endpoint["interval"])
    for expression in spec.get("selector", {}).get("matchExpressions", []):
        assert set(expression) == {"key", "operator", "values"} and expression["operator"] == "In"
    for group in spec.get("groups", []):
        assert set(group) == {"name", "rules"}
        for rule in group["rules"]:
            assert all(isinstance(value, RULE[key]) for key, value in rule.items()), rule
            assert re.fullmatch(DURATION, rule.get("for", "1m"))
            texts = (rule["labels"] | rule["annotations"]).values()
            assert all(isinstance(text, str) for text in texts)


def selects(selector, labels):
    return all(labels.get(k) == v for k, v in selector["matchLabels"].items()) and all(
        labels.get(e["key"]) in e["values"] for e in selector["matchExpressions"]
    )


def test_each_component_is_monitored_once(rendered):
    everything = rendered["everything"]
    (services,), (pods,) = (everything.of(kind)[:1] for kind in ("ServiceMonitor", "PodMonitor"))
    by_service = [label(s, "component") for s in everything.of("Service") if _picked(services, s)]
    assert sorted(by_service) == sorted([*COMPONENTS, "explorer"])
    by_pod = [kind for kind, job in everything.templates.items() if _picked(pods, job["spec"]["template"])]
    assert sorted(by_pod) == ["driver", "trainer", "trainer-spot"]


def _picked(monitor, thing):
    return selects(monitor["spec"]["selector"], thing["metadata"]["labels"])


def test_the_scraped_port_exists(rendered):
    everything = rendered["everything"]
    for component in COMPONENTS:
        ports = {port["name"] for port in everything.one("Service", component)["spec"]["ports"]}
        assert "metrics" in ports, component
    for who, pod in everything.pods():
        ports = {port["name"] for port in pod["spec"]["containers"][0].get("ports", [])}
        assert not ports or "metrics" in ports, who


def test_both_ways_set_the_labels_that_alerts_and_dashboards_use(rendered):
    everything = rendered["everything"]
    (services,), (pods,) = (everything.of(kind) for kind in ("ServiceMonitor", "PodMonitor"))
    assert services["spec"]["podTargetLabels"] == TARGET_LABELS
    assert pods["spec"]["podTargetLabels"] == [*TARGET_LABELS, *RUN_LABELS]
    (job,) = yaml.safe_load((CHART.parents[1] / "deploy" / "prometheus.yaml").read_text())["scrape_configs"]
    (mapped,) = [rule["regex"] for rule in job["relabel_configs"] if rule.get("action") == "labelmap"]
    for name in (*TARGET_LABELS, *RUN_LABELS):
        target = re.sub(r"\W", "_", name)
        assert re.fullmatch(mapped, f"__meta_kubernetes_pod_label_{target}")[1] == target
    assert {"namespace", "pod", "job"} <= {rule.get("target_label") for rule in job["relabel_configs"]}
