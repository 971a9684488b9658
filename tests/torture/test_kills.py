"""One life of the row `kills`, with its dozens of kills, and a null control."""

import pytest

from datamodels.settings import StoreSettings
from tests.torture.kills import forks, row
from tests.torture.kills.slot import Slot


@pytest.fixture(scope="module")
def slot_of(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kills")
    with forks.server(folder) as server:
        sampler = row.start_sampler(folder, server)

        def make(control):
            settings = StoreSettings(url=f"file://{folder}/store-{control}")
            return Slot(folder / (control or "slot"), server, "local", settings, f"unix:{folder}/sampler", control)

        yield make
        sampler.kill()


def test_a_run_is_whole_after_kills_of_all_its_processes(slot_of):
    slot = slot_of("")
    told = slot.live(0, "seed")
    slot.close()
    assert told.faults == []
    assert min(told.killed[name] for name in ("aggregator", "fitter", "query", "trainer", "driver")) > 0, told.killed
    assert len(told.writes) > 5, told.writes


def test_an_aggregator_that_breaks_its_promise_is_found_out(slot_of):
    slot = slot_of("early")
    assert row.found(slot, 5, "early")
    slot.close()
