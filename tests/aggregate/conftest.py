"""The small run of `tests.helpers.protocol`, and its helpers."""

import types

import pytest

from tests.helpers import protocol as helpers
from tests.helpers.memory import MemoryStore


@pytest.fixture(scope="session")
def run():
    return helpers.make_run()


@pytest.fixture(scope="session")
def sub_chunks(run):
    return helpers.sub_chunks_of(run)


@pytest.fixture(scope="session")
def make_outputs(run):
    return helpers.outputs_maker(run)


@pytest.fixture(scope="session")
def protocol():
    """Helpers that the tests of the protocol share."""
    return types.SimpleNamespace(
        Crash=helpers.Crash,
        Fault=helpers.Fault,
        FaultyStore=helpers.FaultyStore,
        MemoryStore=MemoryStore,
        OverwritingStore=helpers.OverwritingStore,
        check=helpers.check_invariants,
    )
