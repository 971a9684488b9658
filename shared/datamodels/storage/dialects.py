"""Know how stores that speak S3 differ from each other. No other module does.

=========================================  ==============================  =============================================
difference                                 seen in                         here
=========================================  ==============================  =============================================
metadata keys come back in another case    MinIO, lakeFS, Go proxies       `metadata` compares them in lower case
an object that does not exist is 403       AWS without `s3:ListBucket`     `RIGHTS`: the error names the missing right
a HEAD that is refused has no code         all                             `doubt` goes by the HTTP status
a truncated page has no token              s3ninja, s3mock                 `pages` asks for keys after the last one
the last page is truncated, too            versitygw                       `pages` asks once more
the token is ignored, pages repeat         s3s-fs                          `pages` asks for keys after the last one
a page is empty, and others follow         stores that filter pages        `pages` follows the token
keys are not in order                      S3 Express directory buckets    `pages` sorts them
placeholders of folders (`a/b/`) are keys  consoles of many stores         `pages` leaves them out
a full store has a code of its own         MinIO, Ceph                     `_FULL`
=========================================  ==============================  =============================================

What they must agree on is conditional writes: `preflight` finds out whether they do.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

from datamodels.errors import (
    ConflictError,
    DatamodelsError,
    ObjectNotFoundError,
    SettingsError,
    StoreError,
    StoreFullError,
    StoreUnavailableError,
    StoreUnsafeError,
)

PUT, GET, HEAD, DELETE, LIST = "put_object", "get_object", "head_object", "delete_object", "list_objects_v2"
"""Operations, as boto3 names them. The project uses no others."""


class Right(enum.Enum):
    """A right that a bucket policy grants: LIST on the bucket, the others on its objects."""

    PUT = "s3:PutObject"
    GET = "s3:GetObject"
    DELETE = "s3:DeleteObject"
    LIST = "s3:ListBucket"


RIGHTS = {PUT: Right.PUT, GET: Right.GET, HEAD: Right.GET, DELETE: Right.DELETE, LIST: Right.LIST}
"""The right that each operation needs."""

GUIDE = "docs/guides/stores.md"

_FULL = {"InsufficientStorage", "StorageFull", "XMinioStorageFull", "QuotaExceeded", "QuotaExceededException"}
_BUSY = {"SlowDown", "RequestTimeout", "Throttling", "ThrottlingException", "TooManyRequests", "RequestLimitExceeded"}
_DAMAGED = {"BadDigest", "IncompleteBody", "XAmzContentSHA256Mismatch"}
"""Error codes of a store that received other bytes than were sent."""
_MISSING = {"NoSuchKey", "NotFound", "404"}
_EXPIRED = {
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidToken",
    "RequestExpired",
    "RequestTimeTooSkewed",
    "TokenRefreshRequired",
}
"""Error codes that say that credentials have ended, or that a clock is wrong. Both pass without new settings."""
_KEYS = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidClientTokenId", "UnrecognizedClientException"}
"""Error codes that say that the keys are wrong, and not a right of theirs."""


class Doubt(enum.Enum):
    """Whether an answer is about credentials."""

    NONE = "about something else"
    EXPIRED = "the credentials or the clock will be set right by others"
    REFUSED = "the credentials are wrong or lack a right; or they are being replaced, if they were good before"


def doubt(code: str, status: int) -> Doubt:
    """Return whether an error response is about credentials, by the code in its body and its HTTP status."""
    if code in _EXPIRED:
        return Doubt.EXPIRED
    if code in _FULL | _BUSY:
        return Doubt.NONE
    # An answer to HEAD has no body, so its code is the status. AWS answers 400 if the credentials have expired.
    return Doubt.REFUSED if status in (401, 403) or code == "400" or code in _KEYS else Doubt.NONE


def error_of(code: str, status: int, text: str, where: str, needed: str = "") -> DatamodelsError:
    """Return the error for an error response.

    code, text  the code and the message in its body; `code` is the status if it has no body
    needed      the right that the request needs, and on what
    """
    message = f"{where}: the store answered {status} {code}: {text}"
    if code in _FULL or status == 507:
        return StoreFullError(f"{message}; free some space, nothing of it was kept")
    if status == 412:
        return ConflictError(message)
    if code in _MISSING:
        return ObjectNotFoundError(f"{where}: the object does not exist")
    # 409: another conditional write of the key is in progress; only a retry can tell its result.
    if code in _BUSY | _DAMAGED or status in (409, 429, 500, 502, 503, 504):
        return StoreUnavailableError(message)
    if status == 501:
        return StoreUnsafeError(f"{message}; it does not support conditional writes: use a store that does")
    if status in (401, 403) and needed and code not in _EXPIRED | _KEYS:
        return SettingsError(f"{message}; these credentials need {needed}, see {GUIDE}")
    if code in _EXPIRED | _KEYS | {"NoSuchBucket"} or status in (301, 307, 400, 401, 403):
        return SettingsError(f"{message}; see DATAMODELS_STORE_* and the usual AWS variables")
    return StoreError(message)


def metadata(answer: Mapping[str, Any]) -> dict[str, str]:
    """Return the metadata of an object, with keys in lower case as they were written. HTTP headers have no case."""
    return {key.lower(): value for key, value in answer.get("Metadata", {}).items()}


Ask: TypeAlias = Callable[[dict[str, str]], Mapping[str, Any]]


def pages(ask: Ask, prefix: str, where: str) -> Iterator[str]:
    """Yield the keys of `items`."""
    return (item["Key"] for item in items(ask, prefix, where))


def items(ask: Ask, prefix: str, where: str) -> Iterator[Mapping[str, Any]]:
    """Yield what a listing says of all objects whose keys begin with a prefix, by ascending key, each once.

    ask  sends ListObjectsV2 with further arguments: none, a ContinuationToken, or StartAfter

    Raises StoreError if the store repeats a page for ever.
    """
    found: dict[str, Mapping[str, Any]] = {}
    tokens: set[str] = set()
    more: dict[str, str] = {}
    while True:
        answer = ask(more)
        page = {item["Key"]: item for item in answer.get("Contents", ())}
        new = bool(page.keys() - found.keys())
        found |= page
        token = answer.get("NextContinuationToken") or ""
        if not answer.get("IsTruncated", bool(token)) or ("StartAfter" in more and not page):
            break
        if token and token not in tokens:
            tokens.add(token)
            more = {"ContinuationToken": token}
        elif new or (found and "StartAfter" not in more):
            more = {"StartAfter": max(found)}
        else:
            raise StoreError(f"{where}: the store lists the same page for ever; use another store")
    yield from (found[key] for key in sorted(found) if key.startswith(prefix) and not key.endswith("/"))
