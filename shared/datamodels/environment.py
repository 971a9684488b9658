"""Read settings from environment variables. No other module reads os.environ.

The field `f` of a group with prefix `P` is read from the environment variable `P_F`. `settings` defines the groups.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping
from typing import Annotated, ClassVar, Self, get_type_hints

from datamodels import screen
from datamodels.errors import SettingsError

Seconds = Annotated[float, "seconds"]
Bytes = Annotated[int, "bytes"]
Gibibytes = Annotated[float, "GiB"]


@dataclasses.dataclass(frozen=True)
class Settings:
    """Base of all groups of settings."""

    prefix: ClassVar[str] = "DATAMODELS"

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Read the group from the environment. Raises SettingsError, which names the faulty variable."""
        environ = os.environ if environ is None else environ
        hints = get_type_hints(cls)
        values = {}
        for field in dataclasses.fields(cls):
            variable = f"{cls.prefix}_{field.name.upper()}"
            if variable in environ:
                values[field.name] = _parse(hints[field.name], variable, environ[variable])
        return cls(**values)

    def environ(self) -> dict[str, str]:
        """Return the environment variables from which `load` rebuilds this group."""
        return {f"{self.prefix}_{f.name.upper()}": _spell(getattr(self, f.name)) for f in dataclasses.fields(self)}


UNUSABLE = {
    "GRPC_POLL_STRATEGY": "all|epoll1|poll|none",
    "JOBLIB_MULTIPROCESSING|LOKY_MAX_DEPTH|SKLEARN_WORKING_MEMORY": r"\s*[-+]?\d+\s*",
    "HF_HUB_(DOWNLOAD|ETAG)_TIMEOUT": r"\s*[-+]?\d+\s*",
    "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python|cpp|upb",
    "PYTORCH_JIT": "0|1",
    "TQDM_(NCOLS|NROWS|POSITION|INITIAL|TOTAL|UNIT_DIVISOR)": r"-?\d+",
    "TQDM_(MININTERVAL|MAXINTERVAL|MINITERS|SMOOTHING|DELAY)": r"-?[\d.]+(e-?\d+)?",
}
"""Variables of other libraries that break an import or end the process, unless they have these values. All others that
were tried with wrong values change nothing, or make the library print a warning. Only PyTorch knows the values of
TORCH_LOGS; see `blamed`."""
QUOTED = 2
"""Fewest letters of a value by which an error counts as being about it."""


def drop_unusable() -> None:
    """Remove variables from this process's environment that would break libraries, and so all commands."""
    for name, text in list(os.environ.items()):
        if any(re.fullmatch(known, name) and not re.fullmatch(allowed, text) for known, allowed in UNUSABLE.items()):
            del os.environ[name]


def blamed(text: str) -> list[str]:
    """Return the variables that an error of an import is likely about: it has their name, or their value in quotes."""
    found = []
    for name, value in os.environ.items():
        named = "_" in name and re.search(rf"(?<![A-Za-z0-9_]){re.escape(name)}(?![A-Za-z0-9_])", text)
        if named or (len(value) >= QUOTED and repr(value) in text):
            found.append(name)
    return sorted(found)


SECRET = re.compile(r"SECRET|TOKEN|PASSW|CREDENTIAL|API_?KEY", re.IGNORECASE)
"""Names of variables whose values are secrets, unless they name files or addresses."""
NO_SECRET = re.compile(r"_(FILE|URI|URL|PATH|DIR)S?$|PARALLELISM$", re.IGNORECASE)


def hide_secrets() -> None:
    """Let no message, log or output show what this process's environment holds of secrets; see `screen`."""
    screen.hide(text for name, text in os.environ.items() if SECRET.search(name) and not NO_SECRET.search(name))


def has_collector() -> bool:
    """Return whether the variables of OpenTelemetry name a collector of spans."""
    return any(os.environ.get(f"OTEL_EXPORTER_OTLP_{name}") for name in ("ENDPOINT", "TRACES_ENDPOINT"))


def child_environ(*groups: Settings) -> dict[str, str]:
    """Return this process's environment, overridden by the given groups, for a child process."""
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
