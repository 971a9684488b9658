"""Properties of all rendered objects."""

import json
import os
import subprocess
import sys
import time

import pytest

from datamodels.cli.parser import parser
from tests.helm.conftest import CHART, COMPONENTS, VALUES, render
from tests.helm.schemas import VERSIONS, validator

FOREIGN = ("ServiceMonitor", "PodMonitor", "PrometheusRule", "Certificate")
"""Kinds of the Prometheus Operator and cert-manager, for which Kubernetes has no schemas."""
CREDENTIALS = ("AWS_", "secretKeyRef", "envFrom")


@pytest.mark.parametrize("version", VERSIONS)
def test_everything_fits_the_strict_schemas(rendered, version):
    seen = set()
    for each in rendered.values():
        for thing in each.all():
            text = json.dumps(thing, sort_keys=True)
            if thing["kind"] in FOREIGN or text in seen:
                continue
            seen.add(text)
            faults = [e.message for e in validator(version, thing["kind"], thing["apiVersion"]).iter_errors(thing)]
            assert not faults, (each.name, thing["metadata"], faults)
    assert len(seen) > 60


def test_the_schemas_refuse_unknown_fields(rendered):
    job = json.loads(json.dumps(rendered["defaults"].templates["trainer"]))
    job["spec"]["completion"] = 3
    assert list(validator("1.33", "Job", "batch/v1").iter_errors(job))


def test_every_pod_is_restricted(each):
    pods = list(each.pods())
    assert len(pods) >= 6
    for who, pod in pods:
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True and spec["securityContext"]["runAsUser"] > 0, who
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, who
        assert not {"hostNetwork", "hostPID", "hostIPC", "hostUsers"} & set(spec), who
        assert {next(k for k in v if k != "name") for v in spec.get("volumes", [])} <= {
            "emptyDir",
            "configMap",
            "persistentVolumeClaim",
            "projected",
        }, who
        for container in [*spec["containers"], *spec.get("initContainers", [])]:
            context = container["securityContext"]
            assert context == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, who
            assert all("hostPort" not in port for port in container.get("ports", [])), who
            assert {"requests", "limits"} <= set(container["resources"]), who
            assert container["terminationMessagePolicy"] == "FallbackToLogsOnError", who


def test_only_pods_that_call_the_api_server_get_a_token(each):
    tokens = {pod["metadata"]["labels"]["app.kubernetes.io/component"] for _, pod in each.pods() if with_token(pod)}
    asking = {"aggregator", "fitter"} if each.name == "tls" else set()  # they ask for the keys that sign tokens
    assert asking | {"driver"} <= tokens <= asking | {"driver", "submit"}
    assert all(account["automountServiceAccountToken"] is False for account in each.of("ServiceAccount"))


def with_token(pod):
    return pod["spec"]["automountServiceAccountToken"]


