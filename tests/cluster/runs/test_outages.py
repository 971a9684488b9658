"""A run ends by itself, with each model once, although what it needs is away for OUTAGE seconds or is killed."""

import json
import os
import re
import time

import pytest

from datamodels.runners.cluster import templates
from tests.cluster.place import (
    CONTAINER_SECURITY,
    FREEZE,
    IMAGE,
    METRICS,
    POD_SECURITY,
    SMALL,
    VERSION,
    each_once,
    until,
)
from tests.cluster.specs import sleeping, written
from tests.helpers.waiting import LIMIT

OUTAGE = float(os.environ.get("DATAMODELS_TEST_OUTAGE", "45"))
"""Seconds. Everything is patient for ten minutes, so 600 are what it must bear."""
EVALUATE = {"subsets": 100, "models": 10}


@pytest.fixture(scope="module", autouse=True)
def tools(running):
    running.make_tools()


def scaled(component):
    """Takes a service away by its Deployment, and gives it back."""

    def away(running, store):
        running.namespace.kubectl("scale", f"deployment/dm-{component}", "--replicas=0")
        until(lambda: not running.namespace.pods(component), f"{component} stays")

    def back(running, store):
        running.namespace.kubectl("scale", f"deployment/dm-{component}", "--replicas=1")

    return away, back


def frozen(running, store):
    """The store accepts connections and answers nothing, which is worse than a refusal."""
    store.within("store", "python", "-c", FREEZE, "SIGSTOP")


def thawed(running, store):
    store.within("store", "python", "-c", FREEZE, "SIGCONT")


OUTAGES = {"sampler": scaled("sampler"), "aggregator": scaled("aggregator"), "store": (frozen, thawed)}


@pytest.mark.parametrize("what", OUTAGES)
def test_a_run_outlasts_an_outage(running, store, what, tmp_path):
    namespace, (away, back) = running.namespace, OUTAGES[what]
    path, spec = sleeping(tmp_path, f"no-{what}")
    namespace.datamodels("submit", path)
    before = until(lambda: running.committed(spec.run), "no progress")
    assert len(before) < spec.models // spec.sub_chunk, "the run was over before the outage; make it larger"
    away(running, store)
    try:
        time.sleep(OUTAGE)
    finally:
        back(running, store)
    until(lambda: f"{spec.run}  done" in namespace.datamodels("list").stdout, "the run does not end by itself", every=5)
    each_once(running, spec.run, spec.models)
    assert set(before) <= set(running.committed(spec.run))
    (job,) = namespace.get("jobs", f"{templates.RUN_LABEL}={spec.run},{templates.COMPONENT}=trainer")
    assert not job["status"].get("failedIndexes"), job["status"]
    print(what, {name: job["status"].get(name) for name in ("failed", "succeeded")})


def test_a_quota_that_is_reached_midway_is_told(running, tmp_path):
    namespace = running.namespace
    path, spec = sleeping(tmp_path, "quota")
    namespace.datamodels("submit", path)
    until(lambda: running.committed(spec.run), "no progress")
    namespace.quota(pods="1")
    try:
        namespace.kill(namespace.pods("trainer", spec.run)[0])
        running.status_line(spec.run, r"trainer: FailedCreate: .*exceeded quota.*; raise the quota")
        (driver,) = namespace.pods("driver", spec.run)
        until(lambda: held_up(namespace, driver) >= 1, "the metric does not tell")
    finally:
        namespace.kubectl("delete", "resourcequota", "--all")
    assert f"{spec.run}  done" in namespace.datamodels("submit", path, "--watch").stdout
    each_once(running, spec.run, spec.models)


def held_up(namespace, driver):
    text = namespace.within(driver, "python", "-c", METRICS)
    return float(re.search(r"^datamodels_run_trainers_held_up (\S+)", text, re.MULTILINE)[1])


@pytest.fixture(params=["service", "job"])
def fitter(running, request):
    """(labels of its pods' run or None, words): the fitter that waits for fits, or one that is started for each."""
    if request.param == "job":
        running.upgrade(fitter={"replicas": 0}, jobs={"fitter": {"enabled": True}})
    yield request.param
    if request.param == "job":
        running.upgrade()


