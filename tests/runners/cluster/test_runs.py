import json

import pytest

from datamodels.errors import ClusterError, ConfigError, ConflictError, NotReadyError, RunNotFoundError, StageError
from datamodels.runners.cluster import runs, templates
from datamodels.runners.cluster.state import JobState
from datamodels.runners.cluster.templates import RUN_LABEL
from tests.runners.cluster.conftest import service_labels, spec

RUN = spec().run
DRIVER = templates.named(RUN, "dm")
WHERE = "(release dm, store s3://bucket/prefix)"


@pytest.fixture
def submitted(api, cluster):
    runs.submit(cluster, spec())
    return RUN


def owned(api):
    """ownerReferences of what the driver made."""
    return [{"uid": api.objects["jobs"][DRIVER]["metadata"]["uid"]}]


def test_a_run_is_submitted_once(api, cluster):
    assert runs.submit(cluster, spec()).words == "is submitted"
    made = api.objects["jobs"][DRIVER]
    assert runs.submit(cluster, spec()).words == "is already submitted; nothing to do"
    assert api.objects["jobs"][DRIVER]["metadata"]["uid"] == made["metadata"]["uid"]


def test_a_run_that_is_done_is_checked_by_a_new_driver(api, cluster, submitted):
    """Its store may be another one by now, or empty."""
    old = api.objects["jobs"][DRIVER]["metadata"]["uid"]
    api.finish(DRIVER, "Complete")
    assert runs.submit(cluster, spec()).words == (
        "is submitted again, although it was done: the driver trains and fits what its store lacks"
    )
    assert api.objects["jobs"][DRIVER]["metadata"]["uid"] != old


def second_release(api):
    """Installs the chart again, as dm2."""
    (first,) = api.objects["configmaps"].values()
    second = json.loads(json.dumps(first).replace('"dm"', '"dm2"').replace("instance: dm", "instance: dm2"))
    api.add("configmaps", second | {"metadata": second["metadata"] | {"name": "dm2-jobs", "uid": "uid-of-dm2"}})


def test_releases_of_one_namespace_have_runs_of_their_own(api, cluster, eventually):
    second_release(api)
    with pytest.raises(ConfigError, match="has the releases dm, dm2; choose one with --release"):
        runs.submit(cluster, spec())
    for release in ("dm", "dm2"):
        assert runs.submit(cluster, spec(), release).words == "is submitted"
        assert runs.submit(cluster, spec(), release).words == "is already submitted; nothing to do"
    api.finish(DRIVER, "Failed", condition={"reason": "PodFailurePolicy"})
    assert [(found.release, found.state) for found in runs.listed(cluster)] == [
        ("dm", JobState.FAILED),
        ("dm2", JobState.WAITING),
    ]
    assert [found.release for found in runs.listed(cluster, "dm2")] == ["dm2"]
    with pytest.raises(ConfigError, match=f"run {RUN}: the releases dm, dm2 have it; choose one with --release"):
        runs.described(cluster, RUN)
    assert runs.described(cluster, RUN, "dm2").state is JobState.WAITING
    runs.cancel(cluster, RUN, "dm2")
    eventually(lambda: list(api.objects["jobs"]) == [DRIVER])


@pytest.mark.parametrize(
    "other", [{"fit": {"estimator": "ridge"}}, {"until": {"lds": 0.9}}, {"output": {"threshold": 1.0}}]
)
def test_a_run_that_is_done_is_fitted_or_ended_another_way(api, cluster, other):
    first = {"evaluate": {"subsets": 10, "models": 2}}
    runs.submit(cluster, spec(**first))
    (name,) = api.objects["jobs"]
    with pytest.raises(
        ConflictError, match="is already running with another fit, until or output; cancel it, or wait until it ends"
    ):
        runs.submit(cluster, spec(**first, **other))
    old = api.objects["jobs"][name]["metadata"]["uid"]
    api.finish(name, "Complete")
    words = runs.submit(cluster, spec(**first, **other)).words
    assert words.startswith("is submitted again, because its fit, until or output changed")
    assert api.objects["jobs"][name]["metadata"]["uid"] != old
    assert runs.submit(cluster, spec(**first, **other)).words == "is already submitted; nothing to do"


def test_a_failed_run_is_topped_up_by_a_new_driver(api, cluster, submitted):
    old = api.objects["jobs"][DRIVER]["metadata"]["uid"]
    owner = {"uid": old, "name": DRIVER}
    api.add("jobs", {"metadata": {"name": "train-x", "ownerReferences": [owner]}, "spec": {}})
    api.finish(DRIVER, "Failed")
    again = runs.submit(cluster, spec())
    assert again.before is JobState.FAILED and "resumes from what is committed" in again.words
    assert list(api.objects["jobs"]) == [DRIVER] and api.objects["jobs"][DRIVER]["metadata"]["uid"] != old


