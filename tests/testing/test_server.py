import subprocess
import sys

import numpy as np
import pytest

import datamodels
from datamodels.errors import UnavailableError
from datamodels.rpc.clients.query import QueryClient
from datamodels.settings import ClientSettings
from datamodels.testing import fitted
from datamodels.testing.server import query_server, serve
from tests.helpers.waiting import LIMIT

THETA = np.array([[0.5, 0, -1], [0, 0, 2]], dtype=np.float32)


def test_given_weights_are_served_until_the_block_ends():
    with query_server(THETA, intercept=np.array([1.0, 2.0]), name="mine") as served:
        with QueryClient(served.address) as client:
            found = client.predict_columns(served.run, [0, 2])
            assert found.predictions.tolist() == [[0.5, 4.0]]
            assert [run.run for run in client.runs()] == [served.run] and served.run.startswith("mine-")
        np.testing.assert_array_equal(datamodels.open_run(served.store, served.run).weights().theta.toarray(), THETA)
    with QueryClient(served.address, ClientSettings(attempts=1)) as client, pytest.raises(UnavailableError):
        client.run(served.run)


def test_a_store_is_served(tmp_path):
    store, run, theta = fitted.make_store(tmp_path)
    with serve(store) as address, QueryClient(address) as client:
        (row,) = client.weights(run.name, [0])
    np.testing.assert_array_equal(row.columns, np.flatnonzero(theta[0]))


def test_only_the_tests_of_stores_need_pytest():
    script = (
        "import sys; sys.modules |= {'pytest': None, 'hypothesis': None}\n"
        "from datamodels.testing import committed, fitted, linear, reference, server\n"
        "try:\n from datamodels.testing import stores\n"
        "except ImportError as error:\n print(error.name)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=LIMIT, check=True)
    assert done.stdout == "pytest\n"
