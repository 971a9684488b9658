"""Use TLS with certificate files that may change while servers and clients run.

A server uses new files from the next connection on. gRPC's Python clients cannot do that, so `ReloadingChannel` builds
a new channel between two calls. Open connections keep their certificates; servers end each connection after some
minutes.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import ssl
import threading
from collections.abc import Callable
from typing import Any

import grpc

from datamodels.errors import SettingsError
from datamodels.settings import ClientSettings, ServeSettings
from datamodels.telemetry import logger

log = logger(__name__)

READS = 5
"""Attempts to read the files, if they change during a read."""

Stamp = tuple[tuple[int, int, int], ...]


@dataclasses.dataclass(frozen=True)
class Pems:
    """Contents of the PEM files at one time; None for a file that is not set. `stamp` changes when any file changes."""

    stamp: Stamp
    cert: bytes | None
    key: bytes | None
    ca: bytes | None


class PemFiles:
    """The PEM files that settings name: fields `cert_file`, `key_file`, and the field for authorities, `ca`."""

    def __init__(self, settings: ServeSettings | ClientSettings, ca: str):
        self._paths = [getattr(settings, field) for field in ("cert_file", "key_file", ca)]
        self._names = [f"{settings.prefix}_{field.upper()}" for field in ("cert_file", "key_file", ca)]
        self._refused: Stamp | None = None

    def read(self) -> Pems:
        """Read the files until key and certificate match. Raises SettingsError, which names the faulty file."""
        for _ in range(READS):
            stamp = self._stamp()
            texts = [self._text(name, path) for name, path in zip(self._names, self._paths, strict=True)]
            try:
                self._check()
            except SettingsError:
                if stamp == self._stamp():
                    raise
                continue
            if stamp == self._stamp():
                return Pems(stamp, *texts)
        raise SettingsError(f"{self._names[0]}={self._paths[0]}: changed during each of {READS} reads")

    def newer(self, than: Pems) -> Pems | None:
        """Read the files again if they have changed since `than`.

        Returns None if they have not changed. If they cannot be used, returns None and logs the reason.
        """
        stamp: Stamp = ()
        try:
            stamp = self._stamp()
            if stamp in (than.stamp, self._refused):
                return None
            return self.read()
        except SettingsError as error:
            if stamp != self._refused:
                log.error("new certificates are not usable; the previous ones stay in use", reason=str(error))
            self._refused = stamp
            return None

    def _stamp(self) -> Stamp:
        return tuple(self._status(name, path) for name, path in zip(self._names, self._paths, strict=True) if path)

    def _status(self, name: str, path: str) -> tuple[int, int, int]:
        try:
            found = os.stat(path)
        except OSError as error:
            raise SettingsError(f"{name}={path}: {error.strerror}") from error
        return found.st_mtime_ns, found.st_ino, found.st_size

    def _text(self, name: str, path: str) -> bytes | None:
        if not path:
            return None
        try:
            with open(path, "rb") as file:
                return file.read()
        except OSError as error:
            raise SettingsError(f"{name}={path}: {error.strerror}") from error

    def _check(self) -> None:
        """Raise SettingsError if a file is not valid; gRPC itself does not say what is wrong with a certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        cert, key, ca = self._paths
        try:
            if cert:
                context.load_cert_chain(cert, key, password="")  # without it, OpenSSL prompts for a password
        except (ssl.SSLError, OSError) as error:
            message = f"is not a certificate for the unencrypted key in {self._names[1]}={key}: {error}"
            raise SettingsError(f"{self._names[0]}={cert}: {message}") from error
        try:
            if ca:
                context.load_verify_locations(ca)
        except (ssl.SSLError, OSError) as error:
            raise SettingsError(f"{self._names[2]}={ca}: has no certificates: {error}") from error


def server_credentials(settings: ServeSettings) -> grpc.ServerCredentials | None:
    """Return credentials that reload certificates, or None if the settings name none.

    Raises SettingsError if a certificate cannot be used.
    """
    if not settings.cert_file:
        return None
    files = PemFiles(settings, "client_ca_file")
    current = files.read()
    lock = threading.Lock()

    def newer() -> grpc.ServerCertificateConfiguration | None:
        nonlocal current
        with lock:
            found = files.newer(current)
            if found is None:
                return None
            current = found
        log.info("certificates reloaded", file=settings.cert_file)
        return _configuration(found)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(current),
        newer,  # type: ignore[arg-type]  # the stubs lack None, which means that nothing has changed
        require_client_authentication=bool(settings.client_ca_file),
    )