def test_a_submit_that_somebody_else_won_is_no_error(api, cluster):
    api.refusals["POST", "jobs"] = (409, "already exists")
    assert runs.submit(cluster, spec()).words == "is already submitted; nothing to do"


def test_a_quota_is_said_at_once(api, cluster):
    api.refusals["POST", "jobs"] = (403, "forbidden: exceeded quota: count/jobs.batch=5")
    with pytest.raises(ClusterError, match="exceeded quota"):
        runs.submit(cluster, spec())


def test_without_a_chart_nothing_is_submitted(api, cluster):
    api.objects["configmaps"].clear()
    with pytest.raises(ConfigError, match="no chart is installed"):
        runs.submit(cluster, spec())
    assert not api.objects["jobs"]


def test_cancel_deletes_the_driver_and_what_it_owns(api, cluster, submitted, eventually):
    owner = {"uid": api.objects["jobs"][DRIVER]["metadata"]["uid"]}
    api.add("jobs", {"metadata": {"name": "train-x", "ownerReferences": [owner]}, "spec": {}})
    runs.cancel(cluster, RUN)
    eventually(lambda: not api.objects["jobs"])
    with pytest.raises(RunNotFoundError, match=f"no such run: '{RUN}' in namespace ns; `datamodels list`"):
        runs.cancel(cluster, RUN)


@pytest.mark.parametrize("name", ["nonsense", "../x", "x" * 300])
def test_names_that_are_no_runs_are_not_asked_for(api, cluster, name):
    with pytest.raises(RunNotFoundError):
        list(runs.lines(cluster, name))
    assert not [call for call in api.calls if call[1] == "jobs"]


def test_status_tells_of_driver_trainers_and_services(api, cluster, submitted):
    labels = {RUN_LABEL: RUN, "app.kubernetes.io/component": "trainer"}
    api.add(
        "jobs",
        {
            "metadata": {"name": "train-x", "labels": labels, "ownerReferences": owned(api)},
            "spec": {"completionMode": "Indexed", "completions": 40},
            "status": {"completedIndexes": "0-9", "failedIndexes": "11", "ready": 3},
        },
    )
    message = json.dumps({"event": "a:B raised on model 3", "level": "error"})
    ended = {"state": {"terminated": {"exitCode": 2, "message": message, "finishedAt": "t"}}, "name": "trainer"}
    api.add_pod("train-x-11", job="train-x", status={"phase": "Failed", "containerStatuses": [ended]})
    api.add_pod("train-x-12", job="train-x", status={"phase": "Running"})
    api.set_status(DRIVER, ready=1)
    api.add_pod("driver", job=DRIVER, status={"phase": "Running"})
    api.logs["driver"] = [json.dumps({"stage": "train", "done": 1000, "expected": 4000, "unit": "models"})]
    secret = {
        "name": "c",
        "state": {"waiting": {"reason": "CreateContainerConfigError", "message": 'secret "s" not found'}},
    }
    api.add_pod("agg", status={"containerStatuses": [secret]}, **service_labels("aggregator"))
    assert list(runs.lines(cluster, RUN)) == [
        f"{RUN}  running  {WHERE}",
        "trainer  running: 10 of 40 indexes done, 3 running, 1 failed: 11",
        "trainer: last ended at t with exit code 2: a:B raised on model 3; another pod works since",
        'aggregator: CreateContainerConfigError: secret "s" not found; create it, or correct the chart\'s values',
        "train  1,000 of 4,000 models",
    ]


def test_status_says_why_a_driver_does_not_start(api, cluster, submitted):
    api.warn("Job", DRIVER, "FailedCreate", 'pods "x" is forbidden: exceeded quota: pods')
    api.warn("Job", "other", "FailedCreate", "of another")
    assert list(runs.lines(cluster, RUN))[1].startswith("driver: FailedCreate: pods")
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}
    api.add_pod("driver", job=DRIVER, status={"conditions": [condition]})
    assert "driver: cannot be scheduled: 0/1 nodes" in list(runs.lines(cluster, RUN))[1]


@pytest.mark.parametrize("status", [500, 404, 403])
def test_status_does_without_a_log_that_cannot_be_read(api, cluster, submitted, status):
    api.add_pod("driver", job=DRIVER, status={"phase": "Running"})
    api.refusals["GET", "log"] = (status, "dial tcp 10.0.0.9:10250: connect: connection refused")
    assert list(runs.lines(cluster, RUN)) == [f"{RUN}  waiting  {WHERE}"]
    api.logs["driver"] = [json.dumps({"stage": "train", "done": 5, "expected": 10, "unit": "models"})]
    assert list(runs.lines(cluster, RUN)) == [f"{RUN}  waiting  {WHERE}", "train  5 of 10 models"]


