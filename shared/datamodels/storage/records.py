"""Write and read small JSON objects that contain their own checksum: manifests, run records, finished fits."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any, TypeVar

from datamodels.errors import CorruptObjectError, ObjectNotFoundError
from datamodels.storage.base import ObjectStore
from datamodels.storage.decode import decoding

T = TypeVar("T")


def canonical(body: Any) -> bytes:
    """Return the canonical JSON text of a value: sorted keys, no spaces, only finite numbers."""
    return json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def plain(body: Any) -> Any:
    """Return a value as it is after a round trip through JSON: for example, tuples become lists."""
    return json.loads(canonical(body))


def digest(body: Any) -> str:
    """Return the sha256 of the canonical JSON, as 64 hexadecimal digits."""
    return hashlib.sha256(canonical(body)).hexdigest()


def encode(body: Any) -> bytes:
    """Return the bytes of the record of a body."""
    return canonical({"body": body, "sha256": digest(body)})


def decode(data: bytes, where: str) -> Any:
    """Return the body of a record. Raises CorruptObjectError, which names `where`, if the record was altered."""
    try:
        record = json.loads(data)
        body, expected = record["body"], record["sha256"]
        found = digest(body)
    except (ValueError, TypeError, KeyError, RecursionError):
        raise CorruptObjectError(f"{where}: is not a record; restore it from a copy") from None
    if found != expected:
        raise CorruptObjectError(f"{where}: sha256 is {found}, its writer recorded {expected}; restore it from a copy")
    return body


def create(store: ObjectStore, key: str, body: Any) -> bool:
    """Write a record unless the key is taken. Returns and raises as `ObjectStore.create` does."""
    return store.create(key, encode(body))


def read(store: ObjectStore, key: str) -> Any:
    """Return the body of a record. Raises ObjectNotFoundError, or CorruptObjectError if the record was altered."""
    return store.checked(key, lambda data: decode(data, f"{store.url}/{key}"))


def find(store: ObjectStore, key: str, what: str, build: Callable[[Any], T]) -> T | None:
    """Return what `build` makes of a record, which is `what`; None if there is none. Raises CorruptObjectError."""
    try:
        body = read(store, key)
    except ObjectNotFoundError:
        return None
    with decoding(f"{store.url}/{key}", what):
        return build(body)
