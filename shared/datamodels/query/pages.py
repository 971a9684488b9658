"""Make and read page tokens of list calls (AIP-158). They are opaque, and valid for one request only."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeVar

from datamodels.errors import InputError, PageTokenError
from datamodels.query.limits import MAX_ANSWER_BYTES
from datamodels.storage import records
from datamodels.telemetry import logger

log = logger(__name__)

E = TypeVar("E")

DEFAULT_SIZE = 100
MAX_SIZE = 1000
ENTRY_BYTES = 8
"""Most bytes of a page for an entry besides its own: its field and its length."""
FOREIGN = "page_token: was not issued by this service; start again without one"


def size(asked: int) -> int:
    """Return the number of entries of a page: `asked`, or the default if it is 0, but at most MAX_SIZE.

    Raises InputError for a negative number.
    """
    if asked < 0:
        raise InputError(f"page_size = {asked}: must be at least 0")
    return min(asked or DEFAULT_SIZE, MAX_SIZE)


class Message(Protocol):
    """What a page is made of: a message that knows the size of its encoding."""

    def ByteSize(self) -> int: ...


M = TypeVar("M", bound=Message)


def fill(entries: Iterable[E], encode: Callable[[E], M | None]) -> tuple[list[M], int]:
    """Encode entries until a page is full, and return their messages and how many entries the page took.

    `encode` returns None for an entry to leave out. An entry that does not even fit on a page of its own is left out.
    """
    found: list[M] = []
    taken, room = 0, MAX_ANSWER_BYTES
    for entry in entries:
        message = encode(entry)
        if message is not None:
            size = message.ByteSize() + ENTRY_BYTES
            if size > MAX_ANSWER_BYTES:
                log.warning("entry left out of a list: it is too large for an answer", entry=str(entry), bytes=size)
            elif size > room:
                break
            else:
                found.append(message)
                room -= size
        taken += 1
    return found, taken


def token(request: dict[str, Any], *position: int | str) -> str:
    """Return the token of the page of `request` that starts at `position`.

    `request` has all fields of the request except page size and token.
    """
    body = records.canonical({"request": records.digest(request)[:16], "position": position})
    return base64.urlsafe_b64encode(body).decode()


def position(request: dict[str, Any], token: str, *kinds: type) -> tuple:
    """Return the position where the page of a token starts: values of the given types, integers below 2**63.

    Raises PageTokenError if the token was not issued for this request.
    """
    try:
        body = json.loads(base64.urlsafe_b64decode(token.encode()))
        given_for, start = body["request"], tuple(body["position"])
    except (ValueError, TypeError, KeyError, RecursionError):
        raise PageTokenError(FOREIGN) from None
    if given_for != records.digest(request)[:16]:
        raise PageTokenError("page_token: was issued for another request; start again without one")
    if tuple(map(type, start)) != kinds or any(isinstance(value, int) and not 0 <= value < 2**63 for value in start):
        raise PageTokenError(FOREIGN)
    return start
