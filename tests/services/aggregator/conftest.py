"""A small run, and an aggregator that serves it."""

import numpy as np
import pytest
from datamodels.services.aggregator.service import service

from datamodels.aggregate.committer import Committer
from datamodels.rpc import codec
from datamodels.rpc.client import connect
from datamodels.rpc.clients.aggregator import AggregatorClient
from datamodels.rpc.serve import Server
from datamodels.run import runs, specs
from datamodels.run.dataset import Dataset
from datamodels.settings import AggregatorSettings, ClientSettings, ServeSettings
from datamodels.storage.local import LocalStore
from datamodels.v1 import aggregator_pb2, aggregator_pb2_grpc

TARGETS = 6


class Kit:
    """Makes requests and outputs for tests. Methods without a parameter `run` use the fixture `run`."""

    @staticmethod
    def make_run(name="small", targets=TARGETS, examples=12, m=20, labels=True, **fields):
        document = {
            "name": name,
            "dataset": {"load": "nothing:load"},
            "trainer": {"class": "nothing:Trainer"},
            "m": m,
            "chunk": 8,
            "sub_chunk": 4,
            "evaluate": {"subsets": 0},
        }
        y = np.arange(examples) % 3 if labels else np.zeros(examples)
        data = Dataset(np.zeros((examples, 1)), y, np.zeros((targets, 1)), np.resize(y, targets))
        return runs.resolve(specs.parse(document | fields), data)

    def __init__(self):
        self.run = self.make_run()

    @staticmethod
    def sub_chunks(run):
        return [models for c in range(run.spec.chunks) for models in run.spec.sub_chunks(run.spec.chunk_range(c))]

    @staticmethod
    def values(models, writer=0):
        """Return outputs that only this writer would send."""
        return (np.array(models)[:, None] + np.arange(TARGETS) / 8 + 64.0 * writer).astype(np.float32)

    def header(self, models):
        return aggregator_pb2.PutOutputsRequest(
            header=aggregator_pb2.PutOutputsRequest.Header(run=self.run.name, first=models.start, last=models.stop)
        )

    @staticmethod
    def rows(index, outputs, failed=()):
        message = aggregator_pb2.PutOutputsRequest.Rows(
            model_index=codec.to_tensor(np.asarray(index, dtype=np.int32)),
            outputs=codec.to_tensor(np.asarray(outputs)),
            failed=[aggregator_pb2.FailedModel(model_index=m, reason=why) for m, why in failed],
        )
        return aggregator_pb2.PutOutputsRequest(rows=message)

    @staticmethod
    def serve(store, interval=0.05, watches=8, room=None, **fields):
        committer = Committer(store, AggregatorSettings(publish_interval=interval), room)
        committer.start()
        return Server(ServeSettings(**{"grace": 5.0} | fields), [service(committer, watches)], "aggregator")


@pytest.fixture(scope="session")
def kit():
    return Kit()


@pytest.fixture(scope="session")
def run(kit):
    return kit.run


@pytest.fixture
def store(tmp_path):
    return LocalStore(tmp_path)


@pytest.fixture
def server(kit, store):
    with kit.serve(store) as server:
        yield server


@pytest.fixture
def client(server, run):
    with AggregatorClient(server.address) as client:
        client.create_run(run)
        yield client


@pytest.fixture
def stub(server, client):
    """A stub, whose calls take and return messages."""
    with connect(server.address, ClientSettings()) as channel:
        yield aggregator_pb2_grpc.AggregatorServiceStub(channel)
