"""How far the fit of a run is, as others are told."""

from __future__ import annotations

import dataclasses
import enum

from datamodels.errors import ExitCode


class FitState(enum.Enum):
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    """The error says why; asking for the fit again goes on from what was kept."""


@dataclasses.dataclass(frozen=True)
class FitProgress:
    """
    digest    names what is fitted: the data and the settings
    fraction  share of the work done, 0 to 1
    seconds   since the fit was started, or started again
    fit       number of the finished fit; -1 until it is done
    stage     what the fit is doing, for people
    remaining  seconds that are left at the pace of late; None while that cannot be told
    error     why it failed; empty otherwise
    exit_code  what a process would end with because of it, an errors.ExitCode
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