def test_a_fit_survives_the_loss_of_its_fitter(running, fitter, tmp_path):
    namespace = running.namespace
    path, spec = written(tmp_path, "digits", name=f"fit-{fitter}", m=3000, evaluate=EVALUATE)
    namespace.datamodels("submit", path)
    run = spec.run if fitter == "job" else None

    def fitting():
        state = running.status(spec.run)
        assert not state[0].startswith(f"{spec.run}  done"), "the fit was over before it was disturbed"
        return any(line.startswith("fit  ") for line in state) and namespace.ready("fitter", run)

    for pod in until(fitting, "the fit does not begin", every=0.1):
        namespace.kill(pod)
    assert f"{spec.run}  done" in namespace.datamodels("submit", path, "--watch").stdout
    each_once(running, spec.run, spec.models)


def split_fit(release, spec, pods, **fit):
    """An Indexed Job whose pods share a fit of a run."""
    command = ["python", "-m", "datamodels.services.fitter", "--run", spec.run, "--blocks", str(pods)]
    container = {
        "name": "fitter",
        "image": f"{IMAGE}:{VERSION}",
        "command": [*command, "--settings", json.dumps(fit)],
        "env": [{"name": name, "value": value} for name, value in release.store_env.items()],
        "securityContext": CONTAINER_SECURITY,
        "resources": SMALL,
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    }
    pod = {
        "restartPolicy": "Never",
        "securityContext": POD_SECURITY,
        "automountServiceAccountToken": False,
        "containers": [container],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
    }
    ignore = [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]
    job = {
        "completionMode": "Indexed",
        "completions": pods,
        "parallelism": pods,
        "backoffLimit": 6,
        "podFailurePolicy": {"rules": ignore},
        "template": {"metadata": {"labels": {"app": "split-fit"}}, "spec": pod},
    }
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "split-fit"}, "spec": job}


def test_a_split_fit_survives_the_loss_of_its_pods(running, tmp_path):
    """Each pod is killed once while it fits. The blocks that are committed stay, and the fit becomes one whole."""
    namespace, fit = running.namespace, {"estimator": "lasso", "holdout": 0.12}
    path, spec = written(tmp_path, "digits", name="split", m=3000, evaluate=EVALUATE)
    namespace.datamodels("submit", path, "--watch")
    namespace.apply(split_fit(running, spec, 3, **fit))

    def fitting():
        """A pod of each index that has begun to fit."""
        pods = [
            pod["metadata"] for pod in namespace.get("pods", "app=split-fit") if pod["status"]["phase"] == "Running"
        ]
        names = {pod["labels"]["batch.kubernetes.io/job-completion-index"]: pod["name"] for pod in pods}
        began = {index: name for index, name in names.items() if '"fitting"' in namespace.kubectl("logs", name)}
        return len(began) == 3 and began

    for pod in until(fitting, "the shares do not begin", every=0.1).values():
        namespace.kill(pod)
    done = ("wait", "--for=condition=Complete", "job/split-fit", f"--timeout={LIMIT:.0f}s")
    namespace.kubectl(*done)
    (job,) = [each for each in namespace.get("jobs") if each["metadata"]["name"] == "split-fit"]
    assert job["status"]["succeeded"] == 3, job["status"]
    found = json.loads(namespace.within("tools", "datamodels", "status", spec.run, "--verify", "--json"))["fits"]
    assert [each["estimator"] for each in found] == ["prior", "lasso"]
    assert {each["verified"]["targets"] for each in found} == {397}
    print(found[1], {name: job["status"].get(name) for name in ("failed", "succeeded")})
    namespace.kubectl("delete", "job", "split-fit")


def test_scaled_suspended_and_resumed(running, tmp_path):
    namespace = running.namespace
    path, spec = sleeping(tmp_path, "elastic", 12_000)
    namespace.datamodels("submit", path)
    until(lambda: running.committed(spec.run), "no progress")
    namespace.datamodels("scale", spec.run, "1")
    until(lambda: len(namespace.pods("trainer", spec.run)) == 1, "it does not shrink")
    namespace.datamodels("scale", spec.run, "3")
    until(lambda: len(namespace.pods("trainer", spec.run)) == 3, "it does not grow")
    namespace.datamodels("suspend", spec.run)
    until(lambda: not namespace.pods("trainer", spec.run), "it does not stop")
    assert any("is suspended; `datamodels resume" in line for line in running.status(spec.run))
    kept = running.committed(spec.run)
    namespace.datamodels("resume", spec.run)
    assert f"{spec.run}  done" in namespace.datamodels("submit", path, "--watch").stdout
    assert set(kept) <= set(running.committed(spec.run))
    each_once(running, spec.run, spec.models)
