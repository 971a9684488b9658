"""Verify predictions by training: run the command that a user would type, one at a time, and keep what it finds.

The command imports code that a run names, by its own rules of trust, in a process of its own; the explorer never does.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shlex
import subprocess
import threading
import time
from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request

from datamodels.environment import child_environ
from datamodels.errors import BusyError, DeniedError, InputError, NotFoundError
from datamodels.explore import models
from datamodels.explore.opened import Explorer
from datamodels.run.runs import Run
from datamodels.screen import plain
from datamodels.settings import ExplorerSettings
from datamodels.storage import records
from datamodels.telemetry import logger

from . import audit

log = logger(__name__)

KEPT = 100
"""Most finished jobs that are remembered."""
LAST = 4000
"""Bytes of a failed command's messages that are shown."""
STOP = 10.0
"""Seconds that a command has to stop before it is killed."""


def arguments(run: Run, asked: models.VerificationRequest) -> list[str]:
    """Return the arguments of `datamodels counterfactual` that verify a prediction by training. Raises InputError."""
    if asked.relabel and asked.label is None:
        raise InputError("label: is missing; say which class the relabelled examples get")
    found = [run.name, str(asked.target)]
    sets = {"remove": asked.remove, "add": asked.add, "relabel": asked.relabel}
    found += [f"--{name}={_spans(columns)}" for name, columns in sets.items() if columns]
    if without := {*asked.left_out, *asked.add}:
        inclusion = run.design.inclusion.tolist()
        found.append(f"--base={_spans([c for c, p in enumerate(inclusion) if p > 0 and c not in without])}")
    if asked.relabel:
        found.append(f"--label={asked.label}")
    return [*found, f"--verify={asked.models}"]


def to_copy(question: list[str]) -> str:
    """Return the command that a user types."""
    return shlex.join(["datamodels", "counterfactual", *question])


def _spans(columns: Sequence[int]) -> str:
    """Return columns as the command reads them: 1,2,5-9."""
    spans: list[list[int]] = []
    for column in sorted(set(columns)):
        if spans and column == spans[-1][1] + 1:
            spans[-1][1] = column
        else:
            spans.append([column, column])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in spans)


@dataclasses.dataclass
class Job:
    """A command that trains models. answer: its row of JSON; fault: why there is none. Both are empty while it runs."""

    id: str
    run: str
    command: str
    began: float
    process: subprocess.Popen | None = None
    seconds: float = 0.0
    answer: dict[str, Any] | None = None
    fault: str = ""

    @property
    def status(self) -> str:
        return "done" if self.answer is not None else "failed" if self.fault else "running"


class Jobs:
    """Runs at most one command at a time. Safe to use from any thread. Call `close` at the end.

    command  what to run, to which the arguments of a question are added; empty to run nothing
    """

    def __init__(self, command: str):
        self._command = shlex.split(command)
        self._lock = threading.Lock()
        self._jobs: dict[str, Job] = {}

    @property
    def allowed(self) -> bool:
        return bool(self._command)

    def start(self, run: str, question: list[str]) -> Job:
        """Start a job, or return the one that answers the same question. Raises DeniedError, BusyError."""
        number, shown = records.digest({"question": question})[:16], to_copy(question)
        if not self.allowed:
            raise DeniedError(f"this explorer trains nothing; on a machine that may, run: {shown:.2000}")
        with self._lock:
            known = self._jobs.get(number)
            if known is not None and known.status != "failed":
                return known
            if any(job.status == "running" for job in self._jobs.values()):
                raise BusyError("another verification is running; ask again when it is done")
            job = Job(number, run, shown, time.monotonic())
            job.process = subprocess.Popen(
                [*self._command, *question, "--json"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=_environ(),
                start_new_session=True,
            )
            self._jobs[number] = job
            for old in [key for key, one in self._jobs.items() if one.status != "running"][:-KEPT]:
                del self._jobs[old]
        threading.Thread(target=self._follow, args=(job,), daemon=True).start()
        log.info("started a verification", run=run, job=number)
        return job

    def get(self, run: str, number: str) -> Job:
        """Return a job. Raises NotFoundError."""
        with self._lock:
            found = self._jobs.get(number)
        if found is None or found.run != run:
            raise NotFoundError(f"verification {number[:40]!r}: is not known here; start it again")
        return found

    def stop(self, run: str, number: str) -> None:
        """Stop a job if it runs. Raises NotFoundError."""
        process = self.get(run, number).process
        if process is not None and process.poll() is None:
            process.terminate()

    def close(self) -> None:
        """Stop what is running."""
        with self._lock:
            processes = [job.process for job in self._jobs.values() if job.process is not None]
        for process in processes:
            if process.poll() is None:
                process.terminate()
        for process in processes:
            try:
                process.wait(STOP)
            except subprocess.TimeoutExpired:
                process.kill()

    def _follow(self, job: Job) -> None:
        assert job.process is not None
        out, err = job.process.communicate()
        job.seconds = time.monotonic() - job.began
        fault = plain(err[-LAST:].decode(errors="replace")).strip()
        if job.process.returncode == 0:
            with contextlib.suppress(ValueError):
                job.answer = json.loads(out)
        if job.answer is None:
            job.fault = fault or f"the command ended with exit code {job.process.returncode}"
            log.warning("a verification failed", run=job.run, job=job.id, reason=job.fault)


def _environ() -> dict[str, str]:
    """Return the environment of a command, which runs code of others: without the token of this explorer."""
    return {name: value for name, value in child_environ().items() if not name.startswith(ExplorerSettings.prefix)}


def verifying_router(explorer: Explorer, jobs: Jobs) -> APIRouter:
    """Return the routes."""
    router = APIRouter()

    @router.post("/runs/{run}/verifications", status_code=202)
    def verify(run: str, asked: models.VerificationRequest, request: Request) -> models.VerificationInfo:
        """Train models with and without a change, on the machine of the explorer, to verify its prediction."""
        started = jobs.start(run, arguments(explorer.weights.run(run), asked))
        audit.written(request.scope)
        return _shown(started)

    @router.post("/runs/{run}/verifications/command")
    def command(run: str, asked: models.VerificationRequest) -> models.VerificationCommand:
        """Return the command that verifies a prediction by training, to run it elsewhere."""
        found = arguments(explorer.weights.run(run), asked)
        return models.VerificationCommand(command=to_copy(found), allowed=jobs.allowed)

    @router.get("/runs/{run}/verifications/{number}")
    def get_verification(run: str, number: str) -> models.VerificationInfo:
        """Say how far a verification is, and what it has found."""
        return _shown(jobs.get(run, number))

    @router.post("/runs/{run}/verifications/{number}/stop")
    def stop_verification(run: str, number: str, request: Request) -> models.VerificationInfo:
        """Stop a verification."""
        jobs.stop(run, number)
        audit.written(request.scope)
        return _shown(jobs.get(run, number))

    return router


def _shown(job: Job) -> models.VerificationInfo:
    running = job.status == "running"
    answer = job.answer or {}
    before, after = (answer.get(name) for name in ("verified_before", "verified"))
    return models.VerificationInfo(
        id=job.id,
        status=job.status,
        command=job.command,
        seconds=time.monotonic() - job.began if running else job.seconds,
        fault=job.fault,
        before=before and models.MeasuredInfo(**before),
        after=after and models.MeasuredInfo(**after),
    )
