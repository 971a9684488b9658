"""A correct object store in memory, fast enough for thousands of crashes."""

import threading
import time

from datamodels.errors import CorruptObjectError, ObjectNotFoundError
from datamodels.storage.base import Entry, ObjectStore


def flipped(data: bytes, place: int) -> bytes:
    """Return the bytes with one bit of the byte at this place, counted round and round, inverted."""
    place %= len(data)
    return data[:place] + bytes([data[place] ^ 1 << place % 8]) + data[place + 1 :]


class MemoryStore(ObjectStore):
    """Stores objects in a dict. Tests of faults derive stores from it that break one guarantee each."""

    url = "memory://"

    def __init__(self):
        self.objects: dict[str, bytes] = {}
        self.modified: dict[str, float] = {}
        self.lock = threading.Lock()

    def create(self, key, data):
        with self.lock:
            if key in self.objects:
                return False
            self.objects[key] = data
            self.modified[key] = time.time()
            return True

    def read(self, key):
        try:
            return self.objects[key]
        except KeyError:
            raise ObjectNotFoundError(f"{self.url}/{key}: the object does not exist") from None

    def exists(self, key):
        return key in self.objects

    def entries(self, prefix, *, after="", deep=True):
        found = sorted(key for key in list(self.objects) if key.startswith(prefix) and key > after)
        kept = [key for key in found if deep or "/" not in key.removeprefix(prefix)]
        return iter([Entry(key, len(self.objects.get(key, b"")), self.modified.get(key, 0.0)) for key in kept])

    def delete(self, key):
        self.objects.pop(key, None)


class DoubtfulStore(MemoryStore):
    """Damages the first read of each key: it finds that itself, as connections with checksums do, or flips a bit."""

    def __init__(self, *, notices: bool):
        super().__init__()
        self.notices = notices
        self.seen: set[str] = set()

    def read(self, key):
        data = super().read(key)
        if key in self.seen:
            return data
        self.seen.add(key)
        if self.notices:
            raise CorruptObjectError(f"{self.url}/{key}: arrived damaged")
        return flipped(data, len(data) // 2)


class FlippingStore(MemoryStore):
    """Flips a bit of what the next reads return. `faults` lists the byte of each, or None for a good read."""

    def __init__(self):
        super().__init__()
        self.faults: list[int | None] = []
        self.reads = 0

    def read(self, key):
        data = super().read(key)
        self.reads += 1
        place = self.faults.pop(0) if self.faults else None
        return data if place is None else flipped(data, place)
