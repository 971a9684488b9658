"""Define the metrics of a driver. They have no label for the run: a driver has one run, which its pod's label names."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

from datamodels.telemetry.metrics import start_at_zero

DONE = Gauge("datamodels_run_done", "Progress of a stage, in the units that it counts: models or targets.", ("stage",))
EXPECTED = Gauge("datamodels_run_expected", "Progress of a stage when it will be done, in the same units.", ("stage",))
LDS = Gauge("datamodels_run_lds", "LDS of the newest fit, and the two ends of its 95% interval.", ("end",))
LDS_MODELS = Gauge("datamodels_run_lds_models", "Models in the newest fit that has an LDS.")
ENDS = Counter(
    "datamodels_run_ends_total",
    "Ends of this driver, by result: done, failed, or tried_again because something outside of it failed.",
    ("result",),
)
start_at_zero(ENDS, "done", "failed", "tried_again")
READY = Gauge("datamodels_run_trainers_ready", "Trainer pods that are ready, according to the cluster.")
FAILED = Gauge(
    "datamodels_run_trainers_failed", "Trainer pods that have failed so far. The cluster starts others in their place."
)
HELD_UP = Gauge(
    "datamodels_run_trainers_held_up", "Reasons why trainer pods do not start. Waiting in a queue does not count."
)
