"""Describe the state of a Job, and the obstacles that keep it from running.

The functions are pure: they turn objects of the API into text.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable, Iterator, Sequence

from datamodels.errors import ExitCode
from datamodels.runners import ends
from datamodels.runners.cluster.api import KUEUE, Object, seen

SIGNALLED = 128
"""Exit codes above this are of containers that a signal ended: this and its number."""

WAITING = {
    "ErrImagePull": "set image in the chart's values to one that is there, or imagePullSecrets",
    "ImagePullBackOff": "set image in the chart's values to one that is there, or imagePullSecrets",
    "InvalidImageName": "correct image in the chart's values",
    "ErrImageNeverPull": "load the image onto the nodes, or set image.pullPolicy",
    "CreateContainerConfigError": "create it, or correct the chart's values",
    "CreateContainerError": "see kubectl describe pod",
    "RunContainerError": "see kubectl describe pod",
}
"""Advice by the reason why a container waits: reasons that do not go away by themselves."""


EVENTS = {
    "exceeded quota": "raise the quota, or ask for less in the chart's values",
    '" not found': "create it, or correct the chart's values",
}
"""Advice by a part of an event's message."""
QUEUED = {
    "doesn't exist": "create it, or correct jobs.kueue.queue in the chart's values",
    "inactive": "ask the administrator of the queue",
    "maximum capacity": "lower jobs.trainer.parallelism in the chart's values, or set jobs.kueue.minParallelism",
}
"""Advice by a part of Kueue's message about a Job that may wait forever."""


class JobState(enum.Enum):
    ABSENT = "absent"
    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    LEAVING = "being deleted"

    @property
    def ended(self) -> bool:
        return self in (JobState.DONE, JobState.FAILED)


def state(job: Object | None) -> JobState:
    if job is None:
        return JobState.ABSENT
    if "deletionTimestamp" in job["metadata"]:
        return JobState.LEAVING
    for condition in job.get("status", {}).get("conditions") or []:
        if condition["status"] == "True" and condition["type"] in ("Complete", "Failed"):
            return JobState.DONE if condition["type"] == "Complete" else JobState.FAILED
    status = job.get("status", {})
    ends = status.get("succeeded") or status.get("uncountedTerminatedPods", {}).get("succeeded")
    return JobState.RUNNING if status.get("ready") or ends else JobState.WAITING


def reason(job: Object) -> str:
    """Return why a Job failed, as Kubernetes reports it; empty if it did not fail."""
    for condition in job.get("status", {}).get("conditions") or []:
        if condition["type"] == "Failed" and condition["status"] == "True":
            return f"{condition.get('reason', '')}: {condition.get('message', '')}".strip(": ")
    return ""


def indexes(job: Object) -> str:
    """Describe the progress of an Indexed Job, as in: 12 of 40 indexes done, 4 running."""
    status = job.get("status", {})
    done, failed = (count(status.get(field, "")) for field in ("completedIndexes", "failedIndexes"))
    words = [f"{done:,} of {job['spec'].get('completions', 1):,} indexes done"]
    if not state(job).ended:
        words.append(f"{status.get('ready') or 0:,} running")
    if failed:
        words.append(f"{failed:,} failed: {status['failedIndexes'][:100]}")
    return ", ".join(words)


def count(spans: str) -> int:
    """Count the indexes in a list such as "1,3-5"."""
    total = 0
    for span in filter(None, spans.split(",")):
        first, _, last = span.partition("-")
        total += int(last or first) - int(first) + 1
    return total


def ended_indexes(job: Object) -> int:
    """Count the indexes of an Indexed Job that need no pod any more: they are done, or have failed for good."""
    return sum(count(job.get("status", {}).get(field, "")) for field in ("completedIndexes", "failedIndexes"))


def queued(job: Object) -> bool:
    """Return whether a Job waits to be admitted, by Kueue or by hand."""
    return bool(job["spec"].get("suspend")) and not state(job).ended


def creating(pod: Object) -> bool:
    """Return whether a pod has a node but no started container: a volume or a network may be missing."""
    status = pod.get("status", {})
    waiting = [(c.get("state", {}).get("waiting") or {}).get("reason") for c in status.get("containerStatuses") or []]
    return (
        status.get("phase") == "Pending"
        and bool(pod["spec"].get("nodeName"))
        and set(waiting) <= {"ContainerCreating", "PodInitializing"}
    )


