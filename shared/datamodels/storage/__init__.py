"""Object stores: a local folder, or any service that speaks S3."""

from __future__ import annotations

import sys

from datamodels.errors import SettingsError
from datamodels.settings import StoreSettings
from datamodels.storage.base import ObjectStore

__all__ = ["ObjectStore", "open_store"]


def open_store(settings: StoreSettings, *, create: bool = True, waiters: int | None = None) -> ObjectStore:
    """Open the store at `settings.url`.

    create   create the folder of a local store if it does not exist
    waiters  how many requests to S3 may wait for credentials that are being replaced; None for any number

    Raises SettingsError if the URL is not valid, NotFoundError if a folder does not exist and may not be created.
    """
    from datamodels.storage import metrics  # noqa: F401 - so that they are served from the start, as zeros

    scheme, separator, rest = settings.url.partition("://")
    if separator and rest and scheme == "file":
        from datamodels.storage.local import LocalStore

        return _traced(LocalStore(rest, create=create))
    if separator and rest and scheme == "s3":
        from datamodels.storage.s3 import S3Store

        return _traced(S3Store(settings, waiters=waiters))
    raise SettingsError(
        f"store {settings.url!r}: must be file://FOLDER or s3://BUCKET/PREFIX; --store or DATAMODELS_STORE_URL gives it"
    )


def _traced(store: ObjectStore) -> ObjectStore:
    """Let the store open a span for each operation, if spans are sent."""
    tracing = sys.modules.get("datamodels.telemetry.tracing")  # commands that log nothing need not wait for its import
    if tracing is not None and tracing.enabled():
        for name in ("create", "read", "reread", "exists", "delete"):
            setattr(store, name, tracing.traced(f"store {name}", getattr(store, name)))
    return store
