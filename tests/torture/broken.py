"""Run an aggregator whose store breaks one promise: the null controls of the row `kills`.

python -m tests.torture.broken early|overwrites|in-place
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Sequence

from datamodels.services.aggregator.service import service

from datamodels.aggregate.committer import Committer
from datamodels.rpc.serve import Service, main
from datamodels.settings import AggregatorSettings, StoreSettings
from datamodels.storage.local import LocalStore

SECONDS = 0.2
"""How long a part lies between its acknowledgement and its write, or takes to be written in place."""


class Early(LocalStore):
    """Acknowledges parts before they are durable."""

    def create(self, key: str, data: bytes) -> bool:
        if ".parquet" not in key:
            return super().create(key, data)
        taken = self.exists(key)
        write = threading.Timer(SECONDS, super().create, (key, data))
        write.daemon = True
        write.start()
        return not taken


class Overwrites(LocalStore):
    """Ignores the condition of a conditional write."""

    def create(self, key: str, data: bytes) -> bool:
        if ".parquet" in key:
            time.sleep(SECONDS)  # as long as a store takes, so that writers meet
            self.delete(key)
        return super().create(key, data)


class InPlace(LocalStore):
    """Writes a part under its name, piece by piece."""

    def create(self, key: str, data: bytes) -> bool:
        if ".parquet" not in key:
            return super().create(key, data)
        path = self._path(key)
        if path.exists():
            return False
        self._make_folder(path.parent)
        with path.open("xb") as file:
            file.write(data[: len(data) // 2])
            file.flush()
            time.sleep(SECONDS)
            file.write(data[len(data) // 2 :])
        return True


STORES = {"early": Early, "overwrites": Overwrites, "in-place": InPlace}


def build(kind: str) -> Sequence[Service]:
    store = STORES[kind](StoreSettings.load().url.removeprefix("file://"))
    committer = Committer(store, AggregatorSettings.load())
    committer.start()
    return [service(committer)]


if __name__ == "__main__":
    sys.exit(main("aggregator", lambda: build(sys.argv[1])))
