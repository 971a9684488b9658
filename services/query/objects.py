"""Serve the objects of runs, so that whoever reaches the query service needs no access to the store."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator

from datamodels.errors import BusyError, InputError
from datamodels.query import pages
from datamodels.query.weights import WeightStore
from datamodels.storage import keys
from datamodels.storage.base import Entry, check_key
from datamodels.v1 import query_pb2

PIECE = 2**20
"""Bytes of an object in one message."""
READS = 4
"""Most objects that are read at the same time, because each is in memory until its caller has it."""


class ObjectCalls:
    """Serves ListObjects and ReadObject, which the servicer inherits."""

    def __init__(self, weights: WeightStore):
        self._weights = weights
        self._reads = threading.BoundedSemaphore(READS)

    def ListObjects(self, request, context):
        run, prefix = self._weights.run(request.run).name, request.prefix
        check_key(prefix.rstrip("/"))
        if not any(prefix.startswith(own) for own in keys.prefixes(run)):
            raise InputError(f"prefix {prefix[:200]!r}: is not of run {run}; its keys begin with, e.g., fit/{run}/")
        asked = {"run": run, "prefix": prefix, "after": request.after, "shallow": request.shallow}
        after = request.after
        if request.page_token:
            (after,) = pages.position(asked, request.page_token, str)
        size = pages.size(request.page_size)
        entries = self._weights.store.entries(prefix, after=after, deep=not request.shallow)
        found, _ = pages.fill(itertools.islice(entries, size), _encode)
        more = next(entries, None) is not None  # a page has room for MAX_SIZE keys, so it left none of its entries out
        token = pages.token(asked, found[-1].key) if more else ""
        return query_pb2.ListObjectsResponse(objects=found, next_page_token=token)

    def ReadObject(self, request, context) -> Iterator[query_pb2.ReadObjectResponse]:
        run, key = self._weights.run(request.run).name, check_key(request.key)
        if keys.owner(key) != run:
            raise InputError(f"key {key[:200]!r}: is not of run {run}")
        if not self._reads.acquire(blocking=False):
            raise BusyError(f"the query service sends {READS} objects already; try again")
        try:
            data = memoryview(self._weights.store.read(key))
            for first in range(0, max(1, len(data)), PIECE):
                yield query_pb2.ReadObjectResponse(data=bytes(data[first : first + PIECE]))
        finally:
            self._reads.release()


def _encode(entry: Entry) -> query_pb2.StoredObject:
    return query_pb2.StoredObject(key=entry.key, bytes=entry.bytes, modified=entry.modified)