def test_a_trainer_without_a_heartbeat_is_not_alive(rendered, tmp_path):
    """Runs the command of the probe, which does not depend on the trainer's interpreter."""
    pod = rendered["defaults"].templates["trainer"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    (file,) = [e["value"] for e in container["env"] if e["name"] == "DATAMODELS_TRAINER_HEARTBEAT_FILE"]
    assert file.startswith("/tmp/") and {"name": "tmp", "mountPath": "/tmp"} in container["volumeMounts"]
    python, *arguments = container["livenessProbe"]["exec"]["command"]
    beat = tmp_path / "heartbeat"
    command = [sys.executable, *(argument.replace(file, str(beat)) for argument in arguments)]

    def alive():
        return subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode == 0

    assert python == "python" and not alive(), "there is none yet"
    beat.touch()
    assert alive()
    hour_ago = time.time() - 3600
    os.utime(beat, (hour_ago, hour_ago))
    assert not alive()


def test_trainers_and_samplers_have_no_access_to_the_store(each):
    for component in ("trainer", "sampler"):
        pods = [p for _, p in each.pods() if p["metadata"]["labels"]["app.kubernetes.io/component"] == component]
        assert pods
        for pod in pods:
            assert not any(word in json.dumps(pod) for word in (*CREDENTIALS, "DATAMODELS_STORE")), component
            assert pod["spec"].get("serviceAccountName", "dm-trainer") == "dm-trainer", "which has no rights"


def test_credentials_come_from_the_named_secret(rendered):
    container = rendered["everything"].one("Deployment", "aggregator")["spec"]["template"]["spec"]["containers"][0]
    named = {e["name"]: e["valueFrom"]["secretKeyRef"] for e in container["env"] if "valueFrom" in e}
    assert {n: (r["name"], r.get("optional", False)) for n, r in named.items()} == {
        "AWS_ACCESS_KEY_ID": ("store", False),
        "AWS_SECRET_ACCESS_KEY": ("store", False),
        "AWS_SESSION_TOKEN": ("store", True),
    }
    assert "AWS_ACCESS_KEY_ID" not in json.dumps(rendered["gpu"].all())


def test_only_accounts_and_pods_that_use_the_store_have_workload_identity(rendered):
    gpu = rendered["gpu"]
    for account in gpu.of("ServiceAccount"):
        assert "eks.amazonaws.com/role-arn" in account["metadata"]["annotations"]
    labelled = {
        pod["metadata"]["labels"]["app.kubernetes.io/component"]
        for _, pod in gpu.pods()
        if "azure.workload.identity/use" in pod["metadata"]["labels"]
    }
    assert labelled == {"aggregator", "query", "fitter", "driver"}


def test_roles_are_of_one_namespace_and_name_each_verb(each):
    assert not each.of("ClusterRole") + each.of("ClusterRoleBinding")
    for thing in each.all():
        assert thing["metadata"].get("namespace") == "ns", thing["metadata"]
    (role,) = each.of("Role")
    assert "*" not in json.dumps(role["rules"]) and "secrets" not in json.dumps(role["rules"])


def test_a_digest_overrides_a_tag(rendered):
    images = {c["image"] for _, pod in rendered["everything"].pods() for c in pod["spec"]["containers"]}
    assert len(images) == 1 and images.pop().startswith("images.example/datamodels@sha256:0123")
    defaults = {c["image"] for _, pod in rendered["defaults"].pods() for c in pod["spec"]["containers"]}
    assert defaults == {"datamodels:0.2.0"}


def test_names_and_selectors_agree(each):
    """Every Service and policy selects pods by labels that the pods have."""
    pods = [pod["metadata"]["labels"] for _, pod in each.pods()]
    for thing in each.of("Service"):
        assert any(thing["spec"]["selector"].items() <= labels.items() for labels in pods), thing["metadata"]["name"]
    for deployment in each.of("Deployment"):
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        assert deployment["spec"]["selector"]["matchLabels"].items() <= labels.items()


def test_the_version_is_that_of_the_package():
    import tomllib

    import yaml

    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    project = tomllib.loads((CHART.parents[1] / "pyproject.toml").read_text())["project"]
    assert chart["appVersion"] == project["version"]


@pytest.mark.parametrize("enabled", [False, True])
def test_env_in_the_values_overrides_the_charts_settings(enabled):
    """The API server refuses a container with two variables of the same name."""
    env = {"DATAMODELS_LOG_LEVEL": "debug", "DATAMODELS_STORE_URL": "s3://other/x", "MINE": "1"}
    parts = ("sampler", "aggregator", "fitter", "query")
    values = {
        "store": {"url": "s3://bucket/prefix"},
        "jobs": {"driver": {"env": env}, "trainer": {"env": env}, "fitter": {"enabled": True}},
    }
    rendered = render("env", values | {part: {"env": env} for part in parts})
    seen = 0
    for who, pod in rendered.pods():
        (container,) = pod["spec"]["containers"]
        found = [(variable["name"], variable.get("value")) for variable in container.get("env", [])]
        names = [name for name, _ in found]
        assert len(set(names)) == len(names), who
        seen += "MINE" in names and set(env.items()) <= set(found)
    assert seen == 6, "sampler, aggregator, query, driver, trainer, and the fitter as a service or a Job"


def test_drivers_train_for_gradients_only_if_asked_to(rendered):
    def told(each):
        env = each.templates["driver"]["spec"]["template"]["spec"]["containers"][0]["env"]
        return [variable["value"] for variable in env if variable["name"] == "DATAMODELS_CLUSTER_GRADIENTS"]

    assert told(rendered["everything"]) == ["true"] and told(rendered["defaults"]) == []


def test_every_process_logs_and_traces_as_the_values_say(rendered):
    said = {
        "DATAMODELS_LOG_LEVEL": "info",
        "DATAMODELS_LOG_FORMAT": "json",
        "DATAMODELS_LOG_ACCESS": "true",
        "DATAMODELS_LOG_TRACES": "http://collector.monitoring:4318",
    }
    found = [
        (who, {each["name"]: each.get("value") for each in pod["spec"]["containers"][0]["env"]})
        for who, pod in rendered["everything"].pods()
        if "dm-test" not in who and "dm-submit" not in who  # commands that end at once
    ]
    assert len(found) == 9
    assert not [who for who, env in found if not said.items() <= env.items()]


POD = {
    "labels": {"team": "vision", "app.kubernetes.io/component": "mine"},
    "annotations": {"sidecar.example/inject": "false"},
    "affinity": {"nodeAffinity": {}},
    "serviceAccountName": "mine",
    "env": [
        {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "hub", "key": "token"}}},
        {"name": "DATAMODELS_LOG_LEVEL", "value": "debug"},
    ],
    "envFrom": [{"configMapRef": {"name": "proxy"}}],
    "volumes": [{"name": "shm", "emptyDir": {"medium": "Memory"}}],
    "volumeMounts": [{"name": "shm", "mountPath": "/dev/shm"}],
    "initContainers": [{"name": "fetch", "image": "busybox"}],
}


