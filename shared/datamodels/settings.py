"""Define the settings of processes, which are read from environment variables; see `environment`.

Settings say how a process is deployed: addresses, folders, limits. The RunSpec says what is computed. The string below
a field says what the field means and why it has its default; its type gives the unit. `make reference` collects these
texts in docs/reference/settings.md.
"""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import ClassVar

from datamodels import screen
from datamodels.environment import Bytes, Gibibytes, Seconds, Settings
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


@dataclasses.dataclass(frozen=True)
class TrainerSettings(Settings):
    """How models are trained on this machine."""

    prefix: ClassVar[str] = "DATAMODELS_TRAINER"

    threads: int = 1
    """Threads of the numerical libraries in one process. Small models train fastest with one process per core and one
    thread in each."""
    heartbeat: Seconds = 1800.0
    """How long a trainer may make no progress before the local runner kills it and restarts it. These events count as
    progress: the process starts, subsets arrive, a batch of models ends, a commit ends. The default leaves time for a
    batch of large models, which may take many minutes."""
    patience: Seconds = 600.0
    """How long a trainer waits for an aggregator that does not answer, before it ends with exit code 75."""
    heartbeat_file: str = ""
    """A file whose modification time is that of the last progress. The local runner and the chart set it."""
    spec: str = ""
    """The SHA-256 of the spec that the trainer is started for, which its runner sets. The trainer imports what that
    spec names, and refuses a run with another spec. If it is empty, the trainer imports only what is trusted."""
    tolerated_failures: float = 0.1
    """The fraction of subsets whose models may fail, 0 to 1. If more fail than chance explains at this rate, such as
    the first six, the trainer stops with the reason. 0 stops at the first failed model. With 1 it never stops, also not
    if the outputs of the first models are all the same, or vary only in digits that storage rounds away, and it does
    not train the first model again to see whether the seed and the subset decide its outputs."""
    tolerated_difference: float = 0.1
    """The most by which outputs may differ if the first model of a run is trained again on its subset with its seed, as
    a fraction of their deviation over models, 0 or more. If they differ by more, the trainer stops. With the default,
    chance that no seed controls, such as the order of sums on a GPU, adds at most 1% to the variance of outputs. With
    0.5 it adds up to 25%, as noisier seeds would; inf allows any difference."""

    def __post_init__(self) -> None:
        if not self.heartbeat > 0:  # also true for NaN
            raise SettingsError(f"{self.prefix}_HEARTBEAT={self.heartbeat}: must be a number of seconds above 0")


@dataclasses.dataclass(frozen=True)
class IndexedJobSettings(Settings):
    """What Kubernetes tells the pods of an Indexed Job."""

    prefix: ClassVar[str] = "JOB"

    completion_index: int = -1
    """Index of the pod: which chunk to train, or which part of a fit to solve. -1 outside of an Indexed Job."""


@dataclasses.dataclass(frozen=True)
class ClusterSettings(Settings):
    """What a driver knows about its cluster. The chart sets all fields but `spec`, which `datamodels submit` adds."""

    prefix: ClassVar[str] = "DATAMODELS_CLUSTER"

    spec: str = ""
    """The spec of the run, as JSON."""
    templates: str = "/etc/datamodels/jobs"
    """The folder of the chart's Job templates."""
    namespace: str = ""
    """The namespace in which the driver creates Jobs."""
    owner: str = ""
    """Name of the driver's own Job. It owns the Jobs that the driver creates, so Kubernetes deletes them with it."""
    owner_uid: str = ""
    """The UID of the driver's own Job."""
    fitter_start: Seconds = 3600.0
    """How long the driver waits until the pod of a fitter Job is ready. Time in a queue does not count."""
    settle: Seconds = 60.0
    """How long a driver stays after its work is done, so that Prometheus can read its last metrics. If nobody has read
    its metrics, a driver ends at once."""


@dataclasses.dataclass(frozen=True)
class AggregatorSettings(Settings):
    """How the aggregator writes manifests and checks its store."""

    prefix: ClassVar[str] = "DATAMODELS_AGGREGATOR"

    publish_interval: Seconds = 2.0
    """The shortest time between two manifests of one run. The last manifest is written as soon as the run is
    complete."""
    preflight_writers: int = 32
    """How many conditional writes of one object race at start-up. If the store lets more than one win, the aggregator
    refuses it. 2 to 1,000."""


