"""Whether a store keeps the one guarantee that commits rest on. Asked once, before anything is written to it."""

from __future__ import annotations

import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

from datamodels.errors import DatamodelsError, ObjectNotFoundError, SettingsError, StoreUnsafeError
from datamodels.settings import AggregatorSettings
from datamodels.storage import keys
from datamodels.storage.base import ObjectStore
from datamodels.telemetry import logger

log = logger(__name__)


def preflight(store: ObjectStore, writers: int = AggregatorSettings.preflight_writers) -> None:
    """Races `writers` conditional writes of one key, and has one more come late.

    Raises StoreUnsafeError, naming the store and the reason, unless exactly one was told that it won and its bytes
    are what is read back; SettingsError for a wrong number of writers; other StoreErrors where the store cannot be
    used at all.
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
        _judge(store, key, payloads, won)
    finally:
        _clean(store, key)


def _clean(store: ObjectStore, key: str) -> None:
    try:
        store.delete(key)
    except DatamodelsError as error:
        # Nothing else here deletes, so a writer's credentials need not allow it.
        log.warning("preflight object left behind", key=key, reason=str(error))


def _judge(store: ObjectStore, key: str, payloads: list[bytes], won: list[bool]) -> None:
    if sum(won) != 1:
        why = "ignores If-None-Match" if sum(won) else "refuses every conditional write"
        raise _unsafe(store, f"{sum(won)} of {len(won)} writers were told they won: the store {why}")
    try:
        found = store.read(key)
    except ObjectNotFoundError as error:
        raise _unsafe(store, "an object that was just written is not there") from error
    if found != payloads[won.index(True)]:
        raise _unsafe(store, f"a losing writer's bytes were read back ({found[:40]!r})")
    if store.create(key, b"late"):
        raise _unsafe(store, "a late writer was told it won: the store ignores If-None-Match")


def _unsafe(store: ObjectStore, reason: str) -> StoreUnsafeError:
    return StoreUnsafeError(
        f"{store.url}: {reason}; commits would overwrite each other, so it is refused: use a store with conditional "
        "writes, such as AWS S3, Ceph, MinIO or a local folder"
    )
