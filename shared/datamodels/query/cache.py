"""Keep the most recently used values, up to a number of bytes."""

from __future__ import annotations

import collections
import dataclasses
import sys
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

import numpy as np

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Cache(Generic[K, V]):
    """Drops the least recently used values beyond `capacity` values or `keep_bytes` bytes, but never the newest.

    Not safe to use from several threads.
    """

    def __init__(self, keep_bytes: int, capacity: int = sys.maxsize):
        self._keep_bytes = keep_bytes
        self._capacity = capacity
        self._kept: collections.OrderedDict[K, tuple[V, int]] = collections.OrderedDict()
        self.bytes = 0
        """Size of all values."""

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: K) -> V | None:
        """Return a value, which becomes the most recently used one, or None."""
        found = self._kept.get(key)
        if found is None:
            return None
        self._kept.move_to_end(key)
        return found[0]

    def put(self, key: K, value: V, size: int | None = None) -> None:
        """Add a value of `size` bytes, or replace one; without a size, by one of the same size."""
        _, before = self._kept.pop(key, (None, 0))
        size = before if size is None else size
        self._kept[key] = value, size
        self.bytes += size - before
        while len(self._kept) > max(1, self._capacity) or (self.bytes > self._keep_bytes and len(self._kept) > 1):
            _, (_, dropped) = self._kept.popitem(last=False)
            self.bytes -= dropped

    def drop(self, chosen: Callable[[K], bool]) -> None:
        """Drop the values whose keys are chosen."""
        for key in [key for key in self._kept if chosen(key)]:
            self.bytes -= self._kept.pop(key)[1]


def size_of(value: Any) -> int:
    """Return the bytes of a value: of arrays and texts in it exactly, of all else roughly."""
    match value:
        case np.ndarray():
            return value.nbytes
        case list() | tuple():
            # What repeats, such as the status of a target, is one object.
            distinct = {id(item): item for item in value}
            return 8 * len(value) + sum(map(size_of, distinct.values()))
        case dict():
            return sum(size_of(key) + size_of(item) for key, item in value.items())
        case _ if dataclasses.is_dataclass(value):
            return sum(size_of(getattr(value, field.name)) for field in dataclasses.fields(value))
    return sys.getsizeof(value)
