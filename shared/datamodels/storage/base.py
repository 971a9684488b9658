"""Define the interface of object stores. Objects are written once and never changed."""

from __future__ import annotations

import abc
import dataclasses
import hashlib
import re
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from datamodels.errors import CorruptObjectError, DatamodelsError, InputError, StoreUnavailableError
from datamodels.storage import keys
from datamodels.storage.keys import Numbered

Decoded = TypeVar("Decoded")

AGREEMENT_READS = 4
"""Most reads of an object until two of them agree."""

_KEY = re.compile(r"(?=.{1,1000}\Z)[A-Za-z0-9_-][\w.-]{0,200}(/[A-Za-z0-9_-][\w.-]{0,200})*", re.ASCII)


def check_key(key: str) -> str:
    """Return the key. Raises InputError if a backend could not hold it, or if it points outside of the store."""
    if not _KEY.fullmatch(key):
        raise InputError(
            f"object key {key[:200]!r}: must be parts of letters, digits, '.', '_' and '-' joined by '/', no part "
            "empty, hidden or over 200 characters"
        )
    return key


@dataclasses.dataclass(frozen=True)
class Entry:
    """An object as a listing describes it.

    bytes     its size
    modified  when it was written, in seconds since 1970 by the clock of the store
    """

    key: str
    bytes: int
    modified: float


def _log() -> Any:
    """Return the logger. Importing it takes a tenth of a second, which commands that log nothing need not wait for."""
    from datamodels.telemetry import logger

    return logger(__name__)


class ObjectStore(abc.ABC):
    """Stores objects, which are bytes, under string keys.

    The commit protocol relies on one guarantee of every backend: of any number of concurrent `create` calls with the
    same key, exactly one returns True. It returns only after its bytes are durable, and every later `get` returns
    these bytes.
    """

    url: str
    """Location of the store, for messages."""

    @abc.abstractmethod
    def create(self, key: str, data: bytes) -> bool:
        """Write an object unless the key is taken.

        Returns True if this call wrote the object, and False if another writer was first. A write that was repeated
        because the store's first answer was lost also returns True.

        Raises StoreFullError, StoreUnavailableError; after these the object is either absent or complete.
        """

    @abc.abstractmethod
    def read(self, key: str) -> bytes:
        """Return the bytes of an object, unchecked. Raises ObjectNotFoundError, StoreUnavailableError."""

    def reread(self, key: str) -> bytes:
        """Return what `read` does, but on a new connection and past caches, which may be what alters the bytes."""
        return self.read(key)

    @abc.abstractmethod
    def exists(self, key: str) -> bool:
        """Return whether the key has an object. Raises StoreUnavailableError."""

    @abc.abstractmethod
    def entries(self, prefix: str, *, after: str = "", deep: bool = True) -> Iterator[Entry]:
        """Yield the objects whose keys start with prefix, by ascending key. Raises StoreUnavailableError.

        after  leave out keys up to and including this one
        deep   also yield keys with a slash after the prefix
        """

    @abc.abstractmethod
    def delete(self, key: str) -> None:
        """Remove an object if it exists."""

    def is_same(self, other: ObjectStore) -> bool:
        """Return whether another store has its objects at the same place."""
        return self.url == other.url

    def ping(self) -> None:
        """Send the store a small request. Raises StoreUnavailableError if it does not answer, and accepts a refusal."""
        try:
            self.exists(keys.PING)
        except StoreUnavailableError:
            raise
        except DatamodelsError as error:
            _log().debug("the store refuses a ping", reason=str(error))

    def get(self, key: str, *, sha256: str) -> bytes:
        """Return the bytes of an object. Raises CorruptObjectError if they do not match the sha256."""

        def check(data: bytes) -> bytes:
            found = hashlib.sha256(data).hexdigest()
            if found != sha256:
                raise CorruptObjectError(
                    f"{self.url}/{key}: sha256 is {found}, its writer recorded {sha256}; restore it from a copy"
                )
            return data

        return self.checked(key, check)

    def checked(self, key: str, decode: Callable[[bytes], Decoded]) -> Decoded:
        """Return `decode(data)` of an object. If that raises CorruptObjectError, `reread` gives it a second chance.

        One bad read is no damage: most bits flip on the way, in memory or in a network card. Raises what `read` and
        `decode` raise.
        """
        try:
            return decode(self.read(key))
        except CorruptObjectError as error:
            from datamodels.storage import metrics  # needs prometheus_client, which clients do not have

            metrics.REREAD.inc()
            _log().warning("object differs from what was written; reading it once more", key=key, reason=str(error))
        return decode(self.reread(key))

    def read_twice(self, key: str) -> bytes:
        """Return the bytes of an object that no record has a checksum of yet: those in which two reads agree.

        So the checksum that the caller records is that of the object, and not of one bad read. Raises
        CorruptObjectError if no two successive reads agree, and what `read` raises.
        """
        before = b""
        for read in (self.read, *[self.reread] * (AGREEMENT_READS - 1)):
            try:
                data = read(key)
            except CorruptObjectError as error:  # the connection's own checksum failed
                _log().warning("an object arrived damaged; reading it once more", key=key, reason=str(error))
                continue
            found = hashlib.sha256(data).digest()  # and not the bytes, so that no two copies are in memory
            if found == before:
                return data
            before = found
            del data
        raise CorruptObjectError(
            f"{self.url}/{key}: {AGREEMENT_READS} reads of it differ; check the network and the memory of this machine"
        )

    def list(self, prefix: str, *, after: str = "", deep: bool = True) -> Iterator[str]:
        """Yield the keys of `entries`.

        Only recovery and housekeeping list a store; readers follow manifests.
        """
        return (entry.key for entry in self.entries(prefix, after=after, deep=deep))

    def newest(self, keys: Numbered, known: int = -1) -> int:
        """Return the largest number whose key exists, or -1 if there is none.

        `known` is a number whose key has existed, or -1. The search doubles its steps upwards from `known`, then
        bisects. The smallest numbers may be gone, because `datamodels prune` or a rule of the bucket removed them. So
        the search lists the numbers above the one it found, unless it found `known` itself.
        """
        found = self._gallop(keys, known)
        if found == known >= 0 and self.exists(keys(known)):
            return found
        while (later := next(self.numbers(keys, found), None)) is not None:
            found = self._gallop(keys, later)
        return -1 if found == known else found  # `known` itself is gone, and so is everything after it

    def _gallop(self, keys: Numbered, known: int) -> int:
        """Return the largest number that is reached from `known` without a gap."""
        low, step = known, 1
        while self.exists(keys(low + step)):
            low, step = low + step, step * 2
        high = low + step
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.exists(keys(middle)) else (low, middle)
        return low

    def numbers(self, keys: Numbered, known: int = -1) -> Iterator[int]:
        """Yield the numbers above `known` whose keys exist, ascending. Lists the store."""
        after = keys(known) if known >= 0 else ""
        found = (keys.number(key) for key in self.list(keys.prefix, after=after, deep=False))
        return (number for number in found if number is not None)
