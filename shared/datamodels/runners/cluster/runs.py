"""Submit, describe, list, follow and cancel runs on a cluster. A run is represented by the Job of its driver."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import itertools
import json
import time
from collections.abc import Callable, Iterator, Sequence

from datamodels.errors import (
    ClusterError,
    ConfigError,
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
from datamodels.runners.cluster.api import NOT_SUCCEEDED, Cluster, Object
from datamodels.runners.cluster.state import JobState
from datamodels.runners.cluster.templates import CHART, COMPONENT, INSTANCE, RUN_LABEL
from datamodels.runners.cluster.watching import Watching

JOB_LABEL = "batch.kubernetes.io/job-name"
"""Label of a Job's pods."""
GONE_TIMEOUT = 300.0
"""Seconds to wait until a Job and its pods are deleted."""
POLL = 2.0
"""Seconds between two queries about a run that is watched."""
ASKED_ABOUT = 3
"""Number of pods that do not start whose events are read, to limit calls."""
STARTING = 10.0
"""Seconds for which a pod may start before its events are read."""


@dataclasses.dataclass(frozen=True)
class Submitted:
    """Result of `submit`.

    before   state of the driver's Job before
    changed  whether that Job had another fit, until or output
    """

    run: str
    before: JobState
    changed: bool = False

    @property
    def words(self) -> str:
        """Describe the result; to be printed after "run NAME"."""
        match self.before:
            case JobState.DONE if self.changed:
                return "is submitted again, because its fit, until or output changed; its models are kept"
            case JobState.DONE:
                return "is submitted again, although it was done: the driver trains and fits what its store lacks"
            case JobState.RUNNING | JobState.WAITING:
                return "is already submitted; nothing to do"
            case JobState.FAILED:
                return "is submitted again; it resumes from what is committed"
        return "is submitted"


def submit(cluster: Cluster, spec: RunSpec, release: str = "") -> Submitted:
    """Create the driver's Job of a run. Does nothing if it is running.

    A run that is done is submitted again, too: only its driver can tell whether the store still has everything.

    Raises ConfigError if the chart is not installed, SpecError, ClusterError if the cluster refuses the Job, and
    ConflictError if the run is already running with another fit, until or output.
    """
    chart = templates.find(cluster, release)
    job = templates.driver_job(chart, spec)
    there = next(iter(_drivers(cluster, spec.run, templates.release_of(chart))), None)
    before = states.state(there)
    changed = there is not None and not templates.drives(there, spec)
    if before in (JobState.RUNNING, JobState.WAITING):
        if changed:
            raise ConflictError(
                f"run {spec.run}: is already running with another fit, until or output; cancel it, or wait until it "
                "ends"
            )
        return Submitted(spec.run, before)
    if there is not None:
        remove(cluster, there["metadata"]["name"])
    try:
        cluster.create_job(job)
    except ConflictError:  # another process just created it
        before = JobState.WAITING
    return Submitted(spec.run, before, changed)


def remove(cluster: Cluster, name: str) -> None:
    """Delete a Job, and wait until it and its pods are gone. Raises UnavailableError after GONE_TIMEOUT."""
    cluster.delete_job(name)
    end = time.monotonic() + GONE_TIMEOUT
    while cluster.job(name) is not None:
        if time.monotonic() > end:
            raise UnavailableError(
                f"Job {name}: its pods are not gone after {GONE_TIMEOUT:.0f} s; check the nodes that they are on"
            )
        time.sleep(0.5)


def cancel(cluster: Cluster, run: str, release: str = "") -> None:
    """Delete a run's driver and all Jobs that it owns. What is committed is kept. Raises RunNotFoundError."""
    cluster.delete_job(_driver(cluster, run, release)["metadata"]["name"])


def scale(cluster: Cluster, run: str, pods: int, release: str = "", pool: str = templates.MAIN) -> None:
    """Change how many trainers of a run work at once.

    A Job that has fewer indexes left gets more of them, whose trainers help the others. Kubernetes allows that if the
    Job then has as many indexes as it may run pods.

    Raises RunNotFoundError, and NotReadyError if the run has no trainers now, or none of this pool.
    """
    job = next((job for job in _trainers(cluster, run, release) if _pool(job) == pool), None)
    if job is None:
        raise NotReadyError(f"run {run}: has no trainers of pool {pool} now")
    needed = pods + states.ended_indexes(job)
    more = needed > job["spec"].get("completions", 1)
    cluster.patch_job(
        job["metadata"]["name"], {"parallelism": needed, "completions": needed} if more else {"parallelism": pods}
    )


def suspend(cluster: Cluster, run: str, whether: bool, release: str = "") -> None:
    """Stop a run's trainers, after they have committed finished models, or restart them. Raises as `scale`."""
    for job in _trainers(cluster, run, release):
        cluster.patch_job(job["metadata"]["name"], {"suspend": whether})


