"""The runner against a small real API; `tick` plays the controllers of Kubernetes."""

import dataclasses
import json
import time

import numpy as np
import pytest

from datamodels.errors import ExitCode, StageError, UnavailableError
from datamodels.run.designs import Design
from datamodels.run.runs import Run
from datamodels.runners import metrics
from datamodels.runners.cluster import templates
from datamodels.runners.cluster.runner import MOST_TRANSIENT, KubernetesRunner
from datamodels.settings import ClientSettings
from tests.runners.cluster.conftest import OWNER, spec
from tests.runners.cluster.conftest import templates as chart

RUN = Run(spec(), Design(kind="uniform", seed=0, alpha=0.5, examples=10), own=np.full(3, -1, dtype=np.int32))
TRAIN, FIT = templates.trainer_name(RUN.spec, "dm"), templates.fitter_name(RUN.spec, "dm")
SERVICES = ClientSettings(fitter="dns:///fitter:50051")


@pytest.fixture
def runner(cluster):
    return KubernetesRunner(cluster, OWNER, chart(), tick=0.01)


def made(api):
    return [call for call in api.calls if call[0] == "POST"]


def test_chunks_are_trained_by_an_indexed_job(api, runner):
    ticks = []

    def tick():
        ticks.append(api.objects["jobs"][TRAIN])
        api.finish(TRAIN, "Complete")

    runner.train(RUN, [0, 1, 5], SERVICES, tick)
    assert ticks[0]["spec"]["completions"] == 3
    assert ticks[0]["metadata"]["ownerReferences"][0]["uid"] == OWNER.owner_uid


def test_pools_help_the_main_trainers_and_end_with_them(api, cluster, caplog):
    given = chart("everything")
    pool = f"{TRAIN.removesuffix('-dm')}-spot-dm"
    seen = []

    def tick():
        seen.append(api.objects["jobs"][pool])
        api.set_status(pool, ready=5)
        if metrics.READY._value.get() == 5:
            api.finish(TRAIN, "Complete")

    KubernetesRunner(cluster, OWNER, given, tick=0.01).train(RUN, [0, 1, 5], SERVICES, tick)
    main = next(call for call in api.calls if call[0] == "POST")
    job, container = seen[0], seen[0]["spec"]["template"]["spec"]["containers"][0]
    assert main and job["spec"]["completions"] == job["spec"]["parallelism"] == 12
    assert container["args"] == ["--run", RUN.name, "--chunks", "0-1,5", "--indexes", "3", "--helps"]
    assert job["metadata"]["ownerReferences"][0]["uid"] == OWNER.owner_uid
    assert job["metadata"]["labels"]["datamodels/pool"] == "spot"
    assert "deletionTimestamp" in api.objects["jobs"].get(pool, {"metadata": "deletionTimestamp"})["metadata"]


@pytest.mark.parametrize("gradients", [False, True])
def test_a_driver_trains_models_for_gradients_if_the_chart_says_so(cluster, gradients):
    owner = dataclasses.replace(OWNER, gradients=gradients)
    assert KubernetesRunner(cluster, owner, chart("everything")).trains_here is gradients


def test_a_pool_that_the_cluster_refuses_holds_nothing_up(api, cluster, caplog):
    given = chart("everything")
    posts = []
    plain = api.answer

    def answer(method, kind, name, query, body):
        posts.extend(method for _ in range(method == "POST"))
        if method == "POST" and len(posts) == 2:
            return 403, {"message": "exceeded quota"}
        return plain(method, kind, name, query, body)

    api.answer = answer
    KubernetesRunner(cluster, OWNER, given, tick=0.01).train(RUN, [0], SERVICES, lambda: api.finish(TRAIN, "Complete"))
    assert any("no trainers of a pool" in record.getMessage() for record in caplog.records)


def test_training_that_may_end_early_takes_its_job_along(api, runner):
    runner.train(RUN, [0, 1, 5], SERVICES, lambda: True)
    assert made(api) and TRAIN not in api.objects["jobs"]


def test_a_driver_that_comes_back_goes_on_with_the_job_there_is(api, runner):
    job = templates.trainer_job(chart(), RUN.spec, [0, 1, 5], OWNER)
    uid = api.add("jobs", job)["metadata"]["uid"]
    api.set_status(TRAIN, ready=2)
    runner.train(RUN, [1, 5], SERVICES, lambda: api.finish(TRAIN, "Complete"))
    assert not made(api) and api.objects["jobs"][TRAIN]["metadata"]["uid"] == uid


