"""Store objects in an S3 bucket. The service must honour conditional writes (`If-None-Match: *`)."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import random
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import boto3
import botocore.session
from botocore import exceptions, loaders
from botocore.config import Config

from datamodels.errors import (
    ConflictError,
    CorruptObjectError,
    DatamodelsError,
    ObjectNotFoundError,
    SettingsError,
    StoreUnavailableError,
)
from datamodels.screen import redact
from datamodels.settings import StoreSettings
from datamodels.storage import dialects
from datamodels.storage.base import Entry, ObjectStore, check_key
from datamodels.storage.dialects import DELETE, GET, HEAD, LIST, PUT, Doubt, Right
from datamodels.telemetry import logger

log = logger(__name__)

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

_NO_CREDENTIALS = (exceptions.NoCredentialsError, exceptions.PartialCredentialsError)
"""Errors of botocore if it finds no credentials: there are none, or they are being replaced."""

_FAILED = (exceptions.BotoCoreError, exceptions.ClientError)
"""Base classes of everything that a request raises."""
Failure: TypeAlias = exceptions.BotoCoreError | exceptions.ClientError

_LONGEST_WAIT = 5.0
"""Most seconds between two tries of a request."""


def _session() -> boto3.session.Session:
    """Return a session that finds its settings and credentials itself."""
    session = botocore.session.get_session()
    session.register_component("data_loader", _loader())
    found = boto3.session.Session(botocore_session=session)
    _loader().search_paths[:] = dict.fromkeys(_loader().search_paths)  # the session has added its own once more
    return found


@functools.cache
def _loader() -> Any:
    """Return what reads the descriptions of the API: all sessions share them, or each client takes 0.1 CPU s."""
    return loaders.create_loader(botocore.session.get_session().get_config_variable("data_path"))


class S3Store(ObjectStore):
    """Stores objects below s3://BUCKET/PREFIX. Safe to use from any thread.

    Each object has metadata with its sha256 and a nonce of its writer. The constructor sends no request. It and the
    calls raise SettingsError if the settings, or the credentials in the usual AWS variables, are not valid.

    If the store refuses the credentials, they are read anew. If it accepted them before, they are being replaced:
    requests are repeated for `settings.patience` seconds before they raise StoreUnavailableError.

    waiters  how many requests may be repeated for that reason at a time; others raise StoreUnavailableError at once.
             A service gives fewer than it has threads, so that calls are answered meanwhile. None for any number
    """

    PAGE = 1000
    """Keys per page of a listing; S3 returns at most 1,000."""

    def __init__(self, settings: StoreSettings, *, waiters: int | None = None):
        self._bucket, _, prefix = settings.url.removeprefix("s3://").partition("/")
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._attempts = max(1, settings.attempts)
        self.url = redact(f"s3://{self._bucket}/{self._prefix}".rstrip("/"))
        self._settings = settings
        self._granted: set[tuple[Right, str]] = set()
        self._known: str | None = None
        self._signs = False
        self._renewing = threading.Lock()
        self._waiters = None if waiters is None else threading.BoundedSemaphore(waiters)
        self._client = self._connect()

    def _connect(self) -> Any:
        """Return a client with connections and credentials of its own. Sends no request. Raises SettingsError."""
        settings = self._settings
        try:
            return _session().client(
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
            self._call(PUT, key, Body=data, IfNoneMatch="*", Metadata=metadata)
        except ConflictError:
            # If the nonce is ours, the write succeeded, and only its acknowledgement was lost.
            return self._nonce(key) == nonce
        return True

    def _nonce(self, key: str) -> str | None:
        """Return the nonce of an existing object's writer."""
        try:
            return dialects.metadata(self._call(HEAD, key)).get("nonce")
        except ObjectNotFoundError as error:
            raise StoreUnavailableError(
                f"{self.url}/{key}: was deleted while it was written; write it again"
            ) from error

    def read(self, key: str) -> bytes:
        return self._call(GET, key, _body)

    def reread(self, key: str) -> bytes:
        client = self._connect()
        try:
            return self._call(GET, key, _body, client=client)
        finally:
            client.close()

    def exists(self, key: str) -> bool:
        try:
            self._call(HEAD, key)
        except ObjectNotFoundError:
            return False
        return True

    def entries(self, prefix: str, *, after: str = "", deep: bool = True) -> Iterator[Entry]:
        if prefix:
            check_key(prefix.rstrip("/"))
        start, where = self._prefix + prefix, f"{self.url}/{prefix}"
        begin: dict[str, Any] = {"Prefix": start, "MaxKeys": self.PAGE} | ({} if deep else {"Delimiter": "/"})
        begin |= {"StartAfter": self._prefix + after} if after else {}

        def ask(more: dict[str, str]) -> Any:
            return self._send(LIST, where, **begin | more)

        for item in dialects.items(ask, start, where):
            key = item["Key"].removeprefix(self._prefix)
            if key > after:
                yield Entry(key, item["Size"], item["LastModified"].timestamp())

    def delete(self, key: str) -> None:
        self._call(DELETE, key)

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
        with contextlib.ExitStack() as waits:
            return self._tried(waits, operation, where, use, client, **arguments)

    def _tried(
        self,
        waits: contextlib.ExitStack,
        operation: str,
        where: str,
        use: Callable[[Any], Any],
        client: Any,
        **arguments: Any,
    ):
        right, key = dialects.RIGHTS[operation], arguments.get("Key", "")
        started, attempt, passes = time.monotonic(), 0, None
        scope = right, key.removeprefix(self._prefix).partition("/")[0]
        while True:
            attempt += 1
            used = client or self._client
            try:
                answer = use(getattr(used, operation)(Bucket=self._bucket, **arguments))
            except _FAILED as error:
                translated, doubt = translate(error, where, self._needed(right)), doubt_of(error)
                if isinstance(translated, ObjectNotFoundError) and (operation == LIST or self._is_foreign(error)):
                    translated = StoreUnavailableError(f"{where}: a 404 that is not the store's{_server_of(error)}")
                    self._renew(used)  # connections that were opened meanwhile lead there for as long as they last
                    client = None
                if doubt is Doubt.NONE:
                    if attempt >= self._attempts or not isinstance(translated, StoreUnavailableError):
                        raise translated from error
                else:
                    if passes is None:
                        passes = doubt is Doubt.EXPIRED or self._are_replaced(right, key, scope, where)
                        if passes:
                            waits.enter_context(self._waiting(translated))
                    elif not passes:
                        raise translated from error
                    if time.monotonic() - started >= self._settings.patience:
                        raise StoreUnavailableError(
                            f"{translated}; credentials were read anew for {self._settings.patience:.0f} s"
                        ) from error
                    log.warning("the store does not take the credentials; reading them anew", reason=str(translated))
                    self._renew(used)
                    client = None
            else:
                self._granted.add(scope)
                self._signs = self._signs or _is_signed(answer)
                if right is Right.GET:
                    self._known = key
                return answer
            time.sleep(min(_LONGEST_WAIT, 0.1 * 2 ** min(attempt, 10)) * random.uniform(0.5, 1.0))

    @contextlib.contextmanager
    def _waiting(self, refusal: DatamodelsError) -> Iterator[None]:
        """Count a request that waits for credentials. Raises StoreUnavailableError if too many wait already."""
        if self._waiters is None:
            yield
        elif not self._waiters.acquire(blocking=False):
            raise StoreUnavailableError(f"{refusal}; other requests wait for its credentials already") from refusal
        else:
            try:
                yield
            finally:
                self._waiters.release()

    def _renew(self, used: Any) -> None:
        """Replace the client by one that reads its credentials anew, unless another thread has done so."""
        with self._renewing:
            if self._client is used:
                try:
                    self._client = self._connect()
                except SettingsError as error:  # a file of credentials that is half written
                    log.warning("credentials could not be read", reason=str(error))

    def _is_foreign(self, error: Failure) -> bool:
        """Return whether an error comes from something else than the store, as from a proxy whose store is away.

        It is if it lacks the ID of the request, and the store's own answers have one.
        """
        return self._signs and isinstance(error, exceptions.ClientError) and not _is_signed(error.response)

    def _are_replaced(self, right: Right, key: str, scope: tuple[Right, str], where: str) -> bool:
        """Return whether credentials that were refused will probably be taken again, because they were before.

        Raises ObjectNotFoundError if a listing says that the object does not exist, and SettingsError if the store
        takes the credentials, but not to list: then it answers in the same way for objects that do not exist.
        """
        listed = self._listed(key) if right is Right.GET else None
        if listed is False:
            raise ObjectNotFoundError(f"{where}: the object does not exist")
        if self._known is None:
            return False
        try:
            self._client.head_object(Bucket=self._bucket, Key=self._known)
        except _FAILED as error:
            if doubt_of(error) is not Doubt.NONE:
                return True
        if right is Right.GET and listed is None and key != self._known:
            raise SettingsError(
                f"{where}: the store answered that it is forbidden, which is also its answer for objects that do not "
                f"exist if credentials lack {self._needed(Right.LIST)}; grant it, see {dialects.GUIDE}"
            )
        return scope in self._granted

    def _listed(self, key: str) -> bool | None:
        """Return whether a listing has an object; None if there is no listing."""

        def ask(more: dict[str, str]) -> Any:
            return self._client.list_objects_v2(Bucket=self._bucket, Prefix=key, MaxKeys=self.PAGE, **more)

        try:
            return key in dialects.pages(ask, key, self.url)
        except _FAILED:
            return None

    def _needed(self, right: Right) -> str:
        """Return a right, and on what it is needed, as a bucket policy says it."""
        objects = f"{right.value} on {self._bucket}/{self._prefix}*"
        whole = f"{Right.LIST.value} on the bucket {self._bucket}"
        return {Right.LIST: whole, Right.GET: f"{objects} and {whole}"}.get(right, objects)


