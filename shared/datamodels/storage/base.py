"""What the road asks of an object store. Objects are written once and never changed."""

from __future__ import annotations

import abc
import hashlib
import re
from collections.abc import Iterator

from datamodels.errors import CorruptObjectError, InputError

_KEY = re.compile(r"(?=.{1,1000}\Z)[A-Za-z0-9_-][\w.-]{0,200}(/[A-Za-z0-9_-][\w.-]{0,200})*", re.ASCII)


def check_key(key: str) -> str:
    """The key itself. Raises InputError for one that some backend could not hold, or that leaves the store."""
    if not _KEY.fullmatch(key):
        raise InputError(
            f"object key {key[:200]!r}: must be parts of letters, digits, '.', '_' and '-' joined by '/', no part "
            "empty, hidden or over 200 characters"
        )
    return key


class ObjectStore(abc.ABC):
    """Objects of bytes under string keys.

    A backend gives one guarantee that the whole commit protocol rests on: of any number of concurrent `create` calls
    with one key, exactly one returns True, and only once its bytes are durable and are what every later `get` returns.
    """

    url: str
    """Where the store is, for messages."""

    @abc.abstractmethod
    def create(self, key: str, data: bytes) -> bool:
        """Writes an object unless the key is taken.

        Returns True where the object is now `data` by this call (also where the store's first answer was lost and
        the write was repeated), False where another writer was first.

        Raises StoreFullError, StoreUnavailableError; after those the object is either absent or whole.
        """

    @abc.abstractmethod
    def read(self, key: str) -> bytes:
        """The bytes of an object, unchecked. Raises ObjectNotFoundError, StoreUnavailableError."""

    @abc.abstractmethod
    def exists(self, key: str) -> bool: ...

    @abc.abstractmethod
    def list(self, prefix: str) -> Iterator[str]:
        """Keys that start with prefix, ascending. For recovery and housekeeping; readers follow manifests."""

    @abc.abstractmethod
    def delete(self, key: str) -> None:
        """Removes an object; does nothing where there is none."""

    def get(self, key: str, *, sha256: str) -> bytes:
        """The bytes of an object, checked. Raises CorruptObjectError where they are not what was written."""
        data = self.read(key)
        found = hashlib.sha256(data).hexdigest()
        if found != sha256:
            raise CorruptObjectError(
                f"{self.url}/{key}: sha256 is {found}, its writer recorded {sha256}; restore it from a copy"
            )
        return data

    def newest(self, key_of, known: int = -1) -> int:
        """The largest number v with `key_of(v)` present, for keys numbered densely from 0; -1 where there is none.

        Never lists: gallops up from `known` (a number that is known to be there), then bisects.
        """
        low, step = known, 1
        while self.exists(key_of(low + step)):
            low, step = low + step, step * 2
        high = low + step
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.exists(key_of(middle)) else (low, middle)
        return low
