"""Define the metrics of the fit stage."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from datamodels.fit.data import problem
from datamodels.telemetry.metrics import start_at_zero

FITS = Counter(
    "datamodels_fit_fits_total", "Fits that ended in this process, by result: done, failed or stopped.", ("result",)
)
start_at_zero(FITS, "done", "failed", "stopped")
RUNNING = Gauge("datamodels_fit_running", "Fits that are running in this process: 0 or 1.")
SECONDS = Histogram(
    "datamodels_fit_seconds",
    "Seconds of a finished fit, from its start in this process to its commit.",
    buckets=(1, 3, 10, 30, 100, 300, 1000, 3000, 10_000, 30_000),
)
EPOCHS = Counter(
    "datamodels_fit_epochs_total", "Passes over the rows, or steps of the solver gram, summed over blocks of targets."
)
ROWS = Gauge("datamodels_fit_rows", "Models in the latest fit.")
TARGETS = Gauge("datamodels_fit_targets", "Targets in the latest fit.")
TARGETS_DONE = Gauge("datamodels_fit_targets_done", "Finished targets of the latest fit.")
LAMBDA_INDEX = Gauge(
    "datamodels_fit_lambda_index", "Mean position on the path of lambdas, over the targets that are on it."
)
REMAINING = Gauge(
    "datamodels_fit_remaining_seconds", "Seconds that the latest fit will still take at its recent pace; 0 if unknown."
)
GAP = Gauge("datamodels_fit_gap", "Largest relative duality gap of the finished targets of the latest fit.")
STATUSES = Counter("datamodels_fit_solved_targets_total", "Targets of finished fits, by status.", ("status",))
start_at_zero(STATUSES, *problem.STATUSES)