@pytest.mark.parametrize("how", ["Failed", "Complete", "of another driver"])
def test_a_job_of_an_earlier_try_makes_room(api, runner, how):
    job = templates.trainer_job(chart(), RUN.spec, [0, 1, 5], OWNER)
    if how == "of another driver":
        job["metadata"]["ownerReferences"][0]["uid"] = "older"
    old = api.add("jobs", job)["metadata"]["uid"]
    if how != "of another driver":
        api.finish(TRAIN, how)
    runner.train(RUN, [5], SERVICES, lambda: api.finish(TRAIN, "Complete"))
    found = api.objects["jobs"][TRAIN]
    assert found["metadata"]["uid"] != old and found["spec"]["completions"] == 1


def test_failed_indexes_end_in_a_summary_with_the_last_words(api, runner):
    words = json.dumps({"event": "a:B raised on model 3: ValueError", "level": "error"})
    ended = {"exitCode": 2, "message": words, "finishedAt": "t"}

    def tick():
        api.add_pod("p", job=TRAIN, status={"containerStatuses": [{"name": "c", "state": {"terminated": ended}}]})
        failed = {"reason": "FailedIndexes", "message": "Job has failed indexes"}
        api.finish(TRAIN, "Failed", condition=failed, completedIndexes="0,2", failedIndexes="1")

    with pytest.raises(StageError) as raised:
        runner.train(RUN, [0, 1, 5], SERVICES, tick)
    assert str(raised.value) == (
        f"run {RUN.name}: trainers failed (2 of 3 indexes done, 1 failed: 1), the last because: a:B raised on model 3: "
        "ValueError; what is committed is kept, submit the run again to train the rest"
    )
    assert raised.value.exit_code == ExitCode.CONFIG


def test_trainer_pods_are_metrics(api, runner):
    seen = []

    def tick():
        seen.append((metrics.READY._value.get(), metrics.FAILED._value.get(), metrics.HELD_UP._value.get()))
        if len(seen) == 1:
            api.set_status(TRAIN, ready=2, failed=1)
            waiting = {"reason": "ErrImagePull"}
            api.add_pod("p", job=TRAIN, status={"containerStatuses": [{"name": "c", "state": {"waiting": waiting}}]})
        elif (2, 1, 1) in seen:
            api.finish(TRAIN, "Complete", failed=1)

    runner.train(RUN, [0, 1, 5], SERVICES, tick)
    assert (2, 1, 1) in seen
    assert (metrics.READY._value.get(), metrics.FAILED._value.get(), metrics.HELD_UP._value.get()) == (0, 1, 0)


def test_a_failure_without_pods_is_told_in_the_words_of_kubernetes(api, runner):
    def tick():
        api.finish(TRAIN, "Failed", condition={"reason": "DeadlineExceeded", "message": "too slow"})

    with pytest.raises(StageError, match="the last because: DeadlineExceeded: too slow") as raised:
        runner.train(RUN, [0], SERVICES, tick)
    assert raised.value.exit_code == ExitCode.FAILED


def test_a_job_that_somebody_deleted_is_a_passing_failure(api, runner):
    with pytest.raises(StageError, match=f"Job {TRAIN} was deleted") as raised:
        runner.train(RUN, [0], SERVICES, lambda: api.objects["jobs"].clear())
    assert raised.value.exit_code == ExitCode.TRANSIENT


def test_trainers_that_gave_up_waiting_too_often_end_the_stage(api, runner):
    ended = {"exitCode": 75, "message": json.dumps({"event": "the aggregator does not answer"}), "finishedAt": "t"}
    status = {"phase": "Failed", "containerStatuses": [{"name": "c", "state": {"terminated": ended}}]}
    ticks = []

    def tick():
        ticks.append(len(api.objects["pods"]))
        api.add_pod(f"p{len(ticks)}", job=TRAIN, status=status)

    with pytest.raises(StageError, match="trainers gave up waiting, the last because: the aggregator does") as raised:
        runner.train(RUN, [0], SERVICES, tick)
    assert raised.value.exit_code == ExitCode.TRANSIENT and TRAIN not in api.objects["jobs"]
    assert len(ticks) > MOST_TRANSIENT


def test_an_aggregator_that_is_away_for_a_moment_does_not_end_the_driver(api, runner):
    def tick():
        api.finish(TRAIN, "Complete")
        raise UnavailableError("restarting")

    runner.train(RUN, [0], SERVICES, tick)