def _body(answer: Any) -> bytes:
    return answer["Body"].read()


def translate(error: Failure, where: str, needed: str = "") -> DatamodelsError:
    """Convert an error of botocore to an error of this package. `needed` is the right that the request needs."""
    if isinstance(error, exceptions.ClientError):
        text = error.response.get("Error", {}).get("Message", "no reason given")
        return dialects.error_of(*_answered(error), text, where, needed)
    reason = f"{where}: {' '.join(str(error).split())}"
    if isinstance(error, _UNREACHED):
        return StoreUnavailableError(f"{reason}; is the store running, and its address right?")
    if isinstance(error, _ALTERED):
        return CorruptObjectError(f"{reason}; restore it from a copy")
    return SettingsError(f"{reason}; see DATAMODELS_STORE_* and the usual AWS variables")


def doubt_of(error: Failure) -> Doubt:
    """Return whether an error is about credentials."""
    if isinstance(error, exceptions.ClientError):
        return dialects.doubt(*_answered(error))
    return Doubt.REFUSED if isinstance(error, _NO_CREDENTIALS) else Doubt.NONE


def _is_signed(answer: Any) -> bool:
    """Return whether an answer has the ID that stores give to each request."""
    return isinstance(answer, dict) and "x-amz-request-id" in answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})


def _server_of(error: Failure) -> str:
    headers = getattr(error, "response", {}).get("ResponseMetadata", {}).get("HTTPHeaders", {})
    return f", but of {headers['server']}" if "server" in headers else ""


def _answered(error: exceptions.ClientError) -> tuple[str, int]:
    """Return the code in the body of an error response, and its HTTP status."""
    response = error.response
    return response.get("Error", {}).get("Code", ""), response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
