"""Record metrics of one trainer process. The aggregator counts what a run has committed."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from prometheus_client import Counter, Gauge, Histogram

from datamodels.errors import SettingsError
from datamodels.settings import TrainerSettings
from datamodels.telemetry import logger
from datamodels.train import device
from datamodels.train.observer import Observer

log = logger(__name__)

BEGAN = time.monotonic()

MODELS = Counter("datamodels_train_models_total", "Models trained, including failed ones and second attempts.")
RETRIED = Counter("datamodels_train_retried_models_total", "Models trained again with their second seed.")
FAILED = Counter("datamodels_train_failed_models_total", "Models without usable outputs from either seed.")
COARSE = Gauge(
    "datamodels_train_coarse_targets",
    "Targets, in the last sub-chunk, whose outputs vary by less than ten steps of the type that stores them.",
)
MODEL_SECONDS = Histogram(
    "datamodels_train_model_seconds",
    "Seconds to train one model and compute its outputs. Models that are trained together share the time equally.",
    buckets=[1e-3 * 4**i for i in range(12)],  # 1 ms to 70 minutes
)
SUBSET_WAIT = Counter("datamodels_train_subset_wait_seconds_total", "Seconds that training waited for subsets.")
DRAWN_HERE = Counter(
    "datamodels_train_drawn_here_total", "Sub-chunks whose subsets this process drew itself, as no sampler answered."
)
PUT_WAIT = Counter("datamodels_train_put_wait_seconds_total", "Seconds that training waited for a commit.")
SUB_CHUNKS = Counter("datamodels_train_sub_chunks_total", "Sub-chunks that this process committed.")
HALVED = Counter(
    "datamodels_train_out_of_memory_total", "How often memory ran out, so that fewer models are trained at once."
)
MEMORY = Gauge(
    "datamodels_train_device_memory_peak_bytes",
    "Most memory that PyTorch has held on the device so far; 0 without a device.",
)
HEARTBEAT = Gauge("datamodels_train_heartbeat_timestamp_seconds", "Unix time of the last progress.")
CHUNK = Gauge("datamodels_train_chunk", "Chunk in training; -1 before the first.")
CHUNK.set(-1)
UP = Gauge(
    "datamodels_train_up_seconds",
    "Seconds since this process began. The last values, summed over pods, are the time to pay for.",
)
UP.set_function(lambda: time.monotonic() - BEGAN)


class Heartbeat:
    """Records each step of progress as a metric, and as the modification time of a file.

    It has no thread of its own: a thread would go on beating if training hangs.

    path  of the file; empty for none

    Raises SettingsError if the file cannot be written.
    """

    def __init__(self, path: str = ""):
        self._path = Path(path) if path else None
        try:
            if self._path is not None:
                self._path.touch()
        except OSError as error:
            variable = f"{TrainerSettings.prefix}_HEARTBEAT_FILE"
            raise SettingsError(f"{variable}={path}: cannot be written: {error.strerror}") from error
        self.beat()

    def beat(self) -> None:
        HEARTBEAT.set_to_current_time()
        if self._path is not None:
            with contextlib.suppress(OSError):  # if the file was removed, nothing watches it any more
                os.utime(self._path)


class Watch(Observer):
    """Counts what the job does, and logs what people should know."""

    def __init__(self, heartbeat: Heartbeat):
        self._heartbeat = heartbeat
        self.training = 0.0
        self.waiting = 0.0
        self.models = 0
        self.coarsest = 0

    def summary(self) -> dict[str, float]:
        """Return the number of models trained, seconds per model, and the fraction of time that training waited."""
        known = self.training + self.waiting
        return {
            "models": self.models,
            "seconds_per_model": round(self.training / max(1, self.models), 6),
            "wait_share": round(self.waiting / known, 4) if known else 0.0,
            "coarse_targets": self.coarsest,
        }

    def fetched(self, seconds: float) -> None:
        SUBSET_WAIT.inc(seconds)
        self.waiting += seconds
        self._heartbeat.beat()

    def drawn_here(self, reason: str) -> None:
        DRAWN_HERE.inc()
        log.warning("no sampler answers: subsets are drawn here", reason=reason)

    def trained(self, models: int, seconds: float) -> None:
        MODELS.inc(models)
        for _ in range(models):
            MODEL_SECONDS.observe(seconds / models)
        MEMORY.set(device.peak_bytes())
        self.training += seconds
        self.models += models
        self._heartbeat.beat()

    def halved(self, tried: int, most: int) -> None:
        HALVED.inc()
        log.warning("out of memory: fewer models at once from now on", tried=tried, models_at_once=most)

    def raised(self, who: str, trace: str) -> None:
        log.warning("the trainer raised", models=who, traceback=trace)

    def retried(self, reasons: dict[int, str]) -> None:
        RETRIED.inc(len(reasons))
        model, why = next(iter(reasons.items()))
        log.warning("models are trained again with their second seed", count=len(reasons), first=model, why=why)

    def failed(self, reasons: dict[int, str]) -> None:
        FAILED.inc(len(reasons))
        log.warning("models failed", count=len(reasons), first=next(iter(reasons.values())))

    def coarse(self, targets: int, dtype: str) -> None:
        COARSE.set(targets)
        if targets and not self.coarsest:
            said = f"{dtype} rounds the outputs of some targets by a tenth of their spread or more; rescale the outputs"
            log.warning(said, targets=targets)
        self.coarsest = max(self.coarsest, targets)

    def waited(self, seconds: float) -> None:
        PUT_WAIT.inc(seconds)
        self.waiting += seconds
        self._heartbeat.beat()

    def committed(self, models: range) -> None:
        SUB_CHUNKS.inc()
        log.debug("sub-chunk committed", first=models.start, last=models.stop)
