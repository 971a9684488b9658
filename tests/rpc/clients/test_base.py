import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from datamodels.errors import SettingsError
from datamodels.rpc.client import connect
from datamodels.rpc.clients.base import Client
from datamodels.rpc.serve import Server
from datamodels.settings import ClientSettings, ServeSettings


class HealthClient(Client):
    def check(self):
        return health_pb2_grpc.HealthStub(self._channel).Check(health_pb2.HealthCheckRequest()).status


@pytest.fixture
def address():
    with Server(ServeSettings()) as server:
        yield server.address


def test_a_client_closes_the_channel_it_opened(address):
    with HealthClient(address) as client:
        assert client.check() == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(ValueError, match="closed channel"):
        client.check()


def test_a_client_does_not_close_a_borrowed_channel(address):
    with connect(address, ClientSettings()) as channel:
        with HealthClient(channel) as client:
            client.check()
        assert client.check() == health_pb2.HealthCheckResponse.SERVING


def test_a_client_without_an_address_is_refused():
    with pytest.raises(SettingsError, match="HealthClient: no address"):
        HealthClient("")
