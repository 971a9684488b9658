"""Dashboards and alerts use only metrics that exist. Each alert has a test and an entry in the runbook."""

import functools
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.helm.conftest import CHART

ROOT = CHART.parents[1]
ALERTS = yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())["groups"][0]["rules"]
DASHBOARDS = {path.stem: json.loads(path.read_text()) for path in (CHART / "files" / "dashboards").glob("*.json")}
TESTS = Path(__file__).parent / "alerts_test.yaml"


@functools.cache
def exported():
    """Return the names of all metrics of our processes."""
    found = set()
    pattern = r"(Counter|Gauge|Histogram)\(\s*\"(\w+)\""
    for folder in ("shared", "services"):
        for path in (ROOT / folder).rglob("*.py"):
            for kind, name in re.findall(pattern, path.read_text()):
                found |= {name + suffix for suffix in (("_bucket", "_count", "_sum") if kind == "Histogram" else ("",))}
    return found


def expressions():
    for name, dashboard in DASHBOARDS.items():
        for panel in dashboard["panels"]:
            for target in panel["targets"]:
                yield f"{name}: {panel['title']}", target["expr"]
    for alert in ALERTS:
        yield alert["alert"], alert["expr"]


LABELS = {"datamodels_run", "datamodels_pool"}


@pytest.mark.parametrize(("where", "expression"), list(expressions()), ids=lambda v: v[:40])
def test_every_metric_that_is_used_exists(where, expression):
    names = set(re.findall(r"\b(?:datamodels_|grpc_server_)\w+", expression)) - LABELS
    if "up{" not in expression:
        assert names, where
    assert names <= exported(), where


def test_an_unknown_metric_would_be_noticed():
    with pytest.raises(AssertionError):
        test_every_metric_that_is_used_exists("here", "rate(datamodels_train_losses_total[5m])")


@pytest.mark.parametrize("name", DASHBOARDS)
def test_grafana_can_import_a_dashboard(name):
    """The format is that of Grafana 10 and newer. `tests/e2e/test_monitoring.py` runs the queries."""
    dashboard = DASHBOARDS[name]
    assert re.fullmatch(r"[a-z-]{1,40}", dashboard["uid"]) and dashboard["schemaVersion"] >= 36
    assert "id" not in dashboard and "__inputs" not in dashboard  # a sidecar cannot fill in inputs
    variables = {variable["name"]: variable for variable in dashboard["templating"]["list"]}
    assert (variables["datasource"]["type"], variables["datasource"]["query"]) == ("datasource", "prometheus")
    source = {"type": "prometheus", "uid": "$datasource"}
    assert all(v["datasource"] == source for v in variables.values() if v["type"] == "query")
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    for panel in dashboard["panels"]:
        assert panel["datasource"] == source and panel["type"] in ("timeseries", "stat", "bargauge"), panel["title"]
        references = [target["refId"] for target in panel["targets"]]
        assert references == sorted(set(references)), panel["title"]
        used = {v for t in panel["targets"] for v in re.findall(r"\$(\w+)", t["expr"])}
        assert used <= {*variables, "__range"}, panel["title"]
        assert "namespace" in used, panel["title"]


@pytest.mark.parametrize("name", DASHBOARDS)
def test_panels_say_what_they_show_and_when_it_is_too_much(name):
    """Descriptions name alerts that exist, all numbers have units, and links lead to the runbook and the explorer."""
    dashboard = DASHBOARDS[name]
    alerts = {rule["alert"] for rule in ALERTS}
    for panel in dashboard["panels"]:
        assert len(panel["description"]) > 20, panel["title"]
        assert set(re.findall(r"Datamodels[A-Z]\w+", panel["description"])) <= alerts, panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
    assert any("thresholds" in panel["fieldConfig"]["defaults"] for panel in dashboard["panels"])
    variables = {variable["name"] for variable in dashboard["templating"]["list"]}
    urls = [link["url"] for link in dashboard["links"] if link["type"] == "link"]
    assert urls == ["${docs}/runbook.html", "${explorer}"] and {"docs", "explorer"} <= variables
    assert (CHART.parents[1] / "docs" / "runbook.md").is_file()


def test_dashboards_have_unique_names():
    assert len({dashboard["uid"] for dashboard in DASHBOARDS.values()}) == len(DASHBOARDS)


def test_panels_do_not_overlap():
    for dashboard in DASHBOARDS.values():
        places = [tuple(panel["gridPos"].values()) for panel in dashboard["panels"]]
        assert len(set(places)) == len(places) and all(x + w <= 24 for x, _, w, _ in places)


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is missing; Debian has it in `prometheus`")
def test_alerts_fire_when_they_should_and_only_then():
    done = subprocess.run(["promtool", "test", "rules", TESTS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is missing; Debian has it in `prometheus`")
@pytest.mark.parametrize("name", DASHBOARDS)
def test_every_query_of_a_dashboard_can_be_parsed(name, tmp_path):
    expressions = [t["expr"] for panel in DASHBOARDS[name]["panels"] for t in panel["targets"]]
    for variable, value in {"$__range": "1h", "$gpus": "1", "$price": "2", "$namespace": ".*", "$run": ".*"}.items():
        expressions = [e.replace(variable, value) for e in expressions]
    rules = tmp_path / "rules.yaml"
    records = [{"record": f"r{i}", "expr": expression} for i, expression in enumerate(expressions)]
    rules.write_text(json.dumps({"groups": [{"name": "g", "rules": records}]}))
    done = subprocess.run(["promtool", "check", "rules", rules], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_each_alert_fires_in_one_test_and_is_quiet_in_another():
    checks = [check for test in yaml.safe_load(TESTS.read_text())["tests"] for check in test["alert_rule_test"]]
    names = {alert["alert"] for alert in ALERTS}
    assert {check["alertname"] for check in checks if check.get("exp_alerts")} == names
    assert {check["alertname"] for check in checks if not check.get("exp_alerts")} == names


def test_each_alert_has_an_entry_in_the_runbook():
    lines = (ROOT / "docs" / "runbook.md").read_text().splitlines()
    answered = [match[1] for line in lines if (match := re.match(r"\| `(\w+)` \| .{60,}", line))]
    assert answered == [alert["alert"] for alert in ALERTS]


def test_rules_and_dashboards_are_rendered_unchanged(rendered):
    everything = rendered["everything"]
    (rule,) = everything.of("PrometheusRule")
    assert rule["spec"]["groups"][0]["rules"] == ALERTS
    shipped = [o for o in everything.of("ConfigMap") if "grafana_dashboard" in o["metadata"]["labels"]]
    assert {k.removesuffix(".json"): json.loads(v) for o in shipped for k, v in o["data"].items()} == DASHBOARDS
    assert all(o["metadata"]["labels"]["release"] == "prometheus" for o in [rule, *shipped])


def test_only_annotations_are_on_by_default(rendered):
    defaults = rendered["defaults"]
    assert not [o for o in defaults.objects if o["kind"] in ("ServiceMonitor", "PodMonitor", "PrometheusRule")]
    for who, pod in defaults.pods():
        if "ports" in pod["spec"]["containers"][0]:
            assert pod["metadata"]["annotations"]["prometheus.io/port"] == "9090", who
