"""Metrics of a driver. A driver is of one run, so its pod's label says which."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

from datamodels.telemetry.metrics import start_at_zero

DONE = Gauge("datamodels_run_done", "How far a stage is: models, targets, as it counts them.", ("stage",))
EXPECTED = Gauge("datamodels_run_expected", "How far a stage will be when it is done.", ("stage",))
LDS = Gauge("datamodels_run_lds", "LDS of the newest fit, with the ends of its 95% interval.", ("end",))
LDS_MODELS = Gauge("datamodels_run_lds_models", "Models that the fit is of.")
ENDS = Counter(
    "datamodels_run_ends_total",
    "How this driver ended: done, failed for good, or to be tried again because something outside failed.",
    ("result",),
)
start_at_zero(ENDS, "done", "failed", "tried_again")
READY = Gauge("datamodels_run_trainers_ready", "Trainer pods that are at work, as the cluster says.")
FAILED = Gauge("datamodels_run_trainers_failed", "Trainer pods that failed so far; the cluster starts others for them.")
HELD_UP = Gauge("datamodels_run_trainers_held_up", "Reasons why trainer pods do not start; a queue's turn is none.")
