"""From the chart before this one, while a run is going."""

import subprocess
import tarfile

import pytest
import yaml

from tests.cluster.place import CHART, ROOT, each_once, until
from tests.cluster.specs import written

HERE = CHART.relative_to(ROOT)


@pytest.fixture
def previous(tmp_path):
    """The chart as it last was under another version, from git."""
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["version"]
    file = HERE / "Chart.yaml"
    for commit in git("log", "--format=%H", "--", str(file)).split():
        found = yaml.safe_load(git("show", f"{commit}~:{file}", check=False) or "{}")
        if found.get("version", version) != version:
            archive = tmp_path / "chart.tar"
            git("archive", "--output", str(archive), f"{commit}~", str(HERE))
            with tarfile.open(archive) as tar:
                tar.extractall(tmp_path, filter="data")
            return tmp_path / HERE
    pytest.skip("git knows no other version of the chart (a shallow clone?)")


def git(*arguments, check=True):
    done = subprocess.run(["git", "-C", ROOT, *arguments], capture_output=True, text=True, check=check)
    return done.stdout if done.returncode == 0 else ""


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
