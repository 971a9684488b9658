"""Define the settings that processes of several kinds read."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from datamodels import screen
from datamodels.environment import Bytes, Seconds, Settings
from datamodels.errors import SettingsError


@dataclasses.dataclass(frozen=True)
class StoreSettings(Settings):
    """Where objects are kept. Credentials for S3 come from the usual AWS variables, never from here."""

    prefix: ClassVar[str] = "DATAMODELS_STORE"

    url: str = "file://.datamodels/store"
    """The object store: `file://FOLDER` or `s3://BUCKET/PREFIX`."""
    s3_endpoint: str = ""
    """URL of an S3-compatible server other than AWS."""
    s3_region: str = "us-east-1"
    """Region of the bucket."""
    s3_checksums: str = "when_supported"
    """When S3 requests carry checksums: `when_supported`, or `when_required` for servers that reject boto3's default
    checksums."""
    timeout: Seconds = 20.0
    """How long one request to S3 may take to connect, and to send more data. Then it is made again, so that a request
    that got lost is answered within 30 seconds."""
    attempts: int = 5
    """How many times one request is tried, including the first."""
    patience: Seconds = 180.0
    """How long a request to S3 is repeated if credentials have expired, if the clock is wrong, or if the store refuses
    credentials that it accepted before. They are read anew before each try. The default is longer than credentials
    take to be replaced."""

    def __post_init__(self) -> None:
        for url in (self.url, self.s3_endpoint):  # errors of libraries quote them
            screen.hide_user(url)


@dataclasses.dataclass(frozen=True)
class ServeSettings(Settings):
    """How the gRPC server of a process listens. A trainer and a driver serve health and metrics only."""

    prefix: ClassVar[str] = "DATAMODELS_SERVE"

    host: str = "127.0.0.1"
    """The address to listen on. The default accepts only connections from this machine."""
    port: int = 0
    """The port for gRPC; 0 takes a free one."""
    socket: str = ""
    """The path of a unix socket to serve gRPC on, in place of `host` and `port`. Only users who may enter its folder
    can connect. The local runner sets it, to a folder that only its user can enter."""
    metrics_port: int = 0
    """The port for `/metrics`, by HTTP; 0 takes a free one."""
    address_file: str = ""
    """A file that the process writes once it serves: a JSON object with `address` and `metrics_address`. The file
    appears complete or not at all."""
    workers: int = 16
    """The most threads that answer calls of one method. Each call occupies one thread until it ends. Each method has
    threads of its own, so that calls that wait for the store never delay health checks and other methods. At most half
    as many callers may watch progress of the aggregator or the fitter at the same time."""
    reflection: bool = False
    """Whether the server lists its methods, for tools such as `grpcurl`."""
    max_message_bytes: Bytes = 8 * 2**20
    """The largest request message. Answers stay under 4 MiB, the default limit of gRPC clients."""
    max_deadline: Seconds = 3600.0
    """The longest that a call may last. A call without a deadline gets this one."""
    idle: Seconds = 120.0
    """How long a caller may send nothing that its call waits for, or take nothing of what the call sends. Then the call
    ends. If other calls wait for its thread, it ends after 5 seconds."""
    grace: Seconds = 10.0
    """How long running calls may continue after the process is told to stop."""
    follow_stdin: bool = False
    """Whether the process stops when its standard input closes. With it, no server outlives a killed parent."""
    cert_file: str = ""
    """A PEM file with the server's certificate chain, the server's own certificate first. With it, the server accepts
    only TLS connections. The server rereads its certificate files when they change."""
    key_file: str = ""
    """A PEM file with the private key of the server's certificate."""
    client_ca_file: str = ""
    """A PEM file with the authorities that clients' certificates must come from. If it is empty, clients need no
    certificate."""
    health_port: int = 0
    """The port for health checks without TLS, which the server opens if it has a certificate; 0 takes a free one."""

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise SettingsError(f"{self.prefix}_WORKERS={self.workers}: must be at least 1")
        _check_pair(self)
        if self.client_ca_file and not self.cert_file:
            raise SettingsError(f"{self.prefix}_CLIENT_CA_FILE: needs {self.prefix}_CERT_FILE too")
        for field in ("port", "metrics_port", "health_port"):
            if not 0 <= getattr(self, field) < 65536:
                raise SettingsError(f"{self.prefix}_{field.upper()}={getattr(self, field)}: must be 0 to 65535")


@dataclasses.dataclass(frozen=True)
class ClientSettings(Settings):
    """Where the services are, and how long to wait for them.

    An address is `host:port`, or any gRPC target such as `dns:///name:port`.
    """

    prefix: ClassVar[str] = "DATAMODELS_CLIENT"

    sampler: str = ""
    """Address of the sampler."""
    aggregator: str = ""
    """Address of the aggregator."""
    fitter: str = ""
    """Address of the fitter."""
    query: str = ""
    """Address of the query service. If it is empty, a command that asks questions starts a service of its own."""
    deadline: Seconds = 60.0
    """How long a call with one answer may take. Calls that stream their answers have no deadline."""
    attempts: int = 5
    """How many times a call that may be repeated is tried, including the first. gRPC allows at most 5."""
    ca_file: str = ""
    """A PEM file with the authorities that servers' certificates must come from. If it is empty, calls do not use
    TLS."""
    cert_file: str = ""
    """A PEM file with the client's certificate, for servers that ask for one. The client rereads its certificate files
    when they change."""
    key_file: str = ""
    """A PEM file with the private key of the client's certificate."""
    server_name: str = ""
    """The name in the servers' certificates, if it differs from the name in their addresses."""
    token_file: str = ""
    """A file with a bearer token for the run, for services that ask for one. It is reread for every call."""

    def __post_init__(self) -> None:
        _check_pair(self)
        for field in ("cert_file", "token_file"):  # without TLS, a token would travel unencrypted
            if getattr(self, field) and not self.ca_file:
                raise SettingsError(f"{self.prefix}_{field.upper()}: needs TLS; set {self.prefix}_CA_FILE too")


