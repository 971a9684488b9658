"""`python -m datamodels.services.query` serves until SIGTERM."""

import sys

from datamodels import machine
from datamodels.query.weights import WeightStore
from datamodels.rpc.serve import Service, main
from datamodels.settings import QuerySettings, ServeSettings, StoreSettings
from datamodels.storage import open_store

from .service import service


def build() -> list[Service]:
    settings = QuerySettings.load()
    store = open_store(StoreSettings.load(), waiters=ServeSettings.load().workers // 2)
    weights = WeightStore(store, refresh=settings.refresh, capacity=settings.capacity, keep_bytes=settings.keep_bytes)
    return [service(weights, warm=settings.warm)]


if __name__ == "__main__":
    machine.keep_freed_memory()
    sys.exit(main("query", build))
