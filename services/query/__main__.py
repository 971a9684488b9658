"""python -m services.query"""

import sys

from datamodels.query import WeightStore
from datamodels.rpc.serve import Service, main
from datamodels.settings import QuerySettings, StoreSettings
from datamodels.storage import open_store
from datamodels.v1 import query_pb2, query_pb2_grpc
from services.query.service import QueryService


def build() -> list[Service]:
    settings = QuerySettings.load()
    weights = WeightStore(open_store(StoreSettings.load()), refresh=settings.refresh, capacity=settings.capacity)
    return [
        Service(
            query_pb2.DESCRIPTOR.services_by_name["QueryService"],
            query_pb2_grpc.add_QueryServiceServicer_to_server,
            QueryService(weights),
        )
    ]


if __name__ == "__main__":
    sys.exit(main("query", build))
