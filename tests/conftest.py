"""What tests of every folder share."""

import time

import pytest

from tests import properties

properties.register()


@pytest.fixture
def eventually():
    """eventually(condition) waits until it holds; for what another thread or process brings about."""

    def wait(condition, seconds=20.0):
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                raise AssertionError("it did not come about")
            time.sleep(0.005)

    return wait
