"""Define the progress of the fit of a run."""

from __future__ import annotations

import dataclasses
import enum

from datamodels.errors import ExitCode


class FitState(enum.Enum):
    """Whether a fit runs, or how it ended."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    """The error says why. Asking for the fit again resumes it from its checkpoints."""


@dataclasses.dataclass(frozen=True)
class FitProgress:
    """The progress of a fit.

    digest     identifies what is fitted: the data and the settings
    fraction   fraction of the work that is done, 0 to 1
    seconds    seconds since the fit was started or resumed
    fit        number of the finished fit; -1 until it is done
    stage      what the fit is doing, for people
    remaining  seconds that are left at the recent pace; None if it is not known yet
    error      why it failed; empty otherwise
    exit_code  exit code of a process that fails because of it, an errors.ExitCode
    """

    run: str
    digest: str
    state: FitState
    targets: int
    targets_done: int = 0
    fraction: float = 0.0
    seconds: float = 0.0
    fit: int = -1
    stage: str = ""
    remaining: float | None = None
    error: str = ""
    exit_code: int = ExitCode.DONE
