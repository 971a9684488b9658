"""Commands run as in a new process: they trust no code but the package's own until somebody agrees."""

import pytest


@pytest.fixture(autouse=True)
def as_in_a_new_process(cautious):
    pass
