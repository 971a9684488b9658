"""Stages as Jobs of a Kubernetes cluster, beside services that the chart keeps up. Runs in the driver's pod.

A driver that dies is started again by its own Job, finds the Jobs that it created by their names, and goes on with
them. They belong to it: whoever deletes the driver's Job deletes them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from datamodels.errors import ConflictError, DeadlineError, ExitCode, StageError, UnavailableError
from datamodels.run.runs import Run
from datamodels.runners import metrics
from datamodels.runners.base import SERVICES, Runner
from datamodels.runners.cluster import runs, templates
from datamodels.runners.cluster import state as states
from datamodels.runners.cluster.api import Cluster, Object
from datamodels.runners.cluster.state import State
from datamodels.settings import ClientSettings, ClusterSettings
from datamodels.telemetry import logger

log = logger(__name__)

TICK = 0.5
LOOK = 4
"""Ticks between two looks at a Job."""


class KubernetesRunner(Runner):
    """Runs trainers as an Indexed Job, and the fitter as a Job where the chart has a template of one.

    cluster    the driver's own namespace
    owner      who the driver is
    templates  {file: YAML}, as `templates.read` or `templates.find` give them
    """

    def __init__(self, cluster: Cluster, owner: ClusterSettings, templates: Mapping[str, str]):
        self._cluster = cluster
        self._owner = owner
        self._templates = templates

    @contextlib.contextmanager
    def services(self, names: Sequence[str] = SERVICES) -> Iterator[ClientSettings]:
        """The services that the settings name; the chart keeps them up."""
        yield ClientSettings.load()

    def train(self, run: Run, chunks: Sequence[int], services: ClientSettings, tick: Callable[[], bool]) -> None:
        job = self._ensure(templates.trainer_job(self._templates, run.spec, chunks, self._owner))
        name = job["metadata"]["name"]
        obstacles: list[str] = []
        while not states.state(job).ended:
            for _ in range(LOOK):
                time.sleep(TICK)
                with contextlib.suppress(UnavailableError, DeadlineError):  # trainers wait for services too
                    if tick():
                        runs.remove(self._cluster, name)
                        _show_trainers({}, [])
                        return
            job = self._look(name)
            obstacles = self._obstacles(run, job, runs.pods_of(self._cluster, job), obstacles)
            _show_trainers(job, obstacles)
        if states.state(job) is State.FAILED:
            raise self._failure(run, job)

    @contextlib.contextmanager
    def fitter(self, run: Run, services: ClientSettings) -> Iterator[ClientSettings]:
        if "fitter.yaml" not in self._templates:
            yield services
            return
        job = self._ensure(templates.fitter_job(self._templates, run.spec, self._owner))
        try:
            # By its pod's address, which is in no certificate; the name of the service is.
            name = services.server_name or services.fitter.rpartition("/")[2].rpartition(":")[0]
            yield dataclasses.replace(services, fitter=self._address(run, job), server_name=name)
        finally:
            self._cluster.delete_job(job["metadata"]["name"])

    def _ensure(self, wanted: Object) -> Object:
        """The Job of this name that is at work for us: the one that is there, or else a new one."""
        name = wanted["metadata"]["name"]
        found = self._cluster.job(name)
        if found is not None:
            owners = [o["uid"] for o in found["metadata"].get("ownerReferences", [])]
            if states.state(found) in (State.WAITING, State.RUNNING) and self._owner.owner_uid in owners:
                log.info("going on with a job", job=name)
                return found
            runs.remove(self._cluster, name)  # of an earlier try
        with contextlib.suppress(ConflictError):  # a call that was made twice, because its answer was lost
            self._cluster.create_job(wanted)
        log.info("job created", job=name)
        return self._look(name)

    def _look(self, name: str) -> Object:
        job = self._cluster.job(name)
        if job is None:
            raise StageError(f"Job {name} was deleted; submit the run again to go on", ExitCode.TRANSIENT)
        return job

    def _obstacles(self, run: Run, job: Object, pods: Sequence[Object], told: Sequence[str]) -> list[str]:
        """What holds a Job up; in the log, too, unless that was told."""
        found = runs.obstacles(self._cluster, job, pods)
        for obstacle in found:
            if obstacle not in told:
                log.warning("held up", run=run.name, job=job["metadata"]["name"], reason=obstacle)
        return found

    def _failure(self, run: Run, job: Object) -> StageError:
        failed = states.failures(runs.pods_of(self._cluster, job))
        code, words = failed[-1] if failed else (ExitCode.FAILED, states.reason(job))
        return StageError(
            f"run {run.name}: trainers failed ({states.indexes(job)}), the last because: {words}; what is committed "
            "is kept, submit the run again to train the rest",
            ExitCode.CONFIG if code == ExitCode.CONFIG else ExitCode.FAILED,
        )

    def _address(self, run: Run, job: Object) -> str:
        """Where the fitter's pod serves, once it is ready. Time in a queue is not counted: that may be days."""
        name = job["metadata"]["name"]
        obstacles: list[str] = []
        end = time.monotonic() + self._owner.fitter_start
        while time.monotonic() < end:
            pods = runs.pods_of(self._cluster, job)
            for pod in pods:
                ready = {c["type"]: c["status"] for c in pod.get("status", {}).get("conditions") or []}.get("Ready")
                if ready == "True" and "deletionTimestamp" not in pod["metadata"]:
                    return _address_of(pod)
            job = self._look(name)
            if states.state(job).ended:
                code, words = [(1, states.reason(job)), *states.failures(runs.pods_of(self._cluster, job))][-1]
                raise StageError(f"the fitter cannot start: {words}", code)
            obstacles = self._obstacles(run, job, pods, obstacles)
            queued = states.queued(job)
            time.sleep(LOOK * TICK if queued else TICK)
            if queued:
                end = time.monotonic() + self._owner.fitter_start
        reasons = "; ".join(obstacles) or "its pod is not ready"
        raise StageError(
            f"the fitter did not start within {self._owner.fitter_start:.0f} s: {reasons}", ExitCode.TRANSIENT
        )


def _show_trainers(job: Object, obstacles: Sequence[str]) -> None:
    status = job.get("status", {})
    ended = not job or states.state(job).ended
    metrics.READY.set(0 if ended else status.get("ready") or 0)
    metrics.FAILED.set(status.get("failed") or 0)
    metrics.HELD_UP.set(0 if ended or states.queued(job) else len(obstacles))


def _address_of(pod: Object) -> str:
    ports = {p.get("name"): p["containerPort"] for c in pod["spec"]["containers"] for p in c.get("ports", [])}
    ip = pod["status"]["podIP"]
    return f"[{ip}]:{ports['grpc']}" if ":" in ip else f"{ip}:{ports['grpc']}"
