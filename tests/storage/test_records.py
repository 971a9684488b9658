import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodels.errors import CorruptObjectError, ObjectNotFoundError
from datamodels.storage import records
from datamodels.storage.local import LocalStore

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@pytest.fixture
def store(tmp_path):
    return LocalStore(tmp_path)


@given(JSON)
def test_the_digest_does_not_depend_on_the_order_of_keys(body):
    def reordered(value):
        if isinstance(value, dict):
            return {key: reordered(value[key]) for key in reversed(value)}
        return [reordered(v) for v in value] if isinstance(value, list) else value

    assert records.digest(reordered(body)) == records.digest(body)
    assert records.digest(records.plain(body)) == records.digest(body)
    assert records.digest([body]) != records.digest(body)


def test_the_digest_never_changes_across_versions():
    """The names of runs and fits contain it."""
    body = {"b": [1, 2.5, None, True], "a": {"é": "x"}}
    assert records.canonical(body) == b'{"a":{"\\u00e9":"x"},"b":[1,2.5,null,true]}'
    assert records.digest({}) == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"


@pytest.mark.parametrize("body", [math.nan, [math.inf], {"a": -math.inf}])
def test_numbers_that_are_not_finite_are_refused(body):
    with pytest.raises(ValueError, match="Out of range float"):
        records.canonical(body)


def test_plain_equals_what_is_read_back(store):
    body = {"t": (1, 2), "n": {"x": 1.0}}
    assert records.plain(body) == {"t": [1, 2], "n": {"x": 1.0}}
    records.create(store, "a", body)
    assert records.read(store, "a") == records.plain(body)


def test_a_record_is_written_once(store):
    assert records.create(store, "a", {"x": 1}) is True
    assert records.create(store, "a", {"x": 2}) is False
    assert records.read(store, "a") == {"x": 1}


def test_a_missing_record_is_not_found(store):
    with pytest.raises(ObjectNotFoundError, match="a/b"):
        records.read(store, "a/b")


def test_every_truncation_and_every_flipped_byte_is_found(store, tmp_path):
    body = {"parts": [{"first": 0, "last": 4}], "text": "é"}
    records.create(store, "a", body)
    data = (tmp_path / "a").read_bytes()
    altered = [data[:length] for length in range(len(data))]
    altered += [data[:i] + bytes([data[i] ^ 1]) + data[i + 1 :] for i in range(len(data))]
    for wrong in altered:
        (tmp_path / "a").write_bytes(wrong)
        with pytest.raises(CorruptObjectError, match="/a: "):
            records.read(store, "a")


@pytest.mark.parametrize("data", [b"", b"[]", b"3", b'"body"', b"{}", b'{"body": 1}', b"\xff\xfe", b"null"])
def test_other_objects_are_not_records(store, data):
    store.create("a", data)
    with pytest.raises(CorruptObjectError, match="is not a record"):
        records.read(store, "a")
