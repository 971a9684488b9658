"""Read a run through the query service as if from its store."""

from __future__ import annotations

from collections.abc import Iterator

from datamodels.errors import DeniedError
from datamodels.rpc.clients.query import QueryClient
from datamodels.storage.base import Entry, ObjectStore


class RunStore(ObjectStore):
    """The objects of one run, read through the query service.

    What is created here stays in the memory of this process: the service only reads. So analyses that keep what they
    have computed work, and compute it again in the next process.

    where  the service, for messages
    """

    def __init__(self, client: QueryClient, run: str, where: str):
        self.url = where
        self._client = client
        self._run = run
        self._own: dict[str, bytes] = {}

    def create(self, key: str, data: bytes) -> bool:
        if self.exists(key):
            return False
        self._own[key] = data
        return True

    def read(self, key: str) -> bytes:
        return self._own[key] if key in self._own else self._client.object(self._run, key)

    def exists(self, key: str) -> bool:
        return any(entry.key == key for entry in self.entries(key, deep=False))

    def entries(self, prefix: str, *, after: str = "", deep: bool = True) -> Iterator[Entry]:
        own = {key: Entry(key, len(data), 0.0) for key, data in self._own.items() if key.startswith(prefix)}
        found = {
            entry.key: Entry(entry.key, entry.bytes, entry.modified)
            for entry in self._client.objects(self._run, prefix, after=after, shallow=not deep)
        }
        for key in sorted(own | found):
            if key > after and (deep or "/" not in key.removeprefix(prefix)):
                yield (own | found)[key]

    def delete(self, key: str) -> None:
        if self._own.pop(key, None) is None and self.exists(key):
            raise DeniedError(f"{self.url}/{key}: cannot be deleted, because the query service only reads")
