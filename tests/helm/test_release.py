"""The chart as GitOps tools and registries take it."""

import re
import tarfile
from pathlib import Path

import helm_python
import pytest
import yaml

from tests.helm.conftest import CHART, VALUES

TEXTS = {path.relative_to(CHART): path.read_text() for path in CHART.rglob("*") if path.suffix in (".yaml", ".tpl")}
META = yaml.safe_load((CHART / "Chart.yaml").read_text())


@pytest.mark.parametrize("name", VALUES)
def test_it_renders_the_same_each_time(name):
    """Otherwise Argo CD and Flux would see a drift with each look."""
    once, again = (helm_python.Chart.load(CHART).render(VALUES[name], name="dm", namespace="ns") for _ in range(2))
    assert once == again


def test_nothing_depends_on_chance_on_the_clock_or_on_the_cluster():
    words = r"\b(rand\w+|shuffle|now|date\w*|uuidv4|gen\w*(Cert|CA|Key)\w*|lookup|htpasswd|derivePassword)\b"
    actions = {path: re.findall(r"\{\{(.*?)\}\}", text, re.DOTALL) for path, text in TEXTS.items()}
    used = {path: re.findall(words, re.sub(r'"[^"]*"', "", " ".join(found))) for path, found in actions.items()}
    assert not {path: found for path, found in used.items() if found}


def test_nothing_is_empty_that_the_api_server_would_drop(each):
    """Otherwise the chart and the cluster would differ for ever. Empty texts and empty selectors stay."""

    def empty(value, path):
        if value in ([], None):
            yield path
        items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for key, inner in items:
            yield from empty(inner, (*path, key))

    for thing in each.all():
        assert not list(empty(thing, ())), (thing["kind"], thing["metadata"].get("name"))


def test_no_hook_runs_but_the_test(rendered):
    hooks = {
        (thing["kind"], hook)
        for each in rendered.values()
        for thing in each.all()
        if (hook := thing["metadata"].get("annotations", {}).get("helm.sh/hook"))
    }
    assert hooks == {("Pod", "test")}


def test_no_replicas_beside_an_autoscaler(rendered):
    """Otherwise each synchronisation would undo what the autoscaler did."""
    scaled = [each for each in rendered.values() if each.of("HorizontalPodAutoscaler")]
    assert scaled and all("replicas" not in each.one("Deployment", "query")["spec"] for each in scaled)


def test_calls_in_flight_scale_only_if_asked_for(rendered):
    (found,) = rendered["everything"].of("HorizontalPodAutoscaler")
    _, calls = found["spec"]["metrics"]
    assert calls["pods"]["target"] == {"type": "AverageValue", "averageValue": "8"}
    values = VALUES["defaults"] | {"query": {"autoscaling": {"enabled": True}}}
    files = helm_python.Chart.load(CHART).render(values, name="dm", namespace="ns")
    (text,) = [text for path, text in files.items() if path.endswith("hpa.yaml")]
    assert [metric["type"] for metric in yaml.safe_load(text)["spec"]["metrics"]] == ["Resource"]


def test_a_pool_has_what_differs_and_all_else_of_the_main_trainers(rendered):
    main, spot = (rendered["everything"].templates[name] for name in ("trainer", "trainer-spot"))
    of = spot["spec"]["template"]["spec"]
    assert (spot["spec"]["parallelism"], main["spec"]["parallelism"]) == (12, 4)
    assert of["nodeSelector"] == {"lifecycle": "spot"} and "nodeSelector" not in main["spec"]["template"]["spec"]
    assert {"name": "DATAMODELS_TRAINER_THREADS", "value": "2"} in of["containers"][0]["env"]
    assert of["containers"][0]["resources"] == main["spec"]["template"]["spec"]["containers"][0]["resources"]
    labels = [job["spec"]["template"]["metadata"]["labels"]["datamodels/pool"] for job in (main, spot)]
    assert labels == ["main", "spot"]


def test_the_package_has_what_a_registry_shows(tmp_path):
    path = helm_python.package(str(CHART), destination=str(tmp_path))
    with tarfile.open(path) as tar:
        names = {name.removeprefix("datamodels/") for name in tar.getnames()}
    assert {"Chart.yaml", "README.md", "values.yaml", "values.schema.json", "templates/NOTES.txt"} <= names
    packed = helm_python.Chart.load_archive(Path(path).read_bytes())
    files = packed.render(VALUES["defaults"], name="dm", namespace="ns")
    assert files == helm_python.Chart.load(CHART).render(VALUES["defaults"], name="dm", namespace="ns")


def test_annotations_are_those_of_artifact_hub():
    own = META["annotations"]
    (image,) = yaml.safe_load(own["artifacthub.io/images"])
    assert image["image"] == f"datamodels:{META['appVersion']}"
    assert {change["kind"] for change in yaml.safe_load(own["artifacthub.io/changes"])} <= {
        *("added", "changed", "deprecated", "removed", "fixed", "security")
    }
    assert all(name.startswith("artifacthub.io/") and isinstance(value, str) for name, value in own.items())
