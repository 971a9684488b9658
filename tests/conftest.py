"""What tests of every folder share."""

import time

import hypothesis
import pytest

# How long an example takes says more about the machine than about the code.
hypothesis.settings.register_profile("datamodels", deadline=None)
hypothesis.settings.load_profile("datamodels")


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
