"""Run stages as Jobs of a Kubernetes cluster, with the services of the chart. Used in the driver's pod.

If a driver dies, its own Job starts it again. It then finds the Jobs that it created by their names, and continues with
them. They are owned by the driver's Job: deleting it deletes them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from datamodels.errors import ClusterError, ConflictError, DeadlineError, ExitCode, StageError, UnavailableError
from datamodels.run.runs import Run
from datamodels.runners import metrics
from datamodels.runners.base import SERVICES, Runner
from datamodels.runners.cluster import runs, templates
from datamodels.runners.cluster import state as states
from datamodels.runners.cluster.api import Cluster, Object
from datamodels.runners.cluster.state import JobState
from datamodels.runners.cluster.watching import Watching
from datamodels.settings import ClientSettings, ClusterSettings
from datamodels.telemetry import logger

log = logger(__name__)

TICK = 0.5
"""Seconds between two calls of `tick` by default."""
LOOK = 4
"""Ticks between two looks at a Job. They cost no calls, because it is watched."""


MOST_TRANSIENT = 6
"""Pods per index of a trainer Job that may end because a service was away. Each has waited ten minutes for it."""


class KubernetesRunner(Runner):
    """Runs trainers as an Indexed Job, and the fitter as a Job if the chart has a template for it.

    cluster    the driver's own namespace
    owner      settings that identify the driver's Job
    templates  {file name: YAML}, as `templates.read` returns them
    tick       seconds between two calls of `tick`
    """

    def __init__(self, cluster: Cluster, owner: ClusterSettings, templates: Mapping[str, str], tick: float = TICK):
        self._cluster = cluster
        self._tick = tick
        self._owner = owner
        self.trains_here = owner.gradients
        self._templates = templates

    @contextlib.contextmanager
    def services(self, names: Sequence[str] = SERVICES) -> Iterator[ClientSettings]:
        """Yield the settings, which name the services of the chart."""
        yield ClientSettings.load()

    def train(self, run: Run, chunks: Sequence[int], services: ClientSettings, tick: Callable[[], bool]) -> None:
        job = self._ensure(templates.trainer_job(self._templates, run.spec, chunks, self._owner))
        name = job["metadata"]["name"]
        obstacles: list[str] = []
        with self._pools(run, chunks) as pools, Watching(self._cluster) as watched:
            while not states.state(job).ended:
                for _ in range(LOOK):
                    time.sleep(self._tick)
                    with contextlib.suppress(UnavailableError, DeadlineError):  # trainers wait for services too
                        if tick():
                            runs.remove(self._cluster, name)
                            _show_trainers([], [])
                            return
                job = self._look(watched, name)
                pods = runs.pods_of(watched, job)
                obstacles = self._obstacles(watched, run, job, pods, obstacles)
                _show_trainers([job, *self._look_at_pools(watched, run, pools)], obstacles)
                self._limit_transient(run, job, pods)
        if states.state(job) is JobState.FAILED:
            raise self._failure(run, job)

    @contextlib.contextmanager
    def _pools(self, run: Run, chunks: Sequence[int]) -> Iterator[dict[str, list[str]]]:
        """Start the Jobs of further trainers, and delete them at the end. Yields their obstacles by their names.

        The run ends without them, so a cluster that refuses one of them holds nothing up.
        """
        started: dict[str, list[str]] = {}
        for pool in templates.pools(self._templates):
            wanted = templates.pool_job(self._templates, pool, run.spec, chunks, self._owner)
            try:
                started[self._ensure(wanted)["metadata"]["name"]] = []
            except ClusterError as error:
                log.warning("no trainers of a pool", run=run.name, pool=pool, reason=str(error))
        yield started
        for name in started:
            self._cluster.delete_job(name)

    def _look_at_pools(self, cluster: Cluster, run: Run, pools: dict[str, list[str]]) -> Iterator[Object]:
        """Yield the Jobs of pools. Logs new obstacles of theirs."""
        for name, shown in list(pools.items()):
            if job := cluster.job(name):
                pools[name] = self._obstacles(cluster, run, job, runs.pods_of(cluster, job), shown)
                yield job

    @contextlib.contextmanager
    def fitter(self, run: Run, services: ClientSettings) -> Iterator[ClientSettings]:
        if "fitter.yaml" not in self._templates:
            yield services
            return
        job = self._ensure(templates.fitter_job(self._templates, run.spec, self._owner))
        try:
            with Watching(self._cluster) as watched:
                address = self._address(watched, run, job)
            # The pod is called by its IP address, which no certificate contains, so check the name of the service.
            name = services.server_name or services.fitter.rpartition("/")[2].rpartition(":")[0]
            yield dataclasses.replace(services, fitter=address, server_name=name)
        finally:
            self._cluster.delete_job(job["metadata"]["name"])

    def _ensure(self, wanted: Object) -> Object:
        """Return the Job of this name: an existing one that still works for this driver, or else a new one."""
        name = wanted["metadata"]["name"]
        found = self._cluster.job(name)
        if found is not None:
            owners = [o["uid"] for o in found["metadata"].get("ownerReferences", [])]
            if states.state(found) in (JobState.WAITING, JobState.RUNNING) and self._owner.owner_uid in owners:
                log.info("continuing with a job", job=name)
                return found
            runs.remove(self._cluster, name)  # it is left from an earlier attempt
        with contextlib.suppress(ConflictError):  # the call was repeated because its answer was lost
            self._cluster.create_job(wanted)
        log.info("job created", job=name)
        return self._look(self._cluster, name)

    def _look(self, cluster: Cluster, name: str) -> Object:
        job = cluster.job(name)
        if job is None:
            raise StageError(f"Job {name} was deleted; submit the run again to resume", ExitCode.TRANSIENT)
        return job

    def _obstacles(
        self, cluster: Cluster, run: Run, job: Object, pods: Sequence[Object], shown: Sequence[str]
    ) -> list[str]:
        """Return what keeps a Job from running. Logs each obstacle that is not among `shown`."""
        found = runs.obstacles(cluster, job, pods)
        for obstacle in found:
            if obstacle not in shown:
                log.warning("held up", run=run.name, job=job["metadata"]["name"], reason=obstacle)
        return found

    def _failure(self, run: Run, job: Object) -> StageError:
        last = states.end(job, runs.pods_of(self._cluster, job))
        return StageError(
            f"run {run.name}: trainers failed ({states.indexes(job)}), the last because: {last.words}; what is "
            "committed is kept, submit the run again to train the rest",
            ExitCode.CONFIG if last.code == ExitCode.CONFIG else ExitCode.FAILED,
        )

    def _limit_transient(self, run: Run, job: Object, pods: Sequence[Object]) -> None:
        """Give a Job up if too many of its pods have ended because a service was away; they do not count as failed."""
        away = [failure for failure in states.failures(pods) if failure.code == ExitCode.TRANSIENT]
        if len(away) > MOST_TRANSIENT * job["spec"].get("completions", 1) and not states.state(job).ended:
            runs.remove(self._cluster, job["metadata"]["name"])
            raise StageError(
                f"run {run.name}: {len(away)} trainers gave up waiting, the last because: {away[-1].words}; what is "
                "committed is kept, submit the run again to train the rest",
                ExitCode.TRANSIENT,
            )

    def _address(self, cluster: Cluster, run: Run, job: Object) -> str:
        """Wait until the fitter's pod is ready, and return its address.

        Raises StageError if the Job ends, or after the time limit. Time in a queue does not count: it may be days.
        """
        name = job["metadata"]["name"]
        obstacles: list[str] = []
        end = time.monotonic() + self._owner.fitter_start
        while time.monotonic() < end:
            pods = runs.pods_of(cluster, job)
            for pod in pods:
                ready = {c["type"]: c["status"] for c in pod.get("status", {}).get("conditions") or []}.get("Ready")
                if ready == "True" and "deletionTimestamp" not in pod["metadata"]:
                    return _address_of(pod)
            job = self._look(cluster, name)
            if states.state(job).ended:
                last = states.end(job, runs.pods_of(self._cluster, job))
                raise StageError(f"the fitter cannot start: {last.words}", last.code)
            obstacles = self._obstacles(cluster, run, job, pods, obstacles)
            queued = states.queued(job)
            time.sleep(LOOK * self._tick if queued else self._tick)
            if queued:
                end = time.monotonic() + self._owner.fitter_start
        reasons = "; ".join(obstacles) or "its pod is not ready"
        raise StageError(
            f"the fitter did not start within {self._owner.fitter_start:.0f} s: {reasons}", ExitCode.TRANSIENT
        )


def _show_trainers(jobs: Sequence[Object], obstacles: Sequence[str]) -> None:
    """Set metrics to what the main Job, the first, and those of pools do. Obstacles are those of the main Job."""
    works = [job for job in jobs if not states.state(job).ended]
    metrics.READY.set(sum(job.get("status", {}).get("ready") or 0 for job in works))
    metrics.FAILED.set(sum(job.get("status", {}).get("failed") or 0 for job in jobs))
    metrics.HELD_UP.set(len(obstacles) if jobs[:1] == works[:1] and jobs and not states.queued(jobs[0]) else 0)


def _address_of(pod: Object) -> str:
    ports = {p.get("name"): p["containerPort"] for c in pod["spec"]["containers"] for p in c.get("ports", [])}
    ip = pod["status"]["podIP"]
    return f"[{ip}]:{ports['grpc']}" if ":" in ip else f"{ip}:{ports['grpc']}"
