"""Page tokens of list calls (AIP-158): opaque, and good only for the request that they were given out for."""

from __future__ import annotations

import base64
import json
from typing import Any

from datamodels.errors import InputError, PageTokenError
from datamodels.storage import records

DEFAULT_SIZE = 100
MAX_SIZE = 1000
FOREIGN = "page_token: is not one that this service gave out; start again without"


def size(asked: int) -> int:
    """Entries of a page: the default for 0, at most MAX_SIZE. Raises InputError for a negative number."""
    if asked < 0:
        raise InputError(f"page_size = {asked}: must be at least 0")
    return min(asked or DEFAULT_SIZE, MAX_SIZE)


def token(request: dict[str, Any], *position: int | str) -> str:
    """A token for the page of `request` (its fields but for size and token) that starts at `position`."""
    body = records.canonical({"request": records.digest(request)[:16], "position": position})
    return base64.urlsafe_b64encode(body).decode()


def position(request: dict[str, Any], token: str, *kinds: type) -> tuple:
    """Where the page of a token starts: values of the given kinds, numbers from 0 to 2**63 - 1.

    Raises PageTokenError where it was not given out for this request.
    """
    try:
        body = json.loads(base64.urlsafe_b64decode(token.encode()))
        given_for, start = body["request"], tuple(body["position"])
    except (ValueError, TypeError, KeyError, RecursionError):
        raise PageTokenError(FOREIGN) from None
    if given_for != records.digest(request)[:16]:
        raise PageTokenError("page_token: was given out for another request; start again without")
    if tuple(map(type, start)) != kinds or any(isinstance(value, int) and not 0 <= value < 2**63 for value in start):
        raise PageTokenError(FOREIGN)
    return start
