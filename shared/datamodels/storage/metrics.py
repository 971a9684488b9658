"""Define the metrics of object stores."""

from __future__ import annotations

from prometheus_client import Counter

REREAD = Counter(
    "datamodels_store_reread_objects_total",
    "Objects that were read once more because they differed from what their writer recorded. If the second read "
    "differs as well, the object is damaged; if not, something on the way is.",
)
