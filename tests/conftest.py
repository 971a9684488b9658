"""What tests of every folder share."""

import pytest

from tests import properties, waiting

properties.register()


@pytest.fixture
def eventually():
    """Returns `waiting.eventually`."""
    return waiting.eventually
