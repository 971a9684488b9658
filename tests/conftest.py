"""What tests of every folder share."""

import pytest

from tests import properties, waiting

properties.register()
pytest.register_assert_rewrite("datamodels.testing.stores")


@pytest.fixture
def eventually():
    """Returns `waiting.eventually`."""
    return waiting.eventually
