"""Spans: targets that are parts of texts, such as some tokens of a document, and how people see them."""

from __future__ import annotations

from typing import NamedTuple

from datamodels.screen import plain

MARKS = ("[[", "]]")
"""What stands around a span in a line of text."""
LETTERS = 240
"""Most letters of an excerpt."""
LINE = 100
"""Most letters of an excerpt in a line of text."""
ALL_LETTERS = 1_000_000
"""Most letters of all excerpts of a run: answers of 4 MiB and requests of 8 MiB must hold them."""
CUT = " … "
"""What stands for letters that an excerpt leaves out."""


class Span(NamedTuple):
    """A part of a text, with some of the text around it.

    text         an excerpt
    first, last  the letters `first <= letter < last` of the excerpt are the part; none if the whole text is meant
    """

    text: str
    first: int
    last: int

    def __str__(self) -> str:
        """Return a short line, with the part between MARKS, and without letters that a terminal would obey."""
        text, first, last = excerpt(*self, LINE)
        before, part, after = text[:first], text[first:last], text[last:]
        marked = plain(part).join(MARKS) if part else ""
        return f"{plain(before)}{marked}{plain(after)}".strip()


def most_letters(spans: int) -> int:
    """Return the most letters of each excerpt of a run with that many targets."""
    return min(LETTERS, ALL_LETTERS // max(1, spans))


def excerpt(text: str, first: int, last: int, most: int = LETTERS) -> Span:
    """Return the letters `first <= letter < last` of a text with what is around them, in about `most` letters.

    If the part alone is longer, its end is cut off.
    """
    text = text.encode("utf-8", "replace").decode()  # half a surrogate pair cannot be stored
    last = min(last, first + most)
    start = max(0, first - (most - (last - first)) // 2)
    end = min(len(text), start + most)
    start = max(0, min(start, end - most))
    before = CUT.lstrip() if start else ""
    after = CUT.rstrip() if end < len(text) else ""
    moved = len(before) - start
    return Span(f"{before}{text[start:end]}{after}", first + moved, last + moved)
