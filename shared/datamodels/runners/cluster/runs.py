"""Runs of a cluster: submit, describe, list, follow and cancel them. A run is its driver's Job."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import time
from collections.abc import Callable, Iterator, Sequence

from datamodels.errors import (
    ClusterError,
    ConflictError,
    NotFoundError,
    NotReadyError,
    RunNotFoundError,
    StageError,
    UnavailableError,
)
from datamodels.run import specs
from datamodels.run.specs import RunSpec
from datamodels.runners.base import SERVICES
from datamodels.runners.cluster import state as states
from datamodels.runners.cluster import templates
from datamodels.runners.cluster.api import Cluster, Object
from datamodels.runners.cluster.state import State
from datamodels.runners.cluster.templates import CHART, COMPONENT, RUN_LABEL

GONE_TIMEOUT = 300.0
"""Seconds to wait for a Job and its pods to go."""
POLL = 2.0
ASKED_ABOUT = 3
"""Pods whose events are read, of those that do not start."""


@dataclasses.dataclass(frozen=True)
class Submitted:
    run: str
    before: State
    changed: bool = False

    @property
    def words(self) -> str:
        match self.before:
            case State.DONE if self.changed:
                return "is submitted again, for it was done with another fit or until; its models are kept"
            case State.DONE:
                return "is already done; nothing to do"
            case State.RUNNING | State.WAITING:
                return "is already submitted; nothing to do"
            case State.FAILED:
                return "is submitted again; it resumes from what is committed"
        return "is submitted"


def submit(cluster: Cluster, spec: RunSpec, release: str = "") -> Submitted:
    """Creates the driver of a run. Does nothing where it is there and has not failed.

    Raises ConfigError where the chart is not there, SpecError, ClusterError where the cluster refuses it, ConflictError
    where the run goes on with another fit or until.
    """
    job = templates.driver_job(templates.find(cluster, release), spec)
    there = cluster.job(spec.run)
    before = states.state(there)
    changed = there is not None and not templates.drives(there, spec)
    if before in (State.RUNNING, State.WAITING):
        if changed:
            raise ConflictError(
                f"run {spec.run}: is already running with another fit or until; cancel it, or wait until it ends"
            )
        return Submitted(spec.run, before)
    if before is State.DONE and not changed:
        return Submitted(spec.run, before)
    if before is not State.ABSENT:
        remove(cluster, spec.run)
    try:
        cluster.create_job(job)
    except ConflictError:  # somebody else did, a moment ago
        before = State.WAITING
    return Submitted(spec.run, before, changed)


def remove(cluster: Cluster, name: str) -> None:
    """Deletes a Job and waits until it and its pods are gone. Raises UnavailableError after some minutes."""
    cluster.delete_job(name)
    end = time.monotonic() + GONE_TIMEOUT
    while cluster.job(name) is not None:
        if time.monotonic() > end:
            raise UnavailableError(f"Job {name}: its pods do not go within {GONE_TIMEOUT:.0f} s; look at its nodes")
        time.sleep(0.5)


def cancel(cluster: Cluster, run: str) -> None:
    """Deletes a run's driver, and with it all that it owns. What is committed stays. Raises RunNotFoundError."""
    _driver(cluster, run)
    cluster.delete_job(run)


def lines(cluster: Cluster, run: str) -> Iterator[str]:
    """What there is to say about a run: its state, its Jobs, what stands in the way. Raises RunNotFoundError."""
    job = _driver(cluster, run)
    state = states.state(job)
    yield f"{run}  {state.value}{_reason(job, state)}"
    owned = [j for j in cluster.jobs(f"{RUN_LABEL}={run}") if j["metadata"]["name"] != run]
    for child in owned:
        what = states.indexes(child) if child["spec"].get("completionMode") == "Indexed" else "serves the fit"
        yield f"{_component(child)}  {states.state(child).value}: {what}"
    for each in (job, *owned):
        pods = pods_of(cluster, each)
        for obstacle in obstacles(cluster, each, pods):
            yield f"{_component(each)}: {obstacle}"
        failed = states.failures(pods)
        if failed and states.state(each) is not State.DONE:
            yield f"{_component(each)}: last ended with exit code {failed[-1][0]}: {failed[-1][1]}"
    if not state.ended:
        yield from service_lines(cluster)
        yield from _progress(cluster, job)


def obstacles(cluster: Cluster, job: Object, pods: Sequence[Object]) -> list[str]:
    """What stands in the way of a Job, with its pods: one line each, with what to do."""
    workload = cluster.workload(job) if states.queued(job) else None
    found = states.obstacles(job, pods, cluster.warnings("Job", job["metadata"]["name"]), workload)
    return found + _unstarted(cluster, pods)


