import pytest

from datamodels.runners.cluster import state
from datamodels.runners.cluster.state import JobState

LOG = '{"event": "store s3://b: there is no such bucket", "level": "error"}'


def job(*conditions, spec=None, **fields):
    status = fields | {"conditions": [dict(c) for c in conditions]}
    return {"metadata": {"name": "j"}, "spec": spec or {}, "status": status}


def pod(phase="Pending", conditions=(), **container):
    return {
        "status": {"phase": phase, "conditions": list(conditions), "containerStatuses": [{"name": "c"} | container]}
    }


@pytest.mark.parametrize(
    ("thing", "found"),
    [
        (None, JobState.ABSENT),
        ({"metadata": {}, "spec": {}}, JobState.WAITING),
        (job(active=1), JobState.WAITING),
        (job(uncountedTerminatedPods={"succeeded": ["uid"]}), JobState.RUNNING),
        (job(succeeded=1), JobState.RUNNING),
        (job(active=1, ready=1), JobState.RUNNING),
        (job({"type": "Complete", "status": "True"}), JobState.DONE),
        (job({"type": "Failed", "status": "True"}), JobState.FAILED),
        (
            job({"type": "Failed", "status": "False"}, {"type": "SuccessCriteriaMet", "status": "True"}),
            JobState.WAITING,
        ),
        ({"metadata": {"deletionTimestamp": "t"}, "spec": {}}, JobState.LEAVING),
    ],
)
def test_states(thing, found):
    assert state.state(thing) is found
    assert found.ended == (found in (JobState.DONE, JobState.FAILED))


def test_indexes_in_words():
    thing = job(spec={"completions": 40}, completedIndexes="0-9,12", failedIndexes="11", ready=3)
    assert state.indexes(thing) == "11 of 40 indexes done, 3 running, 1 failed: 11"
    assert state.indexes(job(spec={"completions": 2})) == "0 of 2 indexes done, 0 running"


@pytest.mark.parametrize(("spans", "total"), [("", 0), ("3", 1), ("0-2", 3), ("0-2,5,7-8", 6)])
def test_spans_are_counted(spans, total):
    assert state.count(spans) == total


def unschedulable(message):
    return pod(conditions=[{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}])


def waiting(reason, message=""):
    return pod(state={"waiting": {"reason": reason, "message": message}})


@pytest.mark.parametrize(
    ("thing", "words"),
    [
        (
            unschedulable("0/3 nodes are available: 3 Insufficient nvidia.com/gpu."),
            "add nodes with GPUs, or ask for none",
        ),
        (unschedulable("0/3 nodes are available: 3 Insufficient memory."), "add nodes, or ask for less"),
        (waiting("ImagePullBackOff", 'Back-off pulling image "x:1"'), 'pulling image "x:1"; set image in the chart'),
        (waiting("ErrImageNeverPull", "Container image x:1 is not present"), "load the image onto the nodes"),
        (waiting("InvalidImageName"), "correct image in the chart's values"),
        (waiting("CreateContainerConfigError", 'secret "store" not found'), 'secret "store" not found; create it'),
        (
            pod(
                state={"waiting": {"reason": "CrashLoopBackOff"}},
                lastState={"terminated": {"exitCode": 2, "message": f"{{}}\n{LOG}\n"}},
            ),
            "keeps failing with exit code 2: store s3://b: there is no such bucket",
        ),
        (pod(state={"terminated": {"exitCode": 137, "reason": "OOMKilled"}}), "c was killed for memory; raise its"),
    ],
)
def test_what_stands_in_the_way_is_one_line_that_says_what_to_do(thing, words):
    (line,) = state.obstacles(job(), [thing, thing], [])
    assert words in line and "\n" not in line


@pytest.mark.parametrize("thing", [pod(), waiting("ContainerCreating"), pod("Running", state={"running": {}}), {}])
def test_what_passes_by_itself_is_no_obstacle(thing):
    assert state.obstacles(job(active=1), [thing], [{"reason": "Old", "message": "news"}]) == []


def test_a_job_without_pods_says_why():
    events = [{"reason": "A", "message": "old"}, {"reason": "FailedCreate", "message": "exceeded quota: pods"}]
    assert state.obstacles(job(), [], events) == [
        "FailedCreate: exceeded quota: pods; raise the quota, or ask for less in the chart's values"
    ]
    assert state.obstacles(job({"type": "Complete", "status": "True"}), [], events) == []


