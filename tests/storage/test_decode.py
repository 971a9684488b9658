import dataclasses
from typing import Any

import numpy as np
import pytest

from datamodels.errors import CorruptObjectError, InputError, StoreUnavailableError
from datamodels.storage.decode import build, check_length, decoding


@dataclasses.dataclass
class Inner:
    key: str
    pair: tuple[int, str] = (0, "")


@dataclasses.dataclass
class Outer:
    number: int
    share: float
    right: bool
    inner: Inner | None
    many: tuple[Inner, ...] = ()
    anything: Any = None
    options: dict[str, Any] | None = None
    array: np.ndarray | None = None


GOOD = {"number": 1, "share": 2, "right": True, "inner": {"key": "a"}, "many": [{"key": "b", "pair": [3, "c"]}]}


def test_values_get_their_types():
    array = np.zeros(2)
    found = build(Outer, GOOD | {"anything": [1], "options": {"x": 1}, "array": array})
    assert found == Outer(1, 2, True, Inner("a"), (Inner("b", (3, "c")),), [1], {"x": 1}, array)
    assert build(Outer, GOOD | {"inner": None}).inner is None
    assert build(Outer, GOOD | {"inner": Inner("c")}).inner == Inner("c")


@pytest.mark.parametrize(
    "wrong",
    [
        {"number": 1.5},
        {"number": True},
        {"number": "1"},
        {"number": 10**400},
        {"share": "x"},
        {"share": 10**400},
        {"share": None},
        {"right": 1},
        {"inner": 3},
        {"inner": {}},
        {"inner": {"key": "a", "more": 1}},
        {"many": {"key": "a"}},
        {"many": [{"key": "a", "pair": [1]}]},
        {"many": [{"key": "a", "pair": ["1", 1]}]},
        {"options": []},
        {"array": [1]},
        {"unknown": 1},
    ],
    ids=str,
)
def test_wrong_values_are_refused(wrong):
    with pytest.raises(TypeError):
        build(Outer, GOOD | wrong)


@pytest.mark.parametrize("error", [KeyError("a"), RecursionError(), AttributeError(), OverflowError(), InputError("x")])
def test_an_error_of_decoding_is_a_damaged_object(error):
    with (
        pytest.raises(CorruptObjectError, match=r"^there/key: is not a run as this .*; restore .*$"),
        decoding("there/key", "a run"),
    ):
        raise error


@pytest.mark.parametrize("error", [StoreUnavailableError("gone"), MemoryError(), KeyboardInterrupt()])
def test_other_errors_pass(error):
    with pytest.raises(type(error)), decoding("there/key", "a run"):
        raise error


def test_lengths():
    check_length("labels", None, 3)
    check_length("labels", [], 3)
    check_length("labels", [1, 2, 3], 3)
    with pytest.raises(ValueError, match="labels: has 2 entries, must have 3"):
        check_length("labels", [1, 2], 3)
