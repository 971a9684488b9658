"""Define the settings that only processes of one kind read."""

from __future__ import annotations

import dataclasses
import math
import tempfile
from pathlib import Path
from typing import ClassVar

from datamodels.environment import Bytes, Gibibytes, Seconds, Settings
from datamodels.errors import SettingsError


@dataclasses.dataclass(frozen=True)
class TrainerSettings(Settings):
    """How models are trained on this machine."""

    prefix: ClassVar[str] = "DATAMODELS_TRAINER"

    threads: int = 1
    """Threads of the numerical libraries in one process. Small models train fastest with one process per core and one
    thread in each."""
    heartbeat: Seconds = 1800.0
    """How long a trainer may make no progress before the local runner kills it and restarts it. These events count as
    progress: the process starts, subsets arrive, a batch of models ends, a commit ends. The default leaves time for a
    batch of large models, which may take many minutes."""
    patience: Seconds = 600.0
    """How long a trainer waits for an aggregator that does not answer, before it ends with exit code 75."""
    heartbeat_file: str = ""
    """A file whose modification time is that of the last progress. The local runner and the chart set it."""
    spec: str = ""
    """The SHA-256 of the spec that the trainer is started for, which its runner sets. The trainer imports what that
    spec names, and refuses a run with another spec. If it is empty, the trainer imports only what is trusted."""
    tolerated_failures: float = 0.1
    """The fraction of subsets whose models may fail, 0 to 1. If more fail than chance explains at this rate, such as
    the first six, the trainer stops with the reason. 0 stops at the first failed model. With 1 it never stops, also not
    if the outputs of the first models are all the same, or vary only in digits that storage rounds away, and it does
    not train the first model again to see whether the seed and the subset decide its outputs."""
    tolerated_difference: float = 0.1
    """The most by which outputs may differ if the first model of a run is trained again on its subset with its seed, as
    a fraction of their deviation over models, 0 or more. If they differ by more, the trainer stops. With the default,
    chance that no seed controls, such as the order of sums on a GPU, adds at most 1% to the variance of outputs. With
    0.5 it adds up to 25%, as noisier seeds would; inf allows any difference."""

    def __post_init__(self) -> None:
        if not self.heartbeat > 0:  # also true for NaN
            raise SettingsError(f"{self.prefix}_HEARTBEAT={self.heartbeat}: must be a number of seconds above 0")


@dataclasses.dataclass(frozen=True)
class IndexedJobSettings(Settings):
    """What Kubernetes tells the pods of an Indexed Job."""

    prefix: ClassVar[str] = "JOB"

    completion_index: int = -1
    """Index of the pod: which chunk to train, or which part of a fit to solve. -1 outside of an Indexed Job."""


@dataclasses.dataclass(frozen=True)
class ClusterSettings(Settings):
    """What a driver knows about its cluster. The chart sets all fields but `spec`, which `datamodels submit` adds."""

    prefix: ClassVar[str] = "DATAMODELS_CLUSTER"

    spec: str = ""
    """The spec of the run, as JSON."""
    templates: str = "/etc/datamodels/jobs"
    """The folder of the chart's Job templates."""
    namespace: str = ""
    """The namespace in which the driver creates Jobs."""
    owner: str = ""
    """Name of the driver's own Job. It owns the Jobs that the driver creates, so Kubernetes deletes them with it."""
    owner_uid: str = ""
    """The UID of the driver's own Job."""
    fitter_start: Seconds = 3600.0
    """How long the driver waits until the pod of a fitter Job is ready. Time in a queue does not count."""
    gradients: bool = False
    """Whether the driver itself trains the models whose gradients `prior` takes, which takes as much memory as a
    trainer, and a GPU if they should be fast. Otherwise fits on a cluster have the gradients that the store has."""
    settle: Seconds = 60.0
    """How long a driver stays after its work is done, so that Prometheus can read its last metrics. If nobody has read
    its metrics, a driver ends at once."""


@dataclasses.dataclass(frozen=True)
class AggregatorSettings(Settings):
    """How the aggregator writes manifests and checks its store."""

    prefix: ClassVar[str] = "DATAMODELS_AGGREGATOR"

    publish_interval: Seconds = 2.0
    """The shortest time between two manifests of one run. The last manifest is written as soon as the run is
    complete."""
    preflight_writers: int = 32
    """How many conditional writes of one object race at start-up. If the store lets more than one win, the aggregator
    refuses it. 2 to 1,000."""