def test_what_holds_trainers_up_is_logged_once(api, runner, caplog):
    calls = []

    def tick():
        calls.append(1)
        api.warn("Job", TRAIN, "FailedCreate", "exceeded quota: pods") if len(calls) == 1 else None
        if len(calls) == 13:
            api.finish(TRAIN, "Complete")

    with caplog.at_level("WARNING"):
        runner.train(RUN, [0], SERVICES, tick)
    assert sum("exceeded quota" in record.getMessage() for record in caplog.records) == 1


def test_services_are_where_the_settings_say(runner, monkeypatch):
    monkeypatch.setenv("DATAMODELS_CLIENT_SAMPLER", "dns:///s:1")
    with runner.services() as addresses:
        assert addresses.sampler == "dns:///s:1"


def test_without_a_template_the_fitter_that_is_there_is_used(api, runner):
    with runner.fitter(RUN, SERVICES) as found:
        assert found == SERVICES
    assert not made(api)


READY = {"podIP": "10.0.0.7", "conditions": [{"type": "Ready", "status": "True"}]}


@pytest.mark.parametrize(("ip", "address"), [("10.0.0.7", "10.0.0.7:50051"), ("fd00::7", "[fd00::7]:50051")])
def test_a_fitter_is_started_for_a_fit_and_goes_after_it(api, cluster, eventually, ip, address):
    runner = KubernetesRunner(cluster, OWNER, chart("gpu"), tick=0.01)
    api.add_pod("fit-pod", job=FIT, status=READY | {"podIP": ip})
    with runner.fitter(RUN, SERVICES) as found:
        assert found.fitter == address
        assert found.server_name == "fitter", "which is in its certificate; its address is not"
        assert api.objects["jobs"][FIT]["metadata"]["ownerReferences"][0]["uid"] == OWNER.owner_uid
    eventually(lambda: FIT not in api.objects["jobs"])


def test_a_fitter_that_waits_too_long_says_for_what(api, cluster):
    impatient = dataclasses.replace(OWNER, fitter_start=0.1)
    waiting = {"state": {"waiting": {"reason": "ErrImagePull", "message": "no such image"}}}
    api.add_pod("fit-pod", job=FIT, status={"containerStatuses": [waiting]})
    unqueued = {name: text.replace("suspend: true", "suspend: false") for name, text in chart("gpu").items()}
    runner = KubernetesRunner(cluster, impatient, unqueued)
    with (
        pytest.raises(StageError, match="did not start within 0 s: ErrImagePull: no such image") as raised,
        runner.fitter(RUN, SERVICES),
    ):
        pytest.fail("started")
    assert raised.value.exit_code == ExitCode.TRANSIENT


def test_time_in_a_queue_is_not_time_to_start(api, cluster, caplog):
    api.kueue = True
    impatient = dataclasses.replace(OWNER, fitter_start=0.1)
    admitted = time.monotonic() + 5 * impatient.fitter_start

    class Queued(KubernetesRunner):
        """Its fitter's Job is in a queue as soon as it is there, and has a pod long after the time to start."""

        def _look(self, cluster, name):
            if not api.objects["workloads"]:
                api.queue(FIT, "insufficient unused quota")
            elif time.monotonic() > admitted:
                api.add_pod("fit-pod", job=FIT, status=READY)
            return super()._look(cluster, name)

    runner = Queued(cluster, impatient, chart("gpu"), tick=0.01)
    with caplog.at_level("WARNING"), runner.fitter(RUN, SERVICES) as found:
        assert found.fitter == "10.0.0.7:50051"
    messages = [record.getMessage() for record in caplog.records]
    assert sum("waits in queue gpus of Kueue: insufficient unused quota" in line for line in messages) == 1, messages


def test_a_fitter_that_cannot_start_says_why(api, cluster):
    class Doomed(KubernetesRunner):
        """Its fitter's Job fails as soon as it is there."""

        def _look(self, cluster, name):
            api.finish(name, "Failed", condition={"reason": "PodFailurePolicy"})
            return super()._look(cluster, name)

    ended = {"exitCode": 2, "message": "datamodels: no CUDA device", "finishedAt": "t"}
    api.add_pod("fit-pod", job=FIT, status={"containerStatuses": [{"name": "c", "state": {"terminated": ended}}]})
    runner = Doomed(cluster, OWNER, chart("gpu"))
    with (
        pytest.raises(StageError, match="cannot start: no CUDA device") as raised,
        runner.fitter(RUN, SERVICES),
    ):
        pytest.fail("started")
    assert raised.value.exit_code == ExitCode.CONFIG
