"""Check that a store keeps the guarantee that commits rely on. The aggregator does so before its first write."""

from __future__ import annotations

import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

from datamodels.errors import (
    CorruptObjectError,
    DatamodelsError,
    ObjectNotFoundError,
    SettingsError,
    StoreUnsafeError,
)
from datamodels.settings import AggregatorSettings
from datamodels.storage import keys
from datamodels.storage.base import ObjectStore
from datamodels.telemetry import logger

log = logger(__name__)


def preflight(store: ObjectStore, writers: int = AggregatorSettings.preflight_writers) -> None:
    """Race `writers` conditional writes of one key, then try one more write of it.

    Exactly one of the racing writers must win, its bytes must be read back, and the later write must lose. Otherwise
    raises StoreUnsafeError, which names the store and the reason. Raises SettingsError for a wrong number of writers,
    and other StoreErrors if the store cannot be used at all.
    """
    if not 2 <= writers <= 1000:
        raise SettingsError(f"{AggregatorSettings.prefix}_PREFLIGHT_WRITERS={writers}: must be 2 to 1000")
    key = keys.preflight(uuid.uuid4().hex)
    payloads = [f"writer {writer} of {writers}".encode() for writer in range(writers)]
    together = threading.Barrier(writers)

    def write(payload: bytes) -> bool:
        together.wait()
        return store.create(key, payload)

    with ThreadPoolExecutor(writers) as pool:
        won = list(pool.map(write, payloads))
    try:
        _check(store, key, payloads, won)
    finally:
        _clean(store, key)


def _clean(store: ObjectStore, key: str) -> None:
    try:
        store.delete(key)
    except DatamodelsError as error:
        # Not an error: services work without the right to delete. `vacuum`, `prune` and `delete` need it.
        log.warning("preflight object left behind", key=key, reason=str(error))


def _check(store: ObjectStore, key: str, payloads: list[bytes], won: list[bool]) -> None:
    if sum(won) != 1:
        why = "ignores If-None-Match" if sum(won) else "refuses every conditional write"
        raise _unsafe(store, f"{sum(won)} of {len(won)} writers were told that they won: the store {why}")

    def check(found: bytes) -> None:
        if found != payloads[won.index(True)]:
            raise CorruptObjectError(f"a losing writer's bytes were read back ({found[:40]!r})")

    try:
        store.checked(key, check)
    except ObjectNotFoundError as error:
        raise _unsafe(store, "an object that was just written does not exist") from error
    except CorruptObjectError as error:
        raise _unsafe(store, str(error)) from error
    if store.create(key, b"late"):
        raise _unsafe(store, "a late writer was told that it won: the store ignores If-None-Match")


def _unsafe(store: ObjectStore, reason: str) -> StoreUnsafeError:
    return StoreUnsafeError(
        f"{store.url}: {reason}; commits would overwrite each other, so the store is refused: use a store with "
        "conditional writes, such as AWS S3, Ceph, MinIO or a local folder"
    )
