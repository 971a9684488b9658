"""Store objects in an S3 bucket. The service must honour conditional writes (`If-None-Match: *`)."""

from __future__ import annotations

import hashlib
import random
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import boto3
from botocore import exceptions
from botocore.config import Config

from datamodels.errors import (
    ConflictError,
    CorruptObjectError,
    DatamodelsError,
    ObjectNotFoundError,
    SettingsError,
    StoreError,
    StoreFullError,
    StoreUnavailableError,
    StoreUnsafeError,
)
from datamodels.settings import StoreSettings
from datamodels.storage.base import ObjectStore, check_key

CONNECTIONS = 64
"""Size of the connection pool: more than the threads of a server, so that no thread waits for another."""

_UNREACHED = (
    exceptions.HTTPClientError,
    exceptions.ConnectionError,
    exceptions.IncompleteReadError,
    exceptions.MetadataRetrievalError,
    exceptions.CredentialRetrievalError,
    exceptions.TokenRetrievalError,
    exceptions.CapacityNotAvailableError,
)
"""Errors of botocore itself after which the same request may succeed. After its other errors it cannot."""

_ALTERED = (exceptions.ChecksumError, exceptions.FlexibleChecksumError)

_FULL = {"InsufficientStorage", "StorageFull", "XMinioStorageFull", "QuotaExceeded", "QuotaExceededException"}
_BUSY = {"SlowDown", "RequestTimeout", "Throttling", "ThrottlingException", "TooManyRequests", "RequestLimitExceeded"}
_DAMAGED = {"BadDigest", "IncompleteBody", "XAmzContentSHA256Mismatch"}
"""Error codes of a store that received other bytes than were sent."""
_MISSING = {"NoSuchKey", "NotFound", "404"}


class S3Store(ObjectStore):
    """Stores objects below s3://BUCKET/PREFIX. Safe to use from any thread.

    Each object has metadata with its sha256 and a nonce of its writer. The constructor sends no request. It and the
    calls raise SettingsError if the settings, or the credentials in the usual AWS variables, are not valid.
    """

    PAGE = 1000
    """Keys per page of a listing; S3 returns at most 1,000."""

    def __init__(self, settings: StoreSettings):
        self._bucket, _, prefix = settings.url.removeprefix("s3://").partition("/")
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._attempts = max(1, settings.attempts)
        self.url = f"s3://{self._bucket}/{self._prefix}".rstrip("/")
        self._settings = settings
        self._client = self._connect()

    def _connect(self) -> Any:
        """Return a client with connections and credentials of its own. Sends no request. Raises SettingsError."""
        settings = self._settings
        try:
            return boto3.session.Session().client(
                "s3",
                endpoint_url=settings.s3_endpoint or None,
                region_name=settings.s3_region,
                config=Config(
                    connect_timeout=settings.timeout,
                    read_timeout=settings.timeout,
                    retries={"total_max_attempts": 1},  # `_send` retries transient errors
                    max_pool_connections=CONNECTIONS,
                    request_checksum_calculation=settings.s3_checksums,
                    response_checksum_validation=settings.s3_checksums,
                    s3={"addressing_style": "path" if settings.s3_endpoint else "auto"},
                ),
            )
        except (exceptions.BotoCoreError, ValueError) as error:
            raise SettingsError(f"{self.url}: cannot be used as a store: {error}; see DATAMODELS_STORE_*") from error

    def create(self, key: str, data: bytes) -> bool:
        nonce = uuid.uuid4().hex
        metadata = {"sha256": hashlib.sha256(data).hexdigest(), "nonce": nonce}
        try:
            self._call("put_object", key, Body=data, IfNoneMatch="*", Metadata=metadata)
        except ConflictError:
            # If the nonce is ours, the write succeeded, and only its acknowledgement was lost.
            return self._nonce(key) == nonce
        return True

    def _nonce(self, key: str) -> str | None:
        """Return the nonce of an existing object's writer."""
        try:
            return self._call("head_object", key)["Metadata"].get("nonce")
        except ObjectNotFoundError as error:
            raise StoreUnavailableError(
                f"{self.url}/{key}: was deleted while it was written; write it again"
            ) from error

    def read(self, key: str) -> bytes:
        return self._call("get_object", key, _body)

    def reread(self, key: str) -> bytes:
        client = self._connect()
        try:
            return self._call("get_object", key, _body, client=client)
        finally:
            client.close()

    def exists(self, key: str) -> bool:
        try:
            self._call("head_object", key)
        except ObjectNotFoundError:
            return False
        return True

    def list(self, prefix: str) -> Iterator[str]:
        if prefix:
            check_key(prefix.rstrip("/"))
        more: dict[str, Any] = {}
        while True:
            where = f"{self.url}/{prefix}"
            answer = self._send("list_objects_v2", where, Prefix=self._prefix + prefix, MaxKeys=self.PAGE, **more)
            for found in answer.get("Contents", ()):
                yield found["Key"].removeprefix(self._prefix)
            if not answer.get("IsTruncated"):
                return
            more = {"ContinuationToken": answer["NextContinuationToken"]}

    def delete(self, key: str) -> None:
        self._call("delete_object", key)

    def _call(self, operation: str, key: str, use: Callable[[Any], Any] = lambda answer: answer, **arguments: Any):
        where = f"{self.url}/{check_key(key)}"
        return self._send(operation, where, use, Key=self._prefix + key, **arguments)

    def _send(
        self,
        operation: str,
        where: str,
        use: Callable[[Any], Any] = lambda answer: answer,
        *,
        client: Any = None,
        **arguments: Any,
    ):
        """Send a request, retry it after transient errors, and return `use(answer)`."""
        attempt = 0
        while True:
            attempt += 1
            try:
                return use(getattr(client or self._client, operation)(Bucket=self._bucket, **arguments))
            except (exceptions.BotoCoreError, exceptions.ClientError) as error:
                translated = translate(error, where)
                if not isinstance(translated, StoreUnavailableError) or attempt == self._attempts:
                    raise translated from error
            time.sleep(min(5.0, 0.1 * 2**attempt) * random.uniform(0.5, 1.0))


def _body(answer: Any) -> bytes:
    return answer["Body"].read()


def translate(error: exceptions.BotoCoreError | exceptions.ClientError, where: str) -> DatamodelsError:
    """Convert an error of botocore to an error of this package."""
    if isinstance(error, exceptions.ClientError):
        return _translate_answer(error, where)
    reason = f"{where}: {' '.join(str(error).split())}"
    if isinstance(error, _UNREACHED):
        return StoreUnavailableError(f"{reason}; is the store running, and its address right?")
    if isinstance(error, _ALTERED):
        return CorruptObjectError(f"{reason}; restore it from a copy")
    return SettingsError(f"{reason}; see DATAMODELS_STORE_* and the usual AWS variables")


def _translate_answer(error: exceptions.ClientError, where: str) -> DatamodelsError:
    """Convert an error response by the code in its body, or by its HTTP status if it has no body."""
    answer = error.response.get("Error", {})
    code, status = answer.get("Code", ""), error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    message = f"{where}: the store answered {status} {code}: {answer.get('Message', 'no reason given')}"
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
    if code == "NoSuchBucket" or status in (301, 307, 400, 401, 403):
        return SettingsError(f"{message}; see DATAMODELS_STORE_* and the usual AWS variables")
    return StoreError(message)
