"""`python -m datamodels.services.aggregator` checks its store and serves until SIGTERM."""

import sys

from datamodels.aggregate.committer import Committer
from datamodels.rpc.serve import Service, main
from datamodels.settings import AggregatorSettings, ServeSettings, StoreSettings
from datamodels.storage import open_store
from datamodels.storage.preflight import preflight

from .service import service


def build() -> list[Service]:
    settings = AggregatorSettings.load()
    half = ServeSettings.load().workers // 2
    store = open_store(StoreSettings.load(), waiters=half)
    preflight(store, settings.preflight_writers)
    committer = Committer(store, settings)
    committer.start()
    return [service(committer, watches=max(1, half))]


if __name__ == "__main__":
    sys.exit(main("aggregator", build))