def _unstarted(cluster: Cluster, pods: Sequence[Object]) -> list[str]:
    """Why a pod does not start on its node, in the kubelet's words. Of many, a few are asked about."""
    for pod in itertools.islice(filter(states.creating, pods), ASKED_ABOUT):
        if events := cluster.warnings("Pod", pod["metadata"]["name"]):
            return [states.of_event(events[-1])]
    return []


def pods_of(cluster: Cluster, job: Object) -> list[Object]:
    return cluster.pods(f"batch.kubernetes.io/job-name={job['metadata']['name']}")


def listed(cluster: Cluster) -> Iterator[str]:
    """One line for each run of the namespace, the newest last."""
    jobs = cluster.jobs(f"{CHART},{COMPONENT}=driver")
    for job in sorted(jobs, key=lambda j: j["metadata"].get("creationTimestamp", "")):
        state = states.state(job)
        yield f"{job['metadata']['name']}  {state.value}{_reason(job, state)}"


def watch(cluster: Cluster, run: str, show: Callable[[str], None]) -> None:
    """Shows lines about a run as they change, until it is done.

    Raises StageError where it fails, RunNotFoundError where it is deleted meanwhile.
    """
    told: list[str] = []
    while True:
        job = _driver(cluster, run)  # before its lines, which then say how it ended
        said = list(lines(cluster, run))
        for line in said:
            if line not in told:
                show(line)
        told = said
        if states.state(job) is State.DONE:
            return
        if states.state(job) is State.FAILED:
            code, words = [(1, states.reason(job)), *states.failures(pods_of(cluster, job))][-1]
            known = words.startswith(f"run {run}:")  # by the driver, with what to do
            raise StageError(
                words if known else f"run {run}: {words}; fix it and submit the run again, what is committed is kept",
                code,
            )
        time.sleep(POLL)


def log(cluster: Cluster, run: str, *, index: int | None = None, follow: bool = False) -> Iterator[str]:
    """Lines of the log of a run's newest driver pod, or of the newest trainer pod of an index.

    Raises RunNotFoundError, NotReadyError where there is no such pod yet, or no more.
    """
    name = run
    if index is not None:
        (name, *_) = [
            j["metadata"]["name"]
            for j in cluster.jobs(f"{RUN_LABEL}={run}")
            if j["spec"].get("completionMode") == "Indexed"
        ] or [""]
    elif cluster.job(run) is None:
        raise _absent(cluster, run)
    selector = f"batch.kubernetes.io/job-name={name}"
    if index is not None:
        selector += f",batch.kubernetes.io/job-completion-index={index}"
    pods = cluster.pods(selector) if name else []
    if not pods:
        who = "driver" if index is None else f"trainer of index {index}"
        raise NotReadyError(f"run {run}: its {who} has no pod now; `datamodels status {run}` says why")
    newest = max(pods, key=lambda pod: pod["metadata"].get("creationTimestamp", ""))
    return cluster.log(newest["metadata"]["name"], follow=follow)


def _driver(cluster: Cluster, run: str) -> Object:
    job = cluster.job(run) if specs.is_run(run) else None
    if job is None:
        raise _absent(cluster, run)
    return job


def _absent(cluster: Cluster, run: str) -> RunNotFoundError:
    return RunNotFoundError(
        f"run {run[:100]!r}: there is none in namespace {cluster.namespace}; `datamodels list` names those there are"
    )


def _reason(job: Object, state: State) -> str:
    return f": {states.reason(job)}" if state is State.FAILED else ""


def _component(job: Object) -> str:
    return job["metadata"].get("labels", {}).get(COMPONENT, job["metadata"]["name"])


def service_lines(cluster: Cluster) -> Iterator[str]:
    """What stands in the way of the services that the chart keeps up."""
    for name in SERVICES:
        pods = cluster.pods(f"{CHART},{COMPONENT}={name},!{RUN_LABEL}")
        for obstacle in states.obstacles(None, pods, []) + _unstarted(cluster, pods):
            yield f"{name}: {obstacle}"


def _progress(cluster: Cluster, job: Object) -> Iterator[str]:
    """The last line of the driver's log, where it says how far it is, and can be read: its node may be away."""
    for pod in pods_of(cluster, job):
        if pod.get("status", {}).get("phase") != "Running":
            continue
        with contextlib.suppress(UnavailableError, NotFoundError, ClusterError):
            for line in cluster.log(pod["metadata"]["name"], tail=1):
                with contextlib.suppress(ValueError, TypeError, KeyError):
                    entry = json.loads(line)
                    yield f"{entry['stage']}  {entry['done']:,} of {entry['expected']:,} {entry['unit']}"
