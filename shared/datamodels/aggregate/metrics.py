"""Metrics of the aggregate stage."""

from __future__ import annotations

from prometheus_client import Counter, Histogram

from datamodels.telemetry.metrics import start_at_zero

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

MODELS = Counter(
    "datamodels_aggregate_models_total",
    "Models that this process committed, by how they ended: with outputs (trained) or with a reason (failed).",
    ("result",),
)
start_at_zero(MODELS, "trained", "failed")
PARTS = Counter(
    "datamodels_aggregate_parts_total",
    "Sub-chunks received, by what became of them: committed, or dropped because they had been committed before.",
    ("result",),
)
start_at_zero(PARTS, "committed", "dropped")
PART_BYTES = Counter("datamodels_aggregate_part_bytes_total", "Bytes of the parts that this process committed.")
PUT_SECONDS = Histogram(
    "datamodels_aggregate_put_seconds", "From a whole sub-chunk to its durable part.", buckets=_SECONDS
)
MANIFESTS = Counter("datamodels_aggregate_manifests_total", "Manifest versions that this process wrote.")
PUBLISH_SECONDS = Histogram("datamodels_aggregate_publish_seconds", "Writing one manifest version.", buckets=_SECONDS)
PUBLISH_FAILURES = Counter(
    "datamodels_aggregate_publish_failures_total", "Manifest versions that could not be written and are tried again."
)
RECOVERED = Counter(
    "datamodels_aggregate_recovered_parts_total", "Committed parts that no manifest listed, found by listing the store."
)
