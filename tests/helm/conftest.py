"""Renders the chart once for each file of values."""

import dataclasses
import functools
import json
from pathlib import Path

import helm_python
import pytest
import yaml

CHART = Path(__file__).parents[2] / "helm" / "datamodels"
VALUES = {"defaults": {"store": {"url": "s3://bucket/prefix"}}} | {
    path.stem.removesuffix("-values"): yaml.safe_load(path.read_text())
    for path in sorted((CHART / "ci").glob("*.yaml"))
}
COMPONENTS = ("sampler", "aggregator", "fitter", "query")


@dataclasses.dataclass(frozen=True)
class Rendered:
    """A rendered chart.

    objects    objects that the API server gets
    templates  {name: Job} that the driver completes
    notes      text for the user
    """

    name: str
    objects: tuple[dict, ...]
    templates: dict[str, dict]
    notes: str

    def all(self):
        return [*self.objects, *self.templates.values()]

    def of(self, kind, component=None):
        found = [o for o in self.all() if o["kind"] == kind]
        return [o for o in found if component in (None, label(o, "component"))]

    def one(self, kind, component):
        (found,) = self.of(kind, component)
        return found

    def pods(self):
        """Yield (name, pod template) of every object that makes pods."""
        for thing in self.all():
            who = f"{self.name}: {thing['kind']} {thing['metadata'].get('name', label(thing, 'component'))}"
            if thing["kind"] == "Pod":
                yield who, thing
            elif thing["kind"] == "CronJob":
                yield who, thing["spec"]["jobTemplate"]["spec"]["template"]
            elif "template" in thing.get("spec", {}):
                yield who, thing["spec"]["template"]


def label(thing, name):
    return thing["metadata"]["labels"].get(f"app.kubernetes.io/{name}")


@functools.cache
def chart():
    return helm_python.Chart.load(CHART)


LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""PyYAML's own in C is ten times as fast."""


def render(name, values):
    files = chart().render(values, name="dm", namespace="ns")
    notes = next(text for path, text in files.items() if path.endswith("NOTES.txt"))
    documents = [d for path, text in files.items() if path.endswith(".yaml") for d in yaml.load_all(text, LOADER) if d]
    jobs = next(d for d in documents if d["kind"] == "ConfigMap" and label(d, "component") == "jobs")["data"]
    templates = {name.removesuffix(".yaml"): yaml.load(text, LOADER) for name, text in jobs.items()}
    return Rendered(name, tuple(documents), templates, notes)


@pytest.fixture(scope="session")
def rendered():
    """Return {file of values: Rendered}."""
    return {name: render(name, values) for name, values in VALUES.items()}


@pytest.fixture(scope="session", params=VALUES)
def each(request, rendered):
    """The chart rendered with each file of values in turn."""
    return rendered[request.param]


@pytest.fixture(scope="session")
def schema():
    return json.loads((CHART / "values.schema.json").read_text())
