import threading

import numpy as np
import pytest
from datamodels.services.sampler.service import service

from datamodels.errors import UnavailableError
from datamodels.rpc.clients.sampler import SamplerClient
from datamodels.rpc.serve import Server
from datamodels.run import designs
from datamodels.settings import ClientSettings, ServeSettings

DESIGN = designs.Design("uniform", 3, 0.5, 100)


@pytest.fixture
def port():
    """A port on which a sampler has just stopped."""
    with Server(ServeSettings(), [service()]) as server:
        return int(server.address.rpartition(":")[2])


def test_a_call_is_retried_until_the_service_is_back(port):
    server = Server(ServeSettings(port=port), [service()])
    back = threading.Timer(0.5, server.__enter__)
    back.start()
    try:
        with SamplerClient(f"127.0.0.1:{port}", ClientSettings()) as client:
            np.testing.assert_array_equal(client.subsets(DESIGN, 5, 9), designs.subsets(DESIGN, 5, 9))
    finally:
        back.join()
        server.__exit__()


def test_a_service_that_stays_unavailable_is_named(port):
    with (
        SamplerClient(f"127.0.0.1:{port}", ClientSettings(attempts=2)) as client,
        pytest.raises(UnavailableError, match=f"127.0.0.1:{port}"),
    ):
        client.subsets(DESIGN, 5, 9)
