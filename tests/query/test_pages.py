import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodels.errors import InputError, PageTokenError
from datamodels.query import pages
from datamodels.query.limits import MAX_ANSWER_BYTES


@given(st.dictionaries(st.text(), st.integers()), st.integers(0, 2**63 - 1), st.text())
def test_a_token_holds_the_start_of_its_page(request, number, name):
    assert pages.position(request, pages.token(request, number, name), int, str) == (number, name)


@given(st.text())
def test_any_text_that_is_not_a_token_is_refused(text):
    with pytest.raises(PageTokenError):
        pages.position({"run": "a"}, text, int)


def test_a_token_is_valid_only_for_its_own_request():
    with pytest.raises(PageTokenError, match="another request"):
        pages.position({"run": "b"}, pages.token({"run": "a"}, 3), int)


def test_a_deeply_nested_token_is_refused():
    with pytest.raises(PageTokenError):
        pages.position({}, base64.urlsafe_b64encode(b"[" * 200_000).decode(), int)


@pytest.mark.parametrize("position", [(), (3, 4), ("3",), (-1,), (True,), (2**63,)])
def test_a_forged_position_is_refused(position):
    with pytest.raises(PageTokenError, match="was not issued by this service"):
        pages.position({}, pages.token({}, *position), int)


def test_page_sizes():
    assert [pages.size(n) for n in (0, 7, 10**6)] == [pages.DEFAULT_SIZE, 7, pages.MAX_SIZE]
    with pytest.raises(InputError, match="at least 0"):
        pages.size(-1)


class Sized:
    def __init__(self, size):
        self.size = size

    def ByteSize(self):
        return self.size


def test_a_page_ends_where_its_bytes_do():
    sizes = [MAX_ANSWER_BYTES // 2, 100, 0, MAX_ANSWER_BYTES // 2, 100]
    found, taken = pages.fill(sizes, Sized)
    assert ([message.size for message in found], taken) == (sizes[:3], 3)
    assert pages.fill(sizes[3:], Sized)[1] == 2


def test_what_does_not_fit_any_page_is_left_out():
    found, taken = pages.fill([1, MAX_ANSWER_BYTES, 2, None], lambda size: size and Sized(size))
    assert ([message.size for message in found], taken) == ([1, 2], 4)
