import dataclasses
import sys

import numpy as np
import pytest

from datamodels.query.cache import Cache, size_of


def kept(cache, *keys):
    return [key for key in keys if cache.get(key)]


def test_the_least_recently_used_values_are_dropped_beyond_the_bytes():
    cache = Cache(100)
    for key in "abc":
        cache.put(key, key.upper(), 40)
        cache.get("a")
    assert kept(cache, "a", "b", "c") == ["a", "c"]
    assert (cache.bytes, len(cache)) == (80, 2)


def test_a_value_above_the_limit_is_kept_alone():
    cache = Cache(100)
    cache.put("a", "A", 10)
    cache.put("b", "B", 1000)
    assert kept(cache, "a", "b") == ["b"]
    cache.put("c", "C", 10)
    assert (kept(cache, "b", "c"), cache.bytes) == (["c"], 10)


def test_the_number_of_values_is_bounded_too():
    cache = Cache(100, capacity=2)
    for key in "abc":
        cache.put(key, key.upper(), 1)
    assert kept(cache, "a", "b", "c") == ["b", "c"]


def test_a_replaced_value_counts_once():
    cache = Cache(100)
    cache.put("a", 1, 30)
    cache.put("a", 2)
    assert (cache.get("a"), cache.bytes) == (2, 30)
    cache.put("a", 3, 50)
    assert (cache.get("a"), cache.bytes) == (3, 50)


@dataclasses.dataclass
class Thing:
    array: np.ndarray
    names: list


@pytest.mark.parametrize(
    "value, size",
    [
        (np.zeros(1000, np.float32), 4000),
        (["ok"] * 1000, 8000 + sys.getsizeof("ok")),
        ({"a": np.zeros(10)}, 80 + sys.getsizeof("a")),
        (Thing(np.zeros(3), ("x" * 500,)), 24 + 8 + sys.getsizeof("x" * 500)),
        (None, sys.getsizeof(None)),
    ],
)
def test_sizes(value, size):
    assert size_of(value) == size
