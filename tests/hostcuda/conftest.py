import pytest

from tests.hostcuda import device as host


@pytest.fixture
def device():
    """The host device, with nothing counted."""
    found = host.active()
    if found is None:
        pytest.skip("needs the host device: make test-host-device")
    found.reset()
    yield found
    found.set()