def _trainers(cluster: Cluster, run: str, release: str) -> list[Object]:
    """Return the Jobs of trainers that have not ended, of all pools."""
    driver = _driver(cluster, run, release)
    found = [child for child in cluster.jobs(f"{RUN_LABEL}={run}") if _owns(driver, child) and _trains(child)]
    if working := [job for job in found if not states.state(job).ended]:
        return working
    raise NotReadyError(f"run {run}: has no trainers now; `datamodels status {run}` says what it does")


def _trains(job: Object) -> bool:
    return job["spec"].get("completionMode") == "Indexed"


def _pool(job: Object) -> str:
    """Return the pool of a Job of trainers. Those of earlier versions have no such label."""
    return job["metadata"]["labels"].get(templates.POOL_LABEL, templates.MAIN)


@dataclasses.dataclass(frozen=True)
class Listed:
    """A run of a cluster.

    release  of the chart
    store    URL of its store; empty if unknown
    reason   why it failed; empty if it has not
    """

    run: str
    release: str
    store: str
    state: JobState
    reason: str = ""

    def __str__(self) -> str:
        words = f"{self.run}  {self.state.value}{self.reason and f': {self.reason}'}"
        return f"{words}  (release {self.release}, store {self.store})" if self.store else words


def lines(cluster: Cluster, run: str, release: str = "") -> Iterator[str]:
    """Describe a run: its state, then its `notes`. Raises RunNotFoundError."""
    yield f"{described(cluster, run, release)}"
    yield from notes(cluster, run, release)


def described(cluster: Cluster, run: str, release: str = "") -> Listed:
    """Return the state of a run. Raises RunNotFoundError, and ConfigError if several releases have it."""
    return _listed(_driver(cluster, run, release))


def notes(cluster: Cluster, run: str, release: str = "") -> Iterator[str]:
    """Describe the Jobs of a run, the obstacles that keep it from running, and its result. Raises as `described`."""
    job = _driver(cluster, run, release)
    state = states.state(job)
    owned = [child for child in cluster.jobs(f"{RUN_LABEL}={run}") if _owns(job, child)]
    for child in owned:
        what = states.indexes(child) if _trains(child) else "serves the fit"
        yield f"{_component(child)}  {states.state(child).value}: {what}"
    for each in (job, *owned):
        pods = pods_of(cluster, each)
        for obstacle in obstacles(cluster, each, pods):
            yield f"{_component(each)}: {obstacle}"
        failed = states.failures(pods)
        if failed and states.state(each) is not JobState.DONE:
            last, since = failed[-1], "; another pod works since" if states.works(pods) else ""
            yield f"{_component(each)}: last ended at {last.at} with exit code {last.code}: {last.words}{since}"
    if state is not JobState.DONE:  # a service that fails may be why a run has failed
        yield from service_lines(cluster, templates.release_of(job))
    if not state.ended:
        yield from _progress(cluster, job)
    if state is JobState.DONE:
        yield from states.message(cluster.pods(f"{JOB_LABEL}={job['metadata']['name']}")).splitlines()
        yield f"next       datamodels report {run} --namespace {cluster.namespace}"


def _owns(job: Object, child: Object) -> bool:
    return job["metadata"]["uid"] in [owner["uid"] for owner in child["metadata"].get("ownerReferences", [])]


def obstacles(cluster: Cluster, job: Object, pods: Sequence[Object]) -> list[str]:
    """Return the obstacles of a Job and its pods: one line each, with advice."""
    workload = cluster.workload(job) if states.queued(job) else None
    found = states.obstacles(job, pods, cluster.warnings("Job", job["metadata"]["name"]), workload)
    return found + _unstarted(cluster, pods)


def _unstarted(cluster: Cluster, pods: Sequence[Object]) -> list[str]:
    """Return why a pod does not start on its node, in the kubelet's words. Reads events of at most ASKED_ABOUT pods."""
    slow = (pod for pod in pods if states.creating(pod) and _age(pod) > STARTING)
    for pod in itertools.islice(slow, ASKED_ABOUT):
        if events := cluster.warnings("Pod", pod["metadata"]["name"]):
            return [states.of_event(events[-1])]
    return []


def _age(thing: Object) -> float:
    """Return the seconds since an object was created."""
    return time.time() - datetime.datetime.fromisoformat(thing["metadata"]["creationTimestamp"]).timestamp()


def pods_of(cluster: Cluster, job: Object) -> list[Object]:
    """Return the pods of a Job that have not succeeded."""
    return cluster.pods(f"{JOB_LABEL}={job['metadata']['name']}", NOT_SUCCEEDED)


def listed(cluster: Cluster, release: str = "") -> Iterator[Listed]:
    """Yield the runs of the namespace, or of one release in it, the newest last."""
    jobs = cluster.jobs(_of_release(f"{CHART},{COMPONENT}=driver", release))
    return map(_listed, sorted(jobs, key=lambda j: j["metadata"].get("creationTimestamp", "")))