QUOTA = {"reason": "FailedCreate", "message": "exceeded quota: pods"}


@pytest.mark.parametrize(
    ("active", "done", "seen", "told"),
    [
        (2, "", "2026-01-01T10:00:05Z", True),
        (2, "", "2026-01-01T09:59:59Z", False),  # pods were created since
        (4, "", "2026-01-01T10:00:05Z", False),  # it has all its pods
        (2, "0-7", "2026-01-01T10:00:05Z", False),  # and needs no more
        (2, "0-6", "2026-01-01T10:00:05Z", True),
    ],
)
def test_a_quota_that_is_reached_midway_is_told(active, done, seen, told):
    thing = job(spec={"parallelism": 4, "completions": 10}, active=active, completedIndexes=done)
    pods = [
        pod("Running") | {"metadata": {"creationTimestamp": f"2026-01-01T{at}Z"}} for at in ("09:00:00", "10:00:00")
    ]
    assert bool(state.obstacles(thing, pods, [QUOTA | {"lastTimestamp": seen}])) == told


def test_a_suspended_job_says_what_it_waits_for():
    thing = job(spec={"suspend": True})
    assert state.obstacles(thing, [], []) == ["is suspended; `datamodels resume RUN`"]
    thing["metadata"]["labels"] = {"kueue.x-k8s.io/queue-name": "gpus"}
    assert state.obstacles(thing, [], []) == ["waits in queue gpus of Kueue"]


@pytest.mark.parametrize(
    ("message", "advice"),
    [
        ("LocalQueue gpus doesn't exist", "; create it"),
        ("ClusterQueue all is inactive", "; ask the administrator of the queue"),
        (
            "insufficient quota for cpu in flavor plain, request > maximum capacity (200m >\n 100m)",
            "; lower jobs.trainer",
        ),
        ("insufficient unused quota for cpu in flavor plain, 1 more needed", None),
    ],
)
def test_kueue_says_why_a_job_waits(message, advice):
    thing = job(spec={"suspend": True})
    thing["metadata"]["labels"] = {"kueue.x-k8s.io/queue-name": "gpus"}
    conditions = [
        {"type": "Evicted", "status": "True", "message": "preempted"},
        {"type": "QuotaReserved", "status": "False", "message": message},
    ]
    (obstacle,) = state.obstacles(thing, [], [], {"status": {"conditions": conditions}})
    expected = f"waits in queue gpus of Kueue: {message.replace(chr(10), '')}"
    assert obstacle == expected if advice is None else obstacle.startswith(expected + advice)
    conditions[1]["status"] = "True"
    assert state.obstacles(thing, [], [], {"status": {"conditions": conditions}}) == ["waits in queue gpus of Kueue"]


DIED = "it died without a message: something called os._exit, or a library ended the process"


def test_failures_come_in_order_with_their_last_words():
    def ended(code, at, message):
        return pod(state={"terminated": {"exitCode": code, "finishedAt": at, "message": message}})

    pods = [
        ended(2, "t2", LOG),
        ended(0, "t3", "fine"),
        ended(1, "t1", "Traceback\nValueError: x"),
        ended(137, "t0", ""),
        ended(3, "t4", LOG.replace("error", "info")),
        ended(139, "t5", ""),
        ended(139, "t6", LOG.replace("error", "info")),
    ]
    assert state.failures(pods) == [
        state.Failure("t0", 137, "it logged nothing"),
        state.Failure("t1", 1, "ValueError: x"),
        state.Failure("t2", 2, "store s3://b: there is no such bucket"),
        state.Failure("t4", 3, f"{DIED}; before that, it logged: store s3://b: there is no such bucket"),
        state.Failure("t5", 139, "it logged nothing"),
        state.Failure("t6", 139, "crashed by SIGSEGV: compiled code failed, of a library or your own"),
    ]


def test_the_reason_of_a_failure_is_that_of_kubernetes():
    failed = {"type": "Failed", "status": "True", "reason": "FailedIndexes", "message": "Job has failed indexes"}
    assert state.reason(job(failed)) == "FailedIndexes: Job has failed indexes"
    assert state.reason(job()) == ""
