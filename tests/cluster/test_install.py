"""The chart is installed, tried by `helm test`, and taken away again."""

import yaml

from tests.cluster.place import CHART, IMAGE, each_once, for_this_cluster, run, until
from tests.cluster.specs import written

OURS = ("configmap/kube-root-ca.crt", "serviceaccount/default")
"""What Kubernetes puts into every namespace."""


def things(namespace):
    """Every object of a namespace but events, as kind/name."""
    kinds = namespace.kubectl("api-resources", "--namespaced", "--verbs=list", "-o", "name").split()
    kinds = [kind for kind in kinds if not kind.startswith("events") and "metrics" not in kind]
    names = namespace.kubectl("get", ",".join(kinds), "-o", "name", "--ignore-not-found").split()
    return {name for name in names if name not in OURS}


def drift(release):
    """What would change, generations included, if what the chart rendered were applied once more."""
    manifest = release.helm("get", "manifest", "dm")
    command = ["kubectl", "-n", release.namespace.name, "diff", "--server-side", "--force-conflicts", "-f", "-"]
    return run(command, check=False, input=manifest).stdout


def test_uninstall_leaves_nothing_but_the_data(release, tmp_path):
    namespace = release.namespace
    release.make_secret()
    before = things(namespace)
    release.install()
    release.test()
    assert "pod/dm-test" not in things(namespace)
    assert drift(release) == "", "applied again, as GitOps tools do, the chart would change something"
    path, spec = written(tmp_path, "breast-cancer", m=300)
    namespace.datamodels("submit", path, "--watch")
    release.make_tools()

    release.helm("uninstall", "dm", "--wait", "--timeout=5m")
    until(lambda: things(namespace) == before | {"pod/tools"}, lambda: f"left: {things(namespace) - before}")
    each_once(release, spec.run, spec.models)

    release.install()
    namespace.datamodels("submit", path, "--watch")  # the store has all: nobody trains
    assert not namespace.get("jobs", "app.kubernetes.io/component=trainer")
    assert f"{spec.models:,} committed before" in namespace.datamodels("logs", spec.run).stdout
    assert spec.run in namespace.within("tools", "datamodels", "query", "runs")


def test_the_values_for_trying_out_are_enough(release):
    values = yaml.safe_load((CHART / "ci" / "dev-values.yaml").read_text())
    values |= {
        "image": {"repository": IMAGE},
        "devStore": {"enabled": True, "image": {"repository": f"{IMAGE}-devstore"}},
    }
    text = yaml.safe_dump(for_this_cluster(values))
    release.helm("install", "dm", CHART, "--values", "-", "--wait", "--timeout=5m", input=text)
    release.test()
    release.helm("uninstall", "dm", "--wait")
