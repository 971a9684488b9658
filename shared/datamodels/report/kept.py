"""Keep reports in the store, so that whoever reaches the query service can have them without the data set."""

from __future__ import annotations

from datamodels.analyze.findings import Findings
from datamodels.report import page
from datamodels.storage import ObjectStore, keys, records


def keep(store: ObjectStore, found: Findings) -> str:
    """Store the report of the newest fit unless it is stored already. Returns its key; empty without a fit."""
    if found.fitted is None:
        return ""
    key = keys.report(found.run.name, found.fitted.record.number)
    if not store.exists(key):
        records.create(store, key, {"html": page.html(found)})
    return key


def kept(store: ObjectStore, run: str, fit: int) -> str | None:
    """Return the report of a fit, as HTML; None if none is stored."""
    return records.find(store, keys.report(run, fit), "a report", lambda document: str(document["html"]))