@dataclasses.dataclass(frozen=True)
class FitterSettings(Settings):
    """How a fit uses this machine. What is computed is in the spec, under `fit`."""

    prefix: ClassVar[str] = "DATAMODELS_FITTER"

    scratch: str = str(Path(tempfile.gettempdir()) / "datamodels-fitter")
    """The folder for masks, outputs, sums and checkpoints. Each fitter needs a folder of its own. Everything in it can
    be recreated. A fit of m models on d columns and n targets takes about m (d / 8 + 2 n) bytes. The local runner uses
    `HOME/scratch` if this is not set."""
    keep_bytes: Bytes = 16 * 2**30
    """How much of the scratch folder is kept for later fits, over all runs; they then read only the new models. The
    least recently used data is deleted first. 0 keeps nothing."""
    device: str = "auto"
    """Where `prior`, `pooled` and the LASSO are fitted: `cpu`, `cuda`, or `auto`, which means `cuda` if CuPy and a GPU
    are available. `cuda` needs the extra `fitter-cuda12` or `fitter-cuda13`. Other estimators use the CPU."""
    threads: int = 0
    """How many blocks of targets are fitted at the same time on the CPU, each by one thread; 0 means one per core that
    the process may use."""
    block: int = 0
    """The most targets in a block, which is solved and committed as a unit; 0 means 128 on the CPU and 4,096 on a GPU.
    On the CPU, a block gets fewer targets if it would take more than 2 GiB of memory. A GPU solves a block in as many
    parts as its free memory asks for."""
    memory: Gibibytes = 0.0
    """How much memory the fit of a LASSO may take on the CPU. A fit that would take more is refused before it starts. 0
    means all memory of the machine, or as much as the process's control groups allow."""

    def __post_init__(self) -> None:
        for field in ("threads", "block", "memory"):
            if getattr(self, field) < 0:
                raise SettingsError(f"{self.prefix}_{field.upper()}={getattr(self, field)}: must be 0 or more")


@dataclasses.dataclass(frozen=True)
class QuerySettings(Settings):
    """What the query service keeps in memory."""

    prefix: ClassVar[str] = "DATAMODELS_QUERY"

    refresh: Seconds = 5.0
    """How long the newest known fit of a run is used before the service asks the store for a newer one."""
    capacity: int = 8
    """The most fits that stay in memory. The least recently used fit is dropped first."""
    keep_bytes: Bytes = 2 * 2**30
    """The most memory that the fits in memory may take. The least recently used fit is dropped first; the fit that was
    asked for last stays, however large it is. While fits are read, up to two more take memory."""
    warm: bool = False
    """Whether the service is ready only after it has read the newest fit of the newest run, so that no caller waits for
    that. The chart turns it on."""

    def __post_init__(self) -> None:
        if self.capacity < 1:
            raise SettingsError(f"{self.prefix}_CAPACITY={self.capacity}: must be at least 1")


@dataclasses.dataclass(frozen=True)
class ExplorerSettings(Settings):
    """Who may use the explorer. It needs `token` or `user_header`; `datamodels explore` makes a token of its own.

    It listens as the settings DATAMODELS_SERVE say, by HTTP, and keeps fits in memory as DATAMODELS_QUERY says.
    """

    prefix: ClassVar[str] = "DATAMODELS_EXPLORER"

    token: str = ""
    """What a caller must know: as `?token=` in the first address that a browser opens, which sets a cookie, or as a
    bearer token. At least 16 letters."""
    user_header: str = ""
    """The header in which an authentication proxy names the user, such as `X-Forwarded-User`. If it is set, whoever
    sends it is that user, so nothing but the proxy may reach the explorer. If it is empty, no header is trusted."""
    hosts: str = ""
    """The names by which browsers reach the explorer, separated by commas, such as `explorer.example.org`. Requests for
    other hosts are refused, so that no foreign page can reach it under a name of its own. Names of the loopback
    interface are always allowed, except if `user_header` is set."""
    verdicts: bool = True
    """Whether users may store verdicts of a review. Nothing else can be changed."""
    groups_header: str = ""
    """The header in which the proxy names the groups of the user, separated by commas, such as `X-Forwarded-Groups`."""
    readers: str = ""
    """Which users may read which runs, as in DATAMODELS_AUTH_READERS: `USER=PATTERN,PATTERN`, with `;` between users,
    and `group:NAME` for a group. If it is empty, every user may read every run. Whoever has the token always may."""
    verify: str = ""
    """The command that trains models to verify a prediction, such as `datamodels counterfactual`; the question is
    added. Then all users may train models on the explorer's machine. If it is empty, pages show the command to copy."""