def _configuration(pems: Pems) -> grpc.ServerCertificateConfiguration:
    assert pems.key is not None and pems.cert is not None, "ServeSettings requires both or neither"
    return grpc.ssl_server_certificate_configuration([(pems.key, pems.cert)], root_certificates=pems.ca)


def secure_channel(address: str, settings: ClientSettings, options: list[tuple[str, Any]]) -> ReloadingChannel:
    """Return a TLS channel that is rebuilt when certificates change. Raises SettingsError if they cannot be used."""
    if settings.server_name:
        options = [*options, ("grpc.ssl_target_name_override", settings.server_name)]

    def build(pems: Pems) -> grpc.Channel:
        credentials = grpc.ssl_channel_credentials(pems.ca, pems.key, pems.cert)
        return grpc.secure_channel(address, credentials, options=options)

    return ReloadingChannel(PemFiles(settings, "ca_file"), build)


@dataclasses.dataclass(eq=False)
class _Built:
    """A channel and the number of its running calls."""

    channel: grpc.Channel
    calls: int = 0


class ReloadingChannel(grpc.Channel):
    """A channel that is rebuilt between two calls if its certificate files have changed.

    Each call ends on the channel that it began on. A replaced channel is closed after its last call.
    """

    def __init__(self, files: PemFiles, build: Callable[[Pems], grpc.Channel]):
        self._files = files
        self._build = build
        self._lock = threading.Lock()
        self._pems = files.read()
        self._current = _Built(build(self._pems))
        self._retired: list[_Built] = []
        self._closed = False

    @property
    def open(self) -> int:
        """Number of channels that are not closed: the current one, and replaced ones with running calls."""
        with self._lock:
            return len(self._retired) + 1

    def begin(self, call: Callable[[grpc.Channel], Any]) -> Any:
        """Start a call on the current channel."""
        with self._lock:
            self._renew()
            done = [built for built in self._retired if not built.calls]
            self._retired = [built for built in self._retired if built.calls]
            built = self._current
            built.calls += 1
        for each in done:  # closed here, because the thread that ends a channel's last call cannot close the channel
            each.channel.close()
        leave = functools.partial(self._leave, built)
        try:
            begun = call(built.channel)
        except BaseException:
            leave()
            raise
        if not (isinstance(begun, grpc.RpcContext) and begun.add_callback(leave)):
            leave()
        return begun

    def _renew(self) -> None:
        if self._closed:
            return
        found = self._files.newer(self._pems)
        if found is not None:
            self._retired.append(self._current)
            self._pems, self._current = found, _Built(self._build(found))
            log.info("certificates reloaded")

    def _leave(self, built: _Built) -> None:
        with self._lock:
            built.calls -= 1

    def close(self) -> None:
        with self._lock:
            self._closed = True
            every = [*self._retired, self._current]
        for built in every:
            built.channel.close()

    def __enter__(self) -> ReloadingChannel:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def subscribe(self, callback: Callable[[grpc.ChannelConnectivity], None], try_to_connect: bool = False) -> None:
        self._current.channel.subscribe(callback, try_to_connect)

    def unsubscribe(self, callback: Callable[[grpc.ChannelConnectivity], None]) -> None:
        self._current.channel.unsubscribe(callback)

    def unary_unary(self, *arguments: Any, **options: Any) -> _Method:
        return _Method(self, lambda channel: channel.unary_unary(*arguments, **options))

    def unary_stream(self, *arguments: Any, **options: Any) -> _Method:
        return _Method(self, lambda channel: channel.unary_stream(*arguments, **options))

    def stream_unary(self, *arguments: Any, **options: Any) -> _Method:
        return _Method(self, lambda channel: channel.stream_unary(*arguments, **options))

    def stream_stream(self, *arguments: Any, **options: Any) -> _Method:
        return _Method(self, lambda channel: channel.stream_stream(*arguments, **options))


class _Method(
    grpc.UnaryUnaryMultiCallable,
    grpc.UnaryStreamMultiCallable,
    grpc.StreamUnaryMultiCallable,
    grpc.StreamStreamMultiCallable,
):
    """A gRPC multi-callable that uses the current channel at each call."""

    def __init__(self, owner: ReloadingChannel, of: Callable[[grpc.Channel], Any]):
        self._owner = owner
        self._of = of

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return self._owner.begin(lambda channel: self._of(channel)(*arguments, **options))

    def with_call(self, *arguments: Any, **options: Any) -> Any:
        return self._owner.begin(lambda channel: self._of(channel).with_call(*arguments, **options))

    def future(self, *arguments: Any, **options: Any) -> Any:
        return self._owner.begin(lambda channel: self._of(channel).future(*arguments, **options))
