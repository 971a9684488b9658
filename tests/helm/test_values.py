"""values.yaml, its schema and its table agree."""

import copy
import itertools
import subprocess
import sys

import helm_python
import pytest
import yaml

from datamodels.rpc.access import readers_of
from tests.helm.conftest import CHART, VALUES, chart

DEFAULTS = yaml.safe_load((CHART / "values.yaml").read_text())
OPEN = ("runs",)
"""Values whose fields the schema does not check: `datamodels submit` checks the specs of runs."""


def resolve(node, schema):
    return schema["$defs"][node["$ref"].removeprefix("#/$defs/")] if "$ref" in node else node


def objects(node, schema, path=()):
    """Yield (path, node) of every object in the schema, following references."""
    node = resolve(node, schema)
    if node.get("type") == "object":
        yield path, node
    for name, child in node.get("properties", {}).items():
        yield from objects(child, schema, (*path, name))
    for child in ("items", "additionalProperties"):
        if isinstance(node.get(child), dict):
            yield from objects(node[child], schema, (*path, child))


def test_the_schema_is_closed(schema):
    found = dict(objects(schema, schema))
    assert len(found) > 50
    inside = [path for path in found if "pod" in path[:-1]]  # objects of Kubernetes, which its API server checks
    free = [p for p, node in found.items() if node.get("additionalProperties", True) is True and p not in inside]
    assert sorted(free) == [("global",), ("runs", "additionalProperties")]


def test_the_schema_has_the_same_fields_as_the_values(schema):
    def compare(node, value, path):
        node = resolve(node, schema)
        if "properties" not in node or not value:
            return
        assert set(node["properties"]) - {"global"} == set(value), path
        for name, child in value.items():
            compare(node["properties"][name], child, (*path, name))

    def strip(value):
        """Omit objects of Kubernetes, whose fields the defaults need not list."""
        if isinstance(value, dict):
            parts = {"image", "resources", "egress", "api", "store", "metrics", "pod"}
            return {k: ({} if k in parts and path_is_partial(k, v) else strip(v)) for k, v in value.items()}
        return value

    def path_is_partial(name, value):
        return isinstance(value, dict) and (
            name in ("resources", "pod") or set(value) <= {"cidrs", "namespaces", "ports"}
        )

    values = strip(DEFAULTS)
    values["devStore"]["image"] = {}
    compare(schema, values, ())


def test_every_value_is_documented():
    lines = (CHART / "values.yaml").read_text().splitlines()
    bare = []
    for above, line in itertools.pairwise(lines):
        _, colon, value = line.strip().partition(":")
        is_leaf = colon and not line.strip().startswith("#") and value.strip()
        if is_leaf and not above.strip().startswith("# -- "):
            bare.append(line)
    assert not bare


def test_the_table_of_values_is_up_to_date():
    script = CHART.parents[1] / "helm" / "values_table.py"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", VALUES)
def test_strict_lint(name):
    report = helm_python.lint(CHART, VALUES[name], strict=True, namespace="ns", kube_version="v1.33.0")
    assert not report["errors"]
    assert not [m for m in report["messages"] if m["severity"] > 1]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("replicas",), 3),
        (("query", "replica"), 3),
        (("jobs", "trainer", "resources", "limit"), {}),
        (("networkPolicy", "store", "ports"), ["https"]),
        (("image", "digest"), "latest"),
        (("store", "url"), "/mnt/data"),
        (("sampler", "replicas"), 0),
        (("sampler", "env"), {"DATAMODELS_SERVE_WORKERS": 3}),
        (("runs", "x"), {"name": "x"}),
        (("tls", "enable"), True),
        (("tls", "certManager", "issuerRef", "names"), "x"),
        (("auth", "tokens", "expirationSeconds"), 60),
        (("query", "pdb", "maxUnavailable"), 0),
        (("sampler", "pdb", "maxUnavailable"), "0%"),
        (("jobs", "trainer", "dataClaim"), "My_Claim"),
        (("store", "existingSecret"), "-x"),
        (("jobs", "trainer", "pod"), {"containers": []}),
        (("jobs", "driver", "pod"), {"env": [{"value": "x"}]}),
    ],
)
def test_wrong_values_are_refused(path, value):
    values = copy.deepcopy(VALUES["defaults"])
    node = values
    for name in path[:-1]:
        node = node.setdefault(name, {})
    node[path[-1]] = value
    with pytest.raises(helm_python.HelmValuesError, match=str(path[min(len(path) - 1, 1)])):
        chart().render(values, name="dm", namespace="ns")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"query": {"autoscaling": {"enabled": True, "minReplicas": 5, "maxReplicas": 4}}}, "minReplicas is above max"),
        ({"fitter": {"replicas": 0}}, "fitter.replicas: 0 leaves no fitter"),
        ({"jobs": {"kueue": {"minParallelism": 2}}}, "minParallelism: needs jobs.kueue.queue"),
    ],
)
def test_combinations_that_cannot_work_are_refused(values, message):
    with pytest.raises(helm_python.HelmError, match=message):
        chart().render(VALUES["defaults"] | values, name="dm", namespace="ns")


def test_a_store_is_required():
    with pytest.raises(helm_python.HelmError, match=r"store\.url: set it to s3://BUCKET/PREFIX"):
        chart().render({}, name="dm", namespace="ns")


def test_an_explorer_that_anybody_could_use_is_refused():
    on = {"store": {"url": "s3://bucket/prefix"}, "explorer": {"enabled": True, "hosts": ["x.example.org"]}}
    with pytest.raises(Exception, match="userHeader or tokenSecret"):
        chart().render(on, name="dm", namespace="ns")
    with pytest.raises(Exception, match="needs hosts"):
        chart().render(on | {"explorer": {"enabled": True, "tokenSecret": "t"}}, name="dm", namespace="ns")


def test_the_explorer_gets_its_settings_and_is_reached_by_the_proxy_alone(rendered):
    each = rendered["everything"]
    spec = each.one("Deployment", "explorer")["spec"]["template"]["spec"]
    env = {e["name"]: e.get("value") or e["valueFrom"]["secretKeyRef"] for e in spec["containers"][0]["env"]}
    assert env["DATAMODELS_EXPLORER_USER_HEADER"] == "X-Forwarded-User" and env["DATAMODELS_SERVE_PORT"] == "8080"
    assert env["DATAMODELS_EXPLORER_HOSTS"] == "explorer.example.org" and env["DATAMODELS_EXPLORER_VERDICTS"] == "true"
    assert env["DATAMODELS_EXPLORER_GROUPS_HEADER"] == "X-Forwarded-Groups"
    assert readers_of(env["DATAMODELS_EXPLORER_READERS"]) == {"group:vision": ("digits-*", "cifar-*")}
    assert env["DATAMODELS_EXPLORER_TOKEN"] == {"name": "explorer", "key": "token"}
    (policy,) = [p["spec"] for p in each.of("NetworkPolicy", "explorer")]
    ports = {port["port"]: rule["from"] for rule in policy["ingress"] for port in rule["ports"]}
    assert ports[8080][0]["namespaceSelector"]["matchExpressions"][0]["values"] == ["proxy"] and len(ports[8080]) == 1
    assert not rendered["defaults"].of("Deployment", "explorer")
