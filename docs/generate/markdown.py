"""Write pieces of Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Returns a table, with an empty line after it."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines) + "\n"


def code(text: object) -> str:
    """Returns the text as code; nothing for an empty text."""
    return f"`{text}`" if str(text) else ""


def link(title: str, text: str = "") -> str:
    """Returns a link to a heading of this page. Its text is the heading, unless another is given."""
    return f"[{text or title}](#{re.sub(r'[^a-z0-9_ -]', '', title.lower()).replace(' ', '-')})"


def sentence(text: str) -> str:
    """Returns the text with a capital letter at its start, unless it starts with a name, and a full stop at its end."""
    text = text.strip()
    first = text.split(" ")[0].rstrip(",:;")
    text = text[:1].upper() + text[1:] if first.isalpha() else text
    return text + ("" if text.endswith((".", "?", ":", "!")) or not text else ".")
