"""What tests of every folder share."""

import gc
import os
import signal

import pytest

from datamodels.run import trust
from tests.helpers import forkserver, properties, waiting

# Imports and collection make a million objects that stay: looking through them took a quarter of the CPU time
# of collection. Afterwards the collector of garbage need not look at them, see `pytest_collection_finish`.
gc.disable()
# Small products are slower on several threads, most of all beside other processes. NumPy, torch and all child processes
# read this when they start.
os.environ["OMP_NUM_THREADS"] = "1"
# Hundreds of processes are started; without bytecode, each that is not forked compiles our modules again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# Shells make background processes ignore Ctrl-C, and the processes that tests start would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
forkserver.install()
properties.register()
# Tests make specs that name code of their own. Those of commands take this back, see `cautious`.
trust.trust_modules([trust.ALL])
pytest.register_assert_rewrite("datamodels.testing.stores")


FIT = "tests/fit/"


def pytest_collection_modifyitems(items):
    """Put the tests of the fit first: those of other folders, and their processes, find the compiled loops on disk."""
    items.sort(key=lambda item: not item.nodeid.startswith(FIT))


def pytest_collection_finish():
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)  # tests make few cycles: by default, looking for them takes 4 CPU s of a worker
    gc.enable()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """With --dist=loadfile, one worker runs all tests of the fit: two would compile its loops twice."""
    if config.getvalue("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid):
            return FIT if nodeid.startswith(FIT) else super()._split_scope(nodeid)

    return Scheduling(config, log)


@pytest.fixture
def cautious(monkeypatch):
    """Trust no code but the package's own, as a new process does, and forget afterwards what a test came to trust."""
    monkeypatch.setattr(trust, "_modules", set())
    monkeypatch.setattr(trust, "_references", set())
    monkeypatch.setattr(trust, "_files", set())


@pytest.fixture
def eventually():
    """Returns `waiting.eventually`."""
    return waiting.eventually
