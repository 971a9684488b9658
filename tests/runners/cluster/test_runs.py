import json

import pytest

from datamodels.errors import ClusterError, ConfigError, ConflictError, NotReadyError, RunNotFoundError, StageError
from datamodels.runners.cluster import runs
from datamodels.runners.cluster.state import JobState
from datamodels.runners.cluster.templates import RUN_LABEL
from tests.runners.cluster.conftest import service_labels, spec

RUN = spec().run


@pytest.fixture
def submitted(api, cluster):
    runs.submit(cluster, spec())
    return RUN


def test_a_run_is_submitted_once(api, cluster):
    assert runs.submit(cluster, spec()).words == "is submitted"
    made = api.objects["jobs"][RUN]
    assert runs.submit(cluster, spec()).words == "is already submitted; nothing to do"
    api.finish(RUN, "Complete")
    assert runs.submit(cluster, spec()).words == "is already done; nothing to do"
    assert api.objects["jobs"][RUN]["metadata"]["uid"] == made["metadata"]["uid"]


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
    old = api.objects["jobs"][RUN]["metadata"]["uid"]
    owner = {"uid": old, "name": RUN}
    api.add("jobs", {"metadata": {"name": "train-x", "ownerReferences": [owner]}, "spec": {}})
    api.finish(RUN, "Failed")
    again = runs.submit(cluster, spec())
    assert again.before is JobState.FAILED and "resumes from what is committed" in again.words
    assert list(api.objects["jobs"]) == [RUN] and api.objects["jobs"][RUN]["metadata"]["uid"] != old


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
    owner = {"uid": api.objects["jobs"][RUN]["metadata"]["uid"]}
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
            "metadata": {"name": "train-x", "labels": labels},
            "spec": {"completionMode": "Indexed", "completions": 40},
            "status": {"completedIndexes": "0-9", "failedIndexes": "11", "ready": 3},
        },
    )
    message = json.dumps({"event": "a:B raised on model 3"})
    ended = {"state": {"terminated": {"exitCode": 2, "message": message, "finishedAt": "t"}}, "name": "trainer"}
    api.add_pod("train-x-11", job="train-x", status={"containerStatuses": [ended]})
    api.set_status(RUN, ready=1)
    api.add_pod("driver", job=RUN, status={"phase": "Running"})
    api.logs["driver"] = [json.dumps({"stage": "train", "done": 1000, "expected": 4000, "unit": "models"})]
    secret = {
        "name": "c",
        "state": {"waiting": {"reason": "CreateContainerConfigError", "message": 'secret "s" not found'}},
    }
    api.add_pod("agg", status={"containerStatuses": [secret]}, **service_labels("aggregator"))
    assert list(runs.lines(cluster, RUN)) == [
        f"{RUN}  running",
        "trainer  running: 10 of 40 indexes done, 3 running, 1 failed: 11",
        "trainer: last ended with exit code 2: a:B raised on model 3",
        'aggregator: CreateContainerConfigError: secret "s" not found; create it, or correct the chart\'s values',
        "train  1,000 of 4,000 models",
    ]


def test_status_says_why_a_driver_does_not_start(api, cluster, submitted):
    api.warn("Job", RUN, "FailedCreate", 'pods "x" is forbidden: exceeded quota: pods')
    api.warn("Job", "other", "FailedCreate", "of another")
    assert list(runs.lines(cluster, RUN))[1].startswith("driver: FailedCreate: pods")
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}
    api.add_pod("driver", job=RUN, status={"conditions": [condition]})
    assert "driver: cannot be scheduled: 0/1 nodes" in list(runs.lines(cluster, RUN))[1]


@pytest.mark.parametrize("status", [500, 404, 403])
def test_status_does_without_a_log_that_cannot_be_read(api, cluster, submitted, status):
    api.add_pod("driver", job=RUN, status={"phase": "Running"})
    api.refusals["GET", "log"] = (status, "dial tcp 10.0.0.9:10250: connect: connection refused")
    assert list(runs.lines(cluster, RUN)) == [f"{RUN}  waiting"]
    api.logs["driver"] = [json.dumps({"stage": "train", "done": 5, "expected": 10, "unit": "models"})]
    assert list(runs.lines(cluster, RUN)) == [f"{RUN}  waiting", "train  5 of 10 models"]


def test_status_says_why_pods_do_not_start_on_their_node(api, cluster, submitted):
    def stuck(name, **labels):
        waiting = {"name": "c", "state": {"waiting": {"reason": "ContainerCreating"}}}
        pod = api.add_pod(name, status={"phase": "Pending", "containerStatuses": [waiting]}, **labels)
        pod["spec"]["nodeName"] = "node1"
        api.warn("Pod", name, "FailedMount", 'MountVolume.SetUp failed for volume "tls":\n secret "nowhere" not found')

    assert [line for line in runs.lines(cluster, RUN) if "FailedMount" in line] == []
    stuck("driver", job=RUN)
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
    api.finish(spec(name="b").run, "Failed", condition={"reason": "PodFailurePolicy", "message": "exit code 2"})
    first, second = map(str, runs.listed(cluster))
    assert first == f"{spec(name='b').run}  failed: PodFailurePolicy: exit code 2"
    assert second == f"{spec(name='a').run}  waiting"


def test_watch_shows_what_changes_until_the_run_is_done(api, cluster, submitted):
    shown = []

    def show(line):
        shown.append(line)
        api.finish(RUN, "Complete")

    runs.watch(cluster, RUN, show)
    assert shown == [f"{RUN}  waiting", f"{RUN}  done"]


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
    api.add_pod("driver", job=RUN, status={"containerStatuses": [{"name": "driver", "state": {"terminated": ended}}]})
    api.finish(RUN, "Failed")
    with pytest.raises(StageError) as raised:
        runs.watch(cluster, RUN, lambda line: None)
    assert str(raised.value) == message and raised.value.exit_code == 2


def test_logs_are_of_the_newest_pod(api, cluster, submitted):
    with pytest.raises(NotReadyError, match="its driver has no pod now"):
        runs.log(cluster, RUN)
    for name in ("old", "new"):
        api.add_pod(name, job=RUN)
        api.logs[name] = [name]
    assert list(runs.log(cluster, RUN)) == ["new"]
    with pytest.raises(NotReadyError, match="its trainer of index 3 has no pod now"):
        runs.log(cluster, RUN, index=3)
    labels = {RUN_LABEL: RUN}
    api.add("jobs", {"metadata": {"name": "train-x", "labels": labels}, "spec": {"completionMode": "Indexed"}})
    for index in (2, 3):
        api.add_pod(f"t{index}", job="train-x", index=index)
        api.logs[f"t{index}"] = [f"trainer {index}"]
    assert list(runs.log(cluster, RUN, index=3)) == ["trainer 3"]
    with pytest.raises(RunNotFoundError):
        runs.log(cluster, spec(name="other").run)
