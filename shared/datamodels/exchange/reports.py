"""Keep reports in the store, so that whoever reaches the query service can have them without the data set."""

from __future__ import annotations

from datamodels.storage import ObjectStore, keys, records


def keep(store: ObjectStore, run: str, fit: int, html: str) -> bool:
    """Store the report of a fit. Returns False if one is stored already, which stays."""
    return records.create(store, keys.report(run, fit), {"html": html})


def kept(store: ObjectStore, run: str, fit: int) -> str | None:
    """Return the report of a fit, as HTML; None if none is stored. Raises CorruptObjectError."""
    return records.find(store, keys.report(run, fit), "a report", lambda document: str(document["html"]))
