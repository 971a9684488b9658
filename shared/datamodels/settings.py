"""The only reader of os.environ.

Settings are how a process is deployed (addresses, folders, limits); what is computed is in the RunSpec. A field `f` of
a group with prefix `P` is read from the environment variable `P_F`. Each field's comment gives unit, default's reason,
or both.
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Self, get_type_hints

from datamodels.errors import SettingsError


@dataclasses.dataclass(frozen=True)
class Settings:
    """Base of the groups below."""

    prefix: ClassVar[str] = "DATAMODELS"

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Reads the group from the environment. Raises SettingsError naming the variable at fault."""
        environ = os.environ if environ is None else environ
        hints = get_type_hints(cls)
        values = {}
        for field in dataclasses.fields(cls):
            variable = f"{cls.prefix}_{field.name.upper()}"
            if variable in environ:
                values[field.name] = _parse(hints[field.name], variable, environ[variable])
        return cls(**values)

    def environ(self) -> dict[str, str]:
        """The environment variables from which `load` makes this group again."""
        return {f"{self.prefix}_{f.name.upper()}": _spell(getattr(self, f.name)) for f in dataclasses.fields(self)}


def child_environ(*groups: Settings) -> dict[str, str]:
    """This process's environment with the given groups in it, for a process to start."""
    return dict(os.environ) | {name: value for group in groups for name, value in group.environ().items()}


def _spell(value: object) -> str:
    return ("false", "true")[value] if isinstance(value, bool) else str(value)


def _parse(kind: type, variable: str, text: str):
    if kind is bool:
        if text.lower() not in {"true", "false", "1", "0"}:
            raise SettingsError(f"{variable}={text!r}: must be true or false")
        return text.lower() in {"true", "1"}
    try:
        return kind(text)
    except ValueError:
        raise SettingsError(f"{variable}={text!r}: must be {kind.__name__}") from None


@dataclasses.dataclass(frozen=True)
class StoreSettings(Settings):
    """Where objects are kept. Credentials come from the usual AWS variables, never from here."""

    prefix: ClassVar[str] = "DATAMODELS_STORE"

    url: str = "file://.datamodels/store"  # file://FOLDER or s3://BUCKET/PREFIX
    s3_endpoint: str = ""  # another S3-compatible server than AWS
    s3_region: str = "us-east-1"
    s3_checksums: str = "when_supported"  # when_required for servers that reject boto3's default checksums
    timeout: float = 30.0  # seconds, for one request
    attempts: int = 5  # tries of one request, the first included


@dataclasses.dataclass(frozen=True)
class ServeSettings(Settings):
    """How a gRPC server listens."""

    prefix: ClassVar[str] = "DATAMODELS_SERVE"

    host: str = "127.0.0.1"
    port: int = 0  # 0 takes a free one
    metrics_port: int = 0  # of /metrics by HTTP; 0 takes a free one
    address_file: str = ""  # once serving, JSON {"address", "metrics_address"} is written here, atomically
    workers: int = 16  # threads; a streaming call holds one while it lasts
    reflection: bool = False
    max_message_bytes: int = 8 * 2**20  # received; answers stay under 4 MiB, the default limit of clients
    max_deadline: float = 3600.0  # seconds; a call without a deadline gets this one
    grace: float = 10.0  # seconds for running calls when stopping
    follow_stdin: bool = False  # stop when standard input closes, so that no server outlives a killed parent
    cert_file: str = ""  # PEM: the server's certificate and what is between it and its authority; empty: no TLS
    key_file: str = ""  # PEM: its key. All such files are read again when they change
    client_ca_file: str = ""  # PEM: authorities of which clients must show a certificate; empty: they need none
    health_port: int = 0  # with TLS, health is served without it here, for probes; 0 takes a free one

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
    """Where the services are, and how long to wait for them."""

    prefix: ClassVar[str] = "DATAMODELS_CLIENT"

    sampler: str = ""  # host:port, or any gRPC target such as dns:///name:port
    aggregator: str = ""
    fitter: str = ""
    query: str = ""
    deadline: float = 60.0  # seconds, for one call that is not a watch
    attempts: int = 5  # tries of an idempotent call, the first included; gRPC allows at most 5
    ca_file: str = ""  # PEM: authorities that servers' certificates must come from; empty: no TLS
    cert_file: str = ""  # PEM: a certificate to show, where servers ask for one
    key_file: str = ""  # PEM: its key. All such files are read again when they change
    server_name: str = ""  # in the servers' certificates, where it is not the name they are called by
    token_file: str = ""  # a bearer token of the run, for services that ask for one; read anew for every call

    def __post_init__(self) -> None:
        _check_pair(self)
        for field in ("cert_file", "token_file"):  # a token must not travel in the clear
            if getattr(self, field) and not self.ca_file:
                raise SettingsError(f"{self.prefix}_{field.upper()}: needs TLS; set {self.prefix}_CA_FILE too")


def _check_pair(settings: ServeSettings | ClientSettings) -> None:
    if bool(settings.cert_file) != bool(settings.key_file):
        raise SettingsError(f"{settings.prefix}_CERT_FILE and {settings.prefix}_KEY_FILE: set both, or neither")


SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
"""Where Kubernetes mounts what a pod talks to the API with."""


@dataclasses.dataclass(frozen=True)
class AuthSettings(Settings):
    """Whose bearer tokens a service accepts, where it asks for them; see `rpc.auth`."""

    prefix: ClassVar[str] = "DATAMODELS_AUTH"

    keys: str = ""  # who says with which keys tokens are signed: https://HOST of a Kubernetes API server, or a JWKS
    # file, read again every few minutes; empty: no tokens are asked for
    issuer: str = ""  # of the tokens; empty: the API server is asked
    subjects: str = ""  # service accounts with commas between: system:serviceaccount:NAMESPACE:NAME
    ca_file: str = f"{SERVICE_ACCOUNT}/ca.crt"  # of the API server
    token_file: str = f"{SERVICE_ACCOUNT}/token"  # to ask it with

    def __post_init__(self) -> None:
        if self.keys.startswith("http://"):
            raise SettingsError(f"{self.prefix}_KEYS={self.keys}: must be https://HOST, or a file")
        if self.keys and not self.subjects:
            raise SettingsError(f"{self.prefix}_SUBJECTS: must name the service accounts whose tokens are accepted")
        if self.keys and not self.keys.startswith("https://") and not self.issuer:
            raise SettingsError(f"{self.prefix}_ISSUER: must name the issuer of the keys in {self.keys}")


@dataclasses.dataclass(frozen=True)
class TelemetrySettings(Settings):
    prefix: ClassVar[str] = "DATAMODELS_LOG"

    level: str = "info"  # debug, info, warning or error
    format: str = "json"  # json, or console for people


@dataclasses.dataclass(frozen=True)
class TrainerSettings(Settings):
    prefix: ClassVar[str] = "DATAMODELS_TRAINER"

    threads: int = 1  # of the numerical libraries; small models train fastest with one thread in many processes
    heartbeat: float = 1800.0  # seconds; the local runner kills, and starts again, a trainer without progress for so
    # long. Progress is a start, a batch or a commit that ended; a batch of large models may take many minutes
    heartbeat_file: str = ""  # its time of change is that of the last progress; runners name one

    def __post_init__(self) -> None:
        if not self.heartbeat > 0:  # not a number, too
            raise SettingsError(f"{self.prefix}_HEARTBEAT={self.heartbeat}: must be a number of seconds above 0")


@dataclasses.dataclass(frozen=True)
class IndexedJobSettings(Settings):
    """What Kubernetes tells the pods of an Indexed Job."""

    prefix: ClassVar[str] = "JOB"

    completion_index: int = -1  # the chunk to train, or the share of a fit to solve; -1 outside of such a Job


@dataclasses.dataclass(frozen=True)
class ClusterSettings(Settings):
    """What the chart tells a driver; its template sets all but the spec, which `datamodels submit` adds."""

    prefix: ClassVar[str] = "DATAMODELS_CLUSTER"

    spec: str = ""  # of the run, as JSON
    templates: str = "/etc/datamodels/jobs"  # folder of the chart's Job templates
    namespace: str = ""  # of the Jobs
    owner: str = ""  # name of the driver's Job, which owns the Jobs that it creates
    owner_uid: str = ""
    fitter_start: float = 3600.0  # seconds to wait for the pod of a fitter Job; those in a queue do not count
    settle: float = 60.0  # seconds that a driver whose metrics are read stays at its end, for the last to be read too


@dataclasses.dataclass(frozen=True)
class AggregatorSettings(Settings):
    prefix: ClassVar[str] = "DATAMODELS_AGGREGATOR"

    publish_interval: float = 2.0  # seconds; manifests are written at most this often
    preflight_writers: int = 32  # conditional writes raced at start-up


@dataclasses.dataclass(frozen=True)
class FitterSettings(Settings):
    prefix: ClassVar[str] = "DATAMODELS_FITTER"

    scratch: str = str(Path(tempfile.gettempdir()) / "datamodels-fitter")  # folder of shards, sums and checkpoints
    keep_bytes: int = 16 * 2**30  # of shards and sums that stay for the next fits, of all runs; 0 keeps none
    device: str = "auto"  # cpu, cuda, or auto: cuda where CuPy and a device are there
    threads: int = 0  # 0: as many as there are cores
    block: int = 0  # most targets solved and committed as one; 0: 256 on the CPU, 4,096 on a GPU
    memory: float = 0.0  # GiB that a fit may take; 0: what the machine, or its control group, has

    def __post_init__(self) -> None:
        for field in ("threads", "block", "memory"):
            if getattr(self, field) < 0:
                raise SettingsError(f"{self.prefix}_{field.upper()}={getattr(self, field)}: must be 0 or more")


@dataclasses.dataclass(frozen=True)
class QuerySettings(Settings):
    prefix: ClassVar[str] = "DATAMODELS_QUERY"

    refresh: float = 5.0  # seconds for which the newest fit of a run is not looked for again
    capacity: int = 8  # fits kept in memory, the latest used
