"""Define the metrics of the aggregate stage."""

from __future__ import annotations

from prometheus_client import Counter, Histogram

from datamodels.telemetry.metrics import start_at_zero

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

MODELS = Counter(
    "datamodels_aggregate_models_total",
    "Models that this process committed, by result: trained (with outputs) or failed (with a reason).",
    ("result",),
)
start_at_zero(MODELS, "trained", "failed")
PARTS = Counter(
    "datamodels_aggregate_parts_total",
    "Sub-chunks that this process received, by result: committed, or dropped because they were committed before.",
    ("result",),
)
start_at_zero(PARTS, "committed", "dropped")
REFUSED = Counter(
    "datamodels_aggregate_refused_parts_total",
    "Sub-chunks that were refused because there was no memory for them. Trainers wait and send them again.",
)
PART_BYTES = Counter("datamodels_aggregate_part_bytes_total", "Bytes of the parts that this process committed.")
PUT_SECONDS = Histogram(
    "datamodels_aggregate_put_seconds",
    "Seconds from the receipt of a whole sub-chunk to its durable part.",
    buckets=_SECONDS,
)
MANIFESTS = Counter("datamodels_aggregate_manifests_total", "Manifest versions that this process wrote.")
PUBLISH_SECONDS = Histogram(
    "datamodels_aggregate_publish_seconds", "Seconds to write one manifest version.", buckets=_SECONDS
)
PUBLISH_FAILURES = Counter(
    "datamodels_aggregate_publish_failures_total", "Manifest versions that could not be written. They are tried again."
)
RECOVERED = Counter(
    "datamodels_aggregate_recovered_parts_total",
    "Committed parts that no manifest listed and that were found by listing the store.",
)