@dataclasses.dataclass(frozen=True)
class FitterSettings(Settings):
    """How a fit uses this machine. What is computed is in the spec, under `fit`."""

    prefix: ClassVar[str] = "DATAMODELS_FITTER"

    scratch: str = str(Path(tempfile.gettempdir()) / "datamodels-fitter")
    """The folder for masks, outputs, sums and checkpoints. Each fitter needs a folder of its own. Everything in it can
    be recreated. A fit of m models on d columns and n targets takes about m (d / 8 + 2 n) bytes. The local runner uses
    `HOME/scratch` if this is not set."""
    keep_bytes: Bytes = 16 * 2**30
    """How much of the scratch folder is kept for later fits, over all runs; they then read only the new models. The
    least recently used data is deleted first. 0 keeps nothing."""
    device: str = "auto"
    """Where estimators that can use a GPU are fitted: `cpu`, `cuda`, or `auto`, which means `cuda` if CuPy and a GPU
    are available. `cuda` needs the extra `fitter-cuda12` or `fitter-cuda13`. Other estimators use the CPU."""
    threads: int = 0
    """How many blocks of targets are fitted at the same time on the CPU, each by one thread; 0 means one per core that
    the process may use."""
    block: int = 0
    """The most targets in a block, which is solved and committed as a unit; 0 means 128 on the CPU and 4,096 on a GPU.
    On the CPU, a block gets fewer targets if it would take more than 2 GiB of memory, or if there would be fewer than
    four blocks, but then at least 32. A GPU solves a block in as many parts as its free memory asks for."""
    memory: Gibibytes = 0.0
    """How much memory the fit of a LASSO may take on the CPU. A fit that would take more is refused before it starts. 0
    means all memory of the machine, or as much as the process's control groups allow."""

    def __post_init__(self) -> None:
        for field in ("threads", "block", "memory"):
            if getattr(self, field) < 0:
                raise SettingsError(f"{self.prefix}_{field.upper()}={getattr(self, field)}: must be 0 or more")


@dataclasses.dataclass(frozen=True)
class QuerySettings(Settings):
    """What the query service keeps in memory."""

    prefix: ClassVar[str] = "DATAMODELS_QUERY"

    refresh: Seconds = 5.0
    """How long the newest known fit of a run is used before the service asks the store for a newer one."""
    capacity: int = 8
    """The most fits that stay in memory. The least recently used fit is dropped first."""
    keep_bytes: Bytes = 2 * 2**30
    """The most memory that the fits in memory may take. The least recently used fit is dropped first; the fit that was
    asked for last stays, however large it is. While fits are read, up to two more take memory."""
    warm: bool = False
    """Whether the service is ready only after it has read the newest fit of the newest run, so that no caller waits for
    that. The chart turns it on."""

    def __post_init__(self) -> None:
        if self.capacity < 1:
            raise SettingsError(f"{self.prefix}_CAPACITY={self.capacity}: must be at least 1")


@dataclasses.dataclass(frozen=True)
class ExplorerSettings(Settings):
    """Who may use the explorer. It needs `token` or `user_header`; `datamodels explore` makes a token of its own.

    It listens as the settings DATAMODELS_SERVE say, by HTTP, and keeps fits in memory as DATAMODELS_QUERY says.
    """

    prefix: ClassVar[str] = "DATAMODELS_EXPLORER"

    token: str = ""
    """What a caller must know: as `?token=` in the first address that a browser opens, which sets a cookie, or as a
    bearer token. At least 16 letters."""
    user_header: str = ""
    """The header in which an authentication proxy names the user, such as `X-Forwarded-User`. If it is set, whoever
    sends it is that user, so nothing but the proxy may reach the explorer. If it is empty, no header is trusted."""
    hosts: str = ""
    """The names by which browsers reach the explorer, separated by commas, such as `explorer.example.org`. Requests for
    other hosts are refused, so that no foreign page can reach it under a name of its own. Names of the loopback
    interface are always allowed, except if `user_header` is set."""
    verdicts: bool = True
    """Whether users may store verdicts of a review. Nothing else can be changed."""
    groups_header: str = ""
    """The header in which the proxy names the groups of the user, separated by commas, such as `X-Forwarded-Groups`."""
    price: float = 0.0
    """What one trainer costs in one hour, in any currency. If it is above 0, pages of runs show what training has cost,
    and what it will have cost at its end."""
    readers: str = ""
    """Which users may read which runs, as in DATAMODELS_AUTH_READERS: `USER=PATTERN,PATTERN`, with `;` between users,
    and `group:NAME` for a group. If it is empty, every user may read every run. Whoever has the token always may."""
    verify: str = ""
    """The command that trains models to verify a prediction, such as `datamodels counterfactual`; the question is
    added. Then all users may train models on the explorer's machine. If it is empty, pages show the command to copy."""

    def __post_init__(self) -> None:
        if not 0 <= self.price < math.inf:  # False for NaN, too
            raise SettingsError(f"{self.prefix}_PRICE={self.price}: must be a number, at least 0")
