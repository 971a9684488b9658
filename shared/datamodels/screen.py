"""Make texts safe to show: without secrets, and without letters that a terminal would obey.

Labels, texts, reasons and names come from data sets, stores and services. Errors may quote a URL with a password, or a
header with a token. Every message, log line and line of output passes these functions on its way out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

HIDDEN = "***"
"""What stands for a secret."""
SHORTEST = 12
"""Fewest letters of a text that is hidden: shorter ones would be found inside of ordinary words."""
SHORTEST_OF_URL = 5
"""The same for a user or a password of a URL that is known to be one."""
JOINERS = "\u200c\u200d"
"""Letters that have no shape, and move nothing: they join others, as in Persian, or keep them apart."""

_IN_URL = re.compile(r"(?<=://)\S*@")
"""User and password in a URL. Greedy, for a password may have any letter but white space."""
_BEARER = re.compile(r"(?i)\b(bearer\s+)[\w\-.~+/=]{16,}")
"""A bearer token with the word before it."""
_HEADER = re.compile(
    r"(?i)\b(authorization|x-amz-security-token|x-amz-signature|x-amz-credential)([\"']?\s*[:=]\s*(?:b(?=[\"']))?[\"']?)"
    r"(?:(?:basic|bearer)\s+)?[^\s\"',;&]+"
)
"""Headers, or parameters of a URL, that hold a secret."""
_secrets: set[str] = set()


def hide(secrets: Iterable[str]) -> None:
    """Let `redact` hide these texts from now on, wherever they occur, and the lines of those that have several."""
    for secret in secrets:
        _secrets.update(line.strip() for line in secret.splitlines() if len(line.strip()) >= SHORTEST)


def hide_user(url: str) -> None:
    """Let `redact` hide the user and the password of a URL, with or without its scheme, and each of the two alone."""
    user = url.partition("://")[2] or url
    if "@" in user:
        user = user.rpartition("@")[0]
        _secrets.update(part for part in (user, user.partition(":")[2]) if len(part) >= SHORTEST_OF_URL)


def redact(text: str) -> str:
    """Return a text without the user and password of any URL in it, headers with tokens, and the texts of `hide`."""
    for secret in sorted(_secrets, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    if "://" in text:
        text = _IN_URL.sub(f"{HIDDEN}@", text)
    return _HEADER.sub(rf"\1\2{HIDDEN}", _BEARER.sub(rf"\1{HIDDEN}", text))


def plain(text: str) -> str:
    """Return a text as one line: white space becomes blanks, and letters that cannot be printed become U+FFFD."""
    return text if text.isprintable() else "".join(map(_plain, text))


def printable(text: str, keep: str = "\n\t") -> str:
    """Return a text of several lines without letters that a terminal would obey.

    keep  letters that stay as they are, though they cannot be printed
    """
    if all(line.isprintable() for line in text.split("\n")) and "\n" in keep:
        return text
    # What stands for bytes that are no UTF-8, as in names of files, stays: streams escape it.
    return "".join(c if c in keep or "\ud800" <= c <= "\udfff" else _plain(c) for c in text)


def _plain(letter: str) -> str:
    if letter.isprintable() or letter in JOINERS:
        return letter
    return " " if letter.isspace() else "\N{REPLACEMENT CHARACTER}"
