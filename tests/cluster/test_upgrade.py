"""Upgrades from each of the last two versions, their charts and their images, while a run continues."""

import tarfile

import pytest
import yaml

from datamodels.runners.cluster import templates
from tests.cluster import previous as before
from tests.cluster.place import CHART, IMAGE, each_once, until
from tests.cluster.specs import written


@pytest.fixture(params=range(before.OLDEST), ids=["from-the-last-version", "from-the-one-before"])
def previous(request, namespace, tmp_path):
    """(version, chart) of a version before this one. Skips if its image cannot be had."""
    found = before.versions()
    if len(found) <= request.param:
        pytest.skip("git knows no such version of the chart (a shallow clone?)")
    version = found[request.param]
    image = f"{version.repository(IMAGE)}:{version.app}"
    try:
        namespace.make_pod("previous", image=image, seconds=60)
    except AssertionError:
        pytest.skip(f"the nodes cannot run {image}, an earlier version; make previous-images builds it")
    namespace.kubectl("delete", "pod", "previous")
    archive = tmp_path / "chart.tar"
    before.git("archive", "--output", str(archive), version.commit, str(before.CHART))
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path, filter="data")
    return version, tmp_path / before.CHART


def versions(namespace):
    """Those of the chart that the services' pods are of."""
    return {
        pod["metadata"]["labels"]["helm.sh/chart"]
        for component in ("sampler", "aggregator", "fitter", "query")
        for pod in namespace.get("pods", f"app.kubernetes.io/component={component}")
        if "deletionTimestamp" not in pod["metadata"]
    }


SPELLED = {
    "dataset": {"load": "datamodels.train.digits:load", "options": {"train": 1400}},
    "trainer": {"class": "datamodels.train.mlp:MLP", "options": {}},
    "fit": {"estimator": "difference"},
}
"""What earlier versions know."""


def test_a_run_goes_on_through_an_upgrade(release, previous, tmp_path):
    """The old version submits the run and starts it; services and commands of the new one take it over."""
    namespace, (old, chart) = release.namespace, previous
    new = yaml.safe_load((CHART / "Chart.yaml").read_text())["version"]
    path, spec = written(tmp_path, "digits", name="upgrade", m=4000, evaluate={"subsets": 20, "models": 10}, **SPELLED)
    one = {"image": {"repository": old.repository(IMAGE)}, "jobs": {"trainer": {"parallelism": 1}}}
    release.install(chart, runs={"upgrade": yaml.safe_load(path.read_text())}, **one)
    release.make_tools()
    assert versions(namespace) == {f"datamodels-{old.number}"}
    drivers = f"{templates.COMPONENT}=driver"
    (job,) = until(lambda: namespace.get("jobs", drivers), "no driver")
    name = job["metadata"]["labels"][templates.RUN_LABEL]
    if name != spec.run:
        pytest.xfail(f"version {old.number} names a run by another hash, and trainers of both versions refuse it")
    until(lambda: release.committed(name), "no progress")

    release.upgrade()
    assert len(release.committed(name)) < spec.models // spec.sub_chunk, "the run was over; make it larger"
    assert versions(namespace) == {f"datamodels-{new}"}
    release.test()
    until(lambda: f"{name}  done" in namespace.datamodels("list").stdout, "the run does not end", every=5)
    each_once(release, name, spec.models)
    printed = namespace.datamodels("submit", path, "--watch").stdout
    assert "although it was done" in printed and f"{name}  done" in printed
