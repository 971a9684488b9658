"""Upgrades from the version before this one, its chart and its images, while a run continues."""

import tarfile

import pytest
import yaml

from tests.cluster import previous as before
from tests.cluster.place import CHART, IMAGE, each_once, until
from tests.cluster.specs import written


@pytest.fixture
def previous(namespace, tmp_path):
    """The chart of the previous version. Skips if its image cannot be had."""
    commit = before.commit()
    if not commit:
        pytest.skip("git knows no other version of the chart (a shallow clone?)")
    image = f"{IMAGE}:{before.described(commit)['appVersion']}"
    try:
        namespace.make_pod("previous", image=image, seconds=60)
    except AssertionError:
        pytest.skip(f"the nodes cannot run {image}, the previous version; make previous-images builds it")
    namespace.kubectl("delete", "pod", "previous")
    archive = tmp_path / "chart.tar"
    before.git("archive", "--output", str(archive), commit, str(before.CHART))
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path, filter="data")
    return tmp_path / before.CHART


def versions(namespace):
    """Those of the chart that the services' pods are of."""
    return {
        pod["metadata"]["labels"]["helm.sh/chart"]
        for component in ("sampler", "aggregator", "fitter", "query")
        for pod in namespace.get("pods", f"app.kubernetes.io/component={component}")
        if "deletionTimestamp" not in pod["metadata"]
    }


def test_a_run_goes_on_through_an_upgrade(release, previous, tmp_path):
    namespace = release.namespace
    old, new = (yaml.safe_load((chart / "Chart.yaml").read_text())["version"] for chart in (previous, CHART))
    release.install(previous)
    release.make_tools()
    assert versions(namespace) == {f"datamodels-{old}"}
    path, spec = written(tmp_path, "digits", name="upgrade", m=8000, evaluate={"subsets": 100, "models": 10})
    namespace.datamodels("submit", path)
    until(lambda: len(release.committed(spec.run)) >= 9, "no progress")

    release.upgrade()
    assert len(release.committed(spec.run)) < spec.models // spec.sub_chunk, "the run was over; make it larger"
    assert versions(namespace) == {f"datamodels-{new}"}
    release.test()
    printed = namespace.datamodels("submit", path, "--watch").stdout
    assert "is already submitted; nothing to do" in printed and f"{spec.run}  done" in printed
    each_once(release, spec.run, spec.models)