def _check_pair(settings: ServeSettings | ClientSettings) -> None:
    if bool(settings.cert_file) != bool(settings.key_file):
        raise SettingsError(f"{settings.prefix}_CERT_FILE and {settings.prefix}_KEY_FILE: set both, or neither")


SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
"""The folder in which Kubernetes mounts a pod's credentials for the API server."""


@dataclasses.dataclass(frozen=True)
class AuthSettings(Settings):
    """Which bearer tokens a service accepts.

    The aggregator and the fitter check the token of every call, and that it is for the run that the call is about. The
    query service does, if `readers` is set. The sampler reads these settings, but asks for no token.
    """

    prefix: ClassVar[str] = "DATAMODELS_AUTH"

    keys: str = ""
    """Where to read the public keys that verify tokens: `https://HOST` of a Kubernetes API server, the address of an
    OpenID issuer's `https://.../.well-known/openid-configuration`, or a JWKS file. They are reread every few minutes.
    If it is empty, no token is required."""
    issuer: str = ""
    """The issuer of the tokens. If it is empty, the API server is asked. It is required with a JWKS file."""
    subjects: str = ""
    """The service accounts whose tokens are accepted, separated by commas: `system:serviceaccount:NAMESPACE:NAME`."""
    readers: str = ""
    """Who may read which runs, with a token for `audience`: `SUBJECT=PATTERN,PATTERN`, with `;` between subjects. A
    pattern is the name of a run, with `*` for any letters. A subject is the token's claim `sub`, or `group:NAME` for a
    name in its claim `groups`."""
    reader_keys: str = ""
    """Where to read the keys for readers' tokens, as `keys`, if they have another issuer than the tokens of runs."""
    reader_issuer: str = ""
    """That issuer. It is required if `reader_keys` is a JWKS file; an OpenID issuer says who it is."""
    audience: str = "datamodels"
    """The audience of readers' tokens: for an OpenID issuer, usually the client's ID."""
    ca_file: str = f"{SERVICE_ACCOUNT}/ca.crt"
    """A PEM file with the authority of the API server's certificate, or of the issuer's. The default is for the API
    server alone; for an issuer it means the authorities of the system."""
    token_file: str = f"{SERVICE_ACCOUNT}/token"
    """A file with the token that the process itself sends to the API server."""

    def __post_init__(self) -> None:
        for field in ("keys", "reader_keys"):
            if getattr(self, field).startswith("http://"):
                name = f"{self.prefix}_{field.upper()}"
                raise SettingsError(f"{name}={getattr(self, field)}: must be https://HOST, or a file")
        if self.keys and not self.subjects and not self.readers:
            raise SettingsError(f"{self.prefix}_SUBJECTS: must name the service accounts whose tokens are accepted")
        if self.readers and not (self.keys or self.reader_keys):
            raise SettingsError(
                f"{self.prefix}_READERS: needs {self.prefix}_READER_KEYS or _KEYS, to verify their tokens"
            )
        if self.reader_keys and not self.readers:
            raise SettingsError(f"{self.prefix}_READER_KEYS: needs {self.prefix}_READERS, to say who may read what")
        if self.reader_keys and not self.reader_keys.startswith("https://") and not self.reader_issuer:
            raise SettingsError(f"{self.prefix}_READER_ISSUER: must name the issuer of the keys in {self.reader_keys}")
        if self.keys and not self.keys.startswith("https://") and not self.issuer:
            raise SettingsError(f"{self.prefix}_ISSUER: must name the issuer of the keys in {self.keys}")


@dataclasses.dataclass(frozen=True)
class TrustSettings(Settings):
    """Which Python modules may run because a spec names them; see SECURITY.md.

    The data sets and trainers of this package always may. A spec that is given on the command line, or to
    `datamodels submit`, may use what it names.
    """

    prefix: ClassVar[str] = "DATAMODELS_TRUST"

    modules: str = ""
    """More modules, separated by commas. A module stands for all that is defined in it and in the modules below it. `*`
    stands for every module: then whoever can write a run into the store can run code in this process."""


@dataclasses.dataclass(frozen=True)
class TelemetrySettings(Settings):
    """What a process logs, to standard error, and where it sends spans of what it does."""

    prefix: ClassVar[str] = "DATAMODELS_LOG"

    level: str = "info"
    """The least severe level that is logged: `debug`, `info`, `warning` or `error`. With `debug`, a command that fails
    also logs a traceback."""
    format: str = "json"
    """`json` writes one JSON object per line; `console` writes coloured lines for people."""
    access: bool = False
    """Whether each call and request that a service has answered is a line in its log, but for health checks."""
    traces: str = ""
    """URL of an OpenTelemetry collector that takes OTLP by HTTP, such as `http://collector:4318`. If it is empty,
    `OTEL_EXPORTER_OTLP_ENDPOINT` decides, and without that no spans are sent. Needs the extra `otel`."""
