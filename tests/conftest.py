"""What tests of every folder share."""

import os

import pytest

from tests import properties, waiting

# Small products are slower on several threads, most of all beside other processes. NumPy, torch and all child processes
# read this when they start.
os.environ["OMP_NUM_THREADS"] = "1"
# Two hundred processes are started; without bytecode, each compiles a hundred of our modules again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
properties.register()
pytest.register_assert_rewrite("datamodels.testing.stores")


@pytest.fixture
def eventually():
    """Returns `waiting.eventually`."""
    return waiting.eventually