def test_pods_have_what_the_values_add():
    parts = {name: {"pod": POD} for name in COMPONENTS}
    jobs = {"driver": {"pod": POD}, "trainer": {"pod": POD}, "fitter": {"enabled": True}}
    found = render("pod", VALUES["defaults"] | parts | {"jobs": jobs, "fullnameOverride": "models"})
    pods = {who: pod for who, pod in found.pods() if "Job submit" not in who and "test" not in who}
    assert len(pods) == 6
    for who, pod in pods.items():
        spec, (container,) = pod["spec"], pod["spec"]["containers"]
        assert pod["metadata"]["labels"]["team"] == "vision", who
        assert pod["metadata"]["labels"]["app.kubernetes.io/component"] == container["name"] != "mine"
        assert POD["annotations"].items() <= pod["metadata"]["annotations"].items()
        assert spec["affinity"] == POD["affinity"] and spec["serviceAccountName"] == "mine"
        assert spec["initContainers"] == POD["initContainers"] and POD["volumes"][0] in spec["volumes"]
        assert POD["volumeMounts"][0] in container["volumeMounts"] and container["envFrom"] == POD["envFrom"]
        assert POD["env"] == container["env"][-2:]
        names = [variable["name"] for variable in container["env"]]
        assert len(names) == len(set(names)), "the API server refuses a name twice"
    for thing in found.all():
        assert thing["metadata"].get("name", "models-").startswith("models-"), thing["metadata"]
        assert not list(validator(VERSIONS[-1], thing["kind"], thing["apiVersion"]).iter_errors(thing)), thing["kind"]


def test_upkeep_is_off_until_asked_for(rendered):
    assert not rendered["defaults"].of("CronJob")
    cron = rendered["everything"].one("CronJob", "upkeep")["spec"]
    pod = cron["jobTemplate"]["spec"]["template"]["spec"]
    assert (cron["schedule"], cron["concurrencyPolicy"], pod["serviceAccountName"]) == (
        "0 4 * * 0",
        "Forbid",
        "dm-store",
    )
    lines = [container["command"] for container in (*pod["initContainers"], *pod["containers"])]
    prune, vacuum = (parser().parse_args(words[1:]) for words in lines)
    assert (prune.keep, prune.older_than, prune.grace, prune.run, prune.force) == (5, 90, 48, None, False)
    assert (vacuum.compact, vacuum.grace, vacuum.run, vacuum.force) == (True, 48, None, False)
    dev = render("upkeep", {"devStore": {"enabled": True}, "upkeep": {"enabled": True, "compact": False}})
    assert "--compact" not in json.dumps(dev.one("CronJob", "upkeep"))
    assert '"upkeep"' in json.dumps(dev.one("NetworkPolicy", "devstore")["spec"]["ingress"])