def test_status_says_why_pods_do_not_start_on_their_node(api, cluster, submitted):
    def stuck(name, **labels):
        waiting = {"name": "c", "state": {"waiting": {"reason": "ContainerCreating"}}}
        pod = api.add_pod(name, status={"phase": "Pending", "containerStatuses": [waiting]}, **labels)
        pod["spec"]["nodeName"] = "node1"
        api.warn("Pod", name, "FailedMount", 'MountVolume.SetUp failed for volume "tls":\n secret "nowhere" not found')

    assert [line for line in runs.lines(cluster, RUN) if "FailedMount" in line] == []
    stuck("driver", job=DRIVER)
    stuck("aggregator", **service_labels("aggregator"))
    message = (
        'FailedMount: MountVolume.SetUp failed for volume "tls": secret "nowhere" not found; create it, or correct the '
    )
    message += "chart's values"
    assert [line for line in runs.lines(cluster, RUN) if "FailedMount" in line] == [
        f"driver: {message}",
        f"aggregator: {message}",
    ]
    api.objects["pods"]["driver"]["status"]["phase"] = "Running"
    api.logs["driver"] = ["at work"]
    assert f"driver: {message}" not in runs.lines(cluster, RUN), "what has passed is said"


def test_runs_are_listed_in_the_order_they_were_submitted(api, cluster):
    for name in ("b", "a"):
        runs.submit(cluster, spec(name=name))
    api.finish(
        templates.named(spec(name="b").run, "dm"),
        "Failed",
        condition={"reason": "PodFailurePolicy", "message": "exit code 2"},
    )
    first, second = map(str, runs.listed(cluster))
    assert first == f"{spec(name='b').run}  failed: PodFailurePolicy: exit code 2  {WHERE}"
    assert second == f"{spec(name='a').run}  waiting  {WHERE}"


def test_watch_shows_what_changes_until_the_run_is_done(api, cluster, submitted):
    shown = []
    result = "LDS        0.930  (95% interval 0.920 to 0.940)\nverdict    good"
    ended = {"name": "driver", "state": {"terminated": {"exitCode": 0, "message": result}}}

    def show(line):
        shown.append(line)
        if len(shown) == 1:
            api.add_pod("driver", job=DRIVER, status={"phase": "Succeeded", "containerStatuses": [ended]})
            api.finish(DRIVER, "Complete")

    runs.watch(cluster, RUN, show)
    assert shown == [
        f"{RUN}  waiting  {WHERE}",
        f"{RUN}  done  {WHERE}",
        *result.splitlines(),
        f"next       datamodels report {RUN} --namespace ns",
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            "dataset.load = 'a:b': cannot be imported",
            f"run {RUN}: dataset.load = 'a:b': cannot be imported; fix it and submit the run again, "
            "what is committed is kept",
        ),
        (f"run {RUN}: trainers failed; submit the run again", f"run {RUN}: trainers failed; submit the run again"),
    ],
)
def test_watch_fails_with_the_drivers_last_words_and_exit_code(api, cluster, submitted, words, message):
    ended = {"exitCode": 2, "message": f"datamodels: {words}", "finishedAt": "t"}
    api.add_pod(
        "driver", job=DRIVER, status={"containerStatuses": [{"name": "driver", "state": {"terminated": ended}}]}
    )
    api.finish(DRIVER, "Failed")
    with pytest.raises(StageError) as raised:
        runs.watch(cluster, RUN, lambda line: None)
    assert str(raised.value) == message and raised.value.exit_code == 2


def test_logs_are_of_the_newest_pod(api, cluster, submitted):
    with pytest.raises(NotReadyError, match="its driver has no pod now"):
        runs.log(cluster, RUN)
    for name in ("old", "new"):
        api.add_pod(name, job=DRIVER)
        api.logs[name] = [name]
    assert list(runs.log(cluster, RUN)) == ["new"]
    with pytest.raises(NotReadyError, match="its trainer of index 3 has no pod now"):
        runs.log(cluster, RUN, index=3)
    labels = {RUN_LABEL: RUN}
    owners = owned(api)
    api.add(
        "jobs",
        {
            "metadata": {"name": "train-x", "labels": labels, "ownerReferences": owners},
            "spec": {"completionMode": "Indexed"},
        },
    )
    for index in (2, 3):
        api.add_pod(f"t{index}", job="train-x", index=index)
        api.logs[f"t{index}"] = [f"trainer {index}"]
    assert list(runs.log(cluster, RUN, index=3)) == ["trainer 3"]
    with pytest.raises(RunNotFoundError):
        runs.log(cluster, spec(name="other").run)