def watch(cluster: Cluster, run: str, show: Callable[[str], None], release: str = "") -> None:
    """Call `show` with new lines about a run until it is done. Its last lines are its result.

    Raises StageError if it fails, RunNotFoundError if it is deleted meanwhile.
    """
    shown: list[str] = []
    with Watching(cluster) as watched:
        while True:
            job = _driver(watched, run, release)  # before the lines, so that the last lines say how it ended
            found = list(lines(watched, run, release))
            for line in found:
                if line not in shown:
                    show(line)
            shown = found
            if states.state(job) is JobState.DONE:
                return
            if states.state(job) is JobState.FAILED:
                raise _failure(run, job, pods_of(cluster, job))
            time.sleep(POLL)


def _failure(run: str, job: Object, pods: Sequence[Object]) -> StageError:
    last = states.end(job, pods)
    known = last.words.startswith(f"run {run}:")  # the driver's own error, which has advice
    advice = "fix it and submit the run again, what is committed is kept"
    return StageError(last.words if known else f"run {run}: {last.words}; {advice}", last.code)


def log(
    cluster: Cluster, run: str, *, index: int | None = None, follow: bool = False, release: str = ""
) -> Iterator[str]:
    """Return lines of the log of a run's newest driver pod or, with an index, of the newest trainer pod for it.

    Raises RunNotFoundError, and NotReadyError if there is no such pod yet, or no longer.
    """
    job = _driver(cluster, run, release)
    if index is not None:
        owned = [child for child in cluster.jobs(f"{RUN_LABEL}={run}") if _owns(job, child)]
        job = next((child for child in owned if _trains(child) and _pool(child) == templates.MAIN), {})
    pods = []
    if job:
        chosen = "" if index is None else f",batch.kubernetes.io/job-completion-index={index}"
        pods = cluster.pods(f"{JOB_LABEL}={job['metadata']['name']}{chosen}")
    if not pods:
        who = "driver" if index is None else f"trainer of index {index}"
        raise NotReadyError(f"run {run}: its {who} has no pod now; `datamodels status {run}` says why")
    newest = max(pods, key=lambda pod: pod["metadata"].get("creationTimestamp", ""))
    return cluster.log(newest["metadata"]["name"], follow=follow)


def _driver(cluster: Cluster, run: str, release: str) -> Object:
    """Return the driver's Job of a run. Raises RunNotFoundError, and ConfigError if several releases have one."""
    found = _drivers(cluster, run, release) if specs.is_run(run) else []
    if not found:
        raise RunNotFoundError(
            f"no such run: {run[:100]!r} in namespace {cluster.namespace}; `datamodels list` lists the runs. The Job "
            "of a run that has ended is removed after some time; the store keeps its results, which `datamodels "
            "status RUN --store URL` shows"
        )
    if len(found) > 1:
        names = ", ".join(sorted(map(templates.release_of, found)))
        raise ConfigError(f"run {run}: the releases {names} have it; choose one with --release")
    return found[0]


def _drivers(cluster: Cluster, run: str, release: str) -> list[Object]:
    return cluster.jobs(_of_release(f"{CHART},{COMPONENT}=driver,{RUN_LABEL}={run}", release))


def _of_release(selector: str, release: str) -> str:
    return f"{selector},{INSTANCE}={release}" if release else selector


def _listed(job: Object) -> Listed:
    state = states.state(job)
    reason = states.reason(job) if state is JobState.FAILED else ""
    run = job["metadata"]["labels"][RUN_LABEL]
    return Listed(run, templates.release_of(job), templates.store_of(job), state, reason)


def _component(job: Object) -> str:
    component = job["metadata"].get("labels", {}).get(COMPONENT, job["metadata"]["name"])
    return f"{component} ({_pool(job)})" if _trains(job) and _pool(job) != templates.MAIN else component


def service_lines(cluster: Cluster, release: str = "") -> Iterator[str]:
    """Yield the obstacles of the chart's services, or of one release in the namespace."""
    for name in SERVICES:
        pods = cluster.pods(_of_release(f"{CHART},{COMPONENT}={name},!{RUN_LABEL}", release), NOT_SUCCEEDED)
        for obstacle in states.obstacles(None, pods, []) + _unstarted(cluster, pods):
            yield f"{name}: {obstacle}"


def _progress(cluster: Cluster, job: Object) -> Iterator[str]:
    """Yield the progress in the last line of the driver's log, if it has any and its node answers."""
    for pod in pods_of(cluster, job):
        if pod.get("status", {}).get("phase") != "Running":
            continue
        with contextlib.suppress(UnavailableError, NotFoundError, ClusterError):
            for line in cluster.log(pod["metadata"]["name"], tail=1):
                with contextlib.suppress(ValueError, TypeError, KeyError):
                    entry = json.loads(line)
                    yield f"{entry['stage']}  {entry['done']:,} of {entry['expected']:,} {entry['unit']}"
