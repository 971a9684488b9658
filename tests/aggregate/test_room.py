import pytest

from datamodels.aggregate import metrics
from datamodels.aggregate.room import FACTOR, UNCHECKED, Room
from datamodels.errors import BusyError

MIB = 2**20


def test_outputs_are_admitted_while_there_is_memory_for_them():
    room, refused = Room(lambda: 1000 * MIB), metrics.REFUSED._value.get()
    with room.reserved("run", range(0, 4), 200 * MIB):
        told = "models 4 to 8 need 750 MiB of memory, and the aggregator has 500 MiB"
        with pytest.raises(BusyError, match=told), room.reserved("run", range(4, 8), 300 * MIB):
            pass
        with room.reserved("run", range(4, 8), 200 * MIB):
            pass
    with room.reserved("run", range(4, 8), 300 * MIB):  # the memory of those before is given back
        pass
    assert metrics.REFUSED._value.get() == refused + 1


def test_an_error_in_the_body_gives_the_memory_back():
    room = Room(lambda: 100 * MIB)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), room.reserved("run", range(4), 40 * MIB):
            1 / 0  # noqa: B018


def test_small_parts_are_admitted_without_asking_the_system():
    asked = []
    room = Room(lambda: asked.append(1) or 0)
    small = int(UNCHECKED / FACTOR / 2)
    with room.reserved("run", range(4), small), room.reserved("run", range(4, 8), small):
        assert not asked
        with pytest.raises(BusyError), room.reserved("run", range(8, 12), small):
            pass
