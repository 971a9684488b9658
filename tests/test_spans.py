import pytest

from datamodels import spans
from datamodels.spans import Span, excerpt, plain

HOSTILE = "a\x1b[31mred\x07\r\nb\u202etxt\ud800"


@pytest.mark.parametrize(
    ("span", "line"),
    [
        (Span("the discrete cosine transform of it", 4, 29), "the [[discrete cosine transform]] of it"),
        (Span("all of it", 0, 0), "all of it"),
        (Span(HOSTILE, 1, 4), "a[[\ufffd[3]]1mred\ufffd  b\ufffdtxt?"),
        (Span("a" * 200 + "here" + "b" * 200, 200, 204), f"… {'a' * 48}[[here]]{'b' * 48} …"),
    ],
)
def test_the_line_of_a_span_marks_it_and_moves_no_terminal(span, line):
    assert str(span) == line and str(span).isprintable()


def test_plain_text_is_one_line():
    assert plain("a\n\tb\x00") == "a  b\ufffd"


@pytest.mark.parametrize(("first", "last"), [(0, 10), (500, 510), (990, 1000), (0, 1000), (300, 300)])
def test_an_excerpt_has_the_part_where_it_says(first, last):
    text = "".join(f"{i:03d} " for i in range(250))
    found = excerpt(text, first, last, 60)
    assert found.text[found.first : found.last] == text[first : min(last, first + 60)]
    assert len(found.text) <= 60 + 2 * len(spans.CUT)
    assert found.text.startswith("… ") == (first > 0) and found.text.endswith(" …") == (last < 1000 or first == 0)


def test_a_short_text_is_kept_whole():
    assert excerpt("short", 1, 3) == Span("short", 1, 3)
    assert excerpt(HOSTILE, 0, 1).text == HOSTILE.replace("\ud800", "?")  # half a surrogate pair cannot be stored


def test_excerpts_of_many_targets_are_shorter():
    assert spans.most_letters(1) == spans.LETTERS
    assert spans.most_letters(60_000) * 60_000 <= spans.ALL_LETTERS