def obstacles(
    job: Object | None, pods: Sequence[Object], events: Sequence[Object], workload: Object | None = None
) -> list[str]:
    """Return the obstacles of a Job, or of a service if `job` is None: one line each, with advice.

    events    warnings about the Job, the newest last
    workload  Kueue's object for the Job, if there is one
    """
    found = [line for pod in pods for line in _of_pod(pod)]
    if job is not None:
        if queued(job):
            queue = job["metadata"].get("labels", {}).get(f"{KUEUE}/queue-name", "")
            why = _of_workload(workload or {})
            found.append(f"waits in queue {queue} of Kueue{why}" if queue else "is suspended; `datamodels resume RUN`")
        if events and not state(job).ended and (not pods or _refused(job, pods, events[-1])):
            found.append(of_event(events[-1]))
    return list(dict.fromkeys(found))


def _refused(job: Object, pods: Sequence[Object], event: Object) -> bool:
    """Return whether a Job lacks pods since its newest one was created, and the event says why."""
    spec, status = job["spec"], job.get("status", {})
    wanted = min(spec.get("parallelism", 1), spec.get("completions", 1) - ended_indexes(job))
    if (status.get("active") or 0) >= wanted:
        return False
    return seen(event)[:19] >= max(pod["metadata"]["creationTimestamp"] for pod in pods)[:19]


def _of_workload(workload: Object) -> str:
    for condition in workload.get("status", {}).get("conditions") or []:
        if condition["type"] == "QuotaReserved" and condition["status"] != "True":
            message = " ".join(condition.get("message", "").split())
            return "; ".join([f": {message}", *(advice for words, advice in QUEUED.items() if words in message)])
    return ""


def of_event(event: Object) -> str:
    """Return the reason and message of an event, with advice."""
    message = " ".join(event.get("message", "").split())
    advice = [advice for words, advice in EVENTS.items() if words in message]
    return "; ".join([f"{event.get('reason', 'Warning')}: {message}", *advice])


def _of_pod(pod: Object) -> Iterator[str]:
    status = pod.get("status", {})
    for condition in status.get("conditions") or []:
        if condition["type"] == "PodScheduled" and condition.get("reason") == "Unschedulable":
            message = " ".join(condition.get("message", "").split())
            what = "add nodes with GPUs, or ask for none" if "gpu" in message.lower() else "add nodes, or ask for less"
            yield f"cannot be scheduled: {message}; {what} (resources, nodeSelector, tolerations)"
    for container in status.get("containerStatuses") or []:
        waiting = container.get("state", {}).get("waiting") or {}
        if waiting.get("reason") in WAITING:
            message = " ".join((waiting.get("message") or container.get("image", "")).split())
            yield f"{waiting['reason']}: {message}; {WAITING[waiting['reason']]}"
        before = (container.get("lastState") or {}).get("terminated") or {}
        now = (container.get("state") or {}).get("terminated") or {}
        if waiting.get("reason") == "CrashLoopBackOff" and before:
            yield f"keeps failing with exit code {before['exitCode']}: {last_words(before)}"
        if "OOMKilled" in (before.get("reason"), now.get("reason")):
            yield f"{container['name']} was killed for memory; raise its resources.limits.memory"


@dataclasses.dataclass(frozen=True, order=True)
class Failure:
    """How a container ended.

    at     ISO time
    words  what it said of its failure, see `last_words`
    """

    at: str
    code: int
    words: str


def failures(pods: Iterable[Object]) -> list[Failure]:
    """Return every container that failed, the newest last."""
    ended = []
    for pod in pods:
        for container in pod.get("status", {}).get("containerStatuses") or []:
            how = (container.get("state") or {}).get("terminated")
            if how and how["exitCode"] != 0:
                ended.append(Failure(how.get("finishedAt") or "", how["exitCode"], last_words(how)))
    return sorted(ended)


def end(job: Object, pods: Iterable[Object]) -> Failure:
    """Return how the newest failed container of a failed Job ended; without one, why Kubernetes ended the Job."""
    return [Failure("", ExitCode.FAILED, reason(job)), *failures(pods)][-1]


def works(pods: Iterable[Object]) -> bool:
    """Return whether one of the pods runs."""
    return any(pod.get("status", {}).get("phase") == "Running" for pod in pods)


def message(pods: Iterable[Object]) -> str:
    """Return what the newest container that succeeded has left as its termination message."""
    ended = [
        (how.get("finishedAt") or "", how.get("message") or "")
        for pod in pods
        for container in pod.get("status", {}).get("containerStatuses") or []
        if (how := (container.get("state") or {}).get("terminated")) and how["exitCode"] == 0
    ]
    return max(ended, default=("", ""))[1]


def last_words(terminated: Object) -> str:
    """Return what a container said of its failure; else the reason why it ended, or that it died."""
    log, reason = terminated.get("message") or "", terminated.get("reason")
    if not log.strip():
        return reason or "it logged nothing"
    if reason == "OOMKilled":
        return ends.message(log) or reason
    return ends.crash(terminated["exitCode"] - SIGNALLED, log) or ends.said(log)
