"""Every error that this package raises on purpose.

::

    DatamodelsError
    ├── ConfigError                 what the user wrote cannot be run
    │   ├── SpecError               one line per faulty field of a RunSpec
    │   ├── SettingsError           an environment variable or option
    │   └── ClusterError            a Kubernetes cluster refuses it: quota, rights, a faulty object
    ├── InputError                  what a caller sent is malformed
    │   ├── MaskError               a subset of the wrong length, or with columns out of range
    │   ├── OutputsError            model outputs of the wrong shape, type or range, or not finite
    │   └── PageTokenError          a page token that this service did not give out
    ├── NotFoundError
    │   ├── RunNotFoundError
    │   └── ObjectNotFoundError     a key that should be there is not
    ├── TargetRangeError            a target index outside 0..n-1
    ├── ConflictError               it exists already, and is something else
    ├── NotReadyError               the stage before has not committed what this needs
    ├── StoreError                  the object store
    │   ├── StoreUnavailableError   it does not answer; trying again may help
    │   ├── StoreFullError          no space left
    │   ├── StoreUnsafeError        it ignores conditional writes, so commits would be lost
    │   └── CorruptObjectError      an object is not what its writer recorded
    ├── UnavailableError            a service cannot be reached, or ended the call; trying again may help
    ├── DeadlineError               a call took longer than it was given
    ├── AccessError                 the caller may not do this
    │   ├── TokenError              there is no token, or it is not accepted; a newer one may be
    │   └── DeniedError             the token is good, but for something else
    ├── PortInUseError
    └── StageError                  a stage of a run ended without finishing

A message says what was wrong, where, and what to do, in one line. Each class knows the gRPC code that it travels as
and the code that a process ends with because of it; `rpc.interceptors` and `cli` read them from here.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence


class ExitCode(enum.IntEnum):
    """How processes end. Job failure policies and the local runner act on these numbers."""

    DONE = 0
    FAILED = 1
    CONFIG = 2
    """What was asked for cannot be run; trying again changes nothing."""
    TRANSIENT = 75
    """Something outside failed (EX_TEMPFAIL); trying again may help."""
    TERMINATED = 143
    """Stopped by SIGTERM; everything whole was committed."""
    INTERRUPTED = 130
    """Stopped by SIGINT; everything whole was committed."""


def one_line(error: BaseException) -> str:
    """An error's type and message, whatever it is, without line breaks."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


class DatamodelsError(Exception):
    """Base of all errors raised on purpose."""

    grpc_code = "INTERNAL"
    exit_code = ExitCode.FAILED


class ConfigError(DatamodelsError):
    grpc_code = "INVALID_ARGUMENT"
    exit_code = ExitCode.CONFIG


class SpecError(ConfigError):
    """A RunSpec that cannot be run.

    `faults` holds one line per faulty field: the field, its value, and what is allowed.
    """

    def __init__(self, faults: Sequence[str] | str):
        self.faults = (faults,) if isinstance(faults, str) else tuple(faults)
        super().__init__("\n".join(self.faults))


class SettingsError(ConfigError):
    pass


class ClusterError(ConfigError):
    grpc_code = "FAILED_PRECONDITION"


class InputError(DatamodelsError):
    grpc_code = "INVALID_ARGUMENT"
    exit_code = ExitCode.CONFIG


class MaskError(InputError):
    pass


class OutputsError(InputError):
    pass


class PageTokenError(InputError):
    pass


class NotFoundError(DatamodelsError):
    grpc_code = "NOT_FOUND"
    exit_code = ExitCode.CONFIG


class RunNotFoundError(NotFoundError):
    pass


class ObjectNotFoundError(NotFoundError):
    exit_code = ExitCode.FAILED


class TargetRangeError(DatamodelsError):
    grpc_code = "OUT_OF_RANGE"
    exit_code = ExitCode.CONFIG


class ConflictError(DatamodelsError):
    grpc_code = "ALREADY_EXISTS"
    exit_code = ExitCode.CONFIG


class NotReadyError(DatamodelsError):
    grpc_code = "FAILED_PRECONDITION"


class StoreError(DatamodelsError):
    grpc_code = "INTERNAL"


class StoreUnavailableError(StoreError):
    grpc_code = "UNAVAILABLE"
    exit_code = ExitCode.TRANSIENT


class StoreFullError(StoreError):
    grpc_code = "RESOURCE_EXHAUSTED"
    exit_code = ExitCode.TRANSIENT


class StoreUnsafeError(StoreError):
    grpc_code = "FAILED_PRECONDITION"
    exit_code = ExitCode.CONFIG


class CorruptObjectError(StoreError):
    grpc_code = "DATA_LOSS"


class UnavailableError(DatamodelsError):
    grpc_code = "UNAVAILABLE"
    exit_code = ExitCode.TRANSIENT


class DeadlineError(DatamodelsError):
    grpc_code = "DEADLINE_EXCEEDED"
    exit_code = ExitCode.TRANSIENT


class AccessError(DatamodelsError):
    grpc_code = "PERMISSION_DENIED"
    exit_code = ExitCode.CONFIG


class TokenError(AccessError):
    grpc_code = "UNAUTHENTICATED"
    exit_code = ExitCode.TRANSIENT


class DeniedError(AccessError):
    pass


class PortInUseError(DatamodelsError):
    grpc_code = "UNAVAILABLE"
    exit_code = ExitCode.CONFIG


class StageError(DatamodelsError):
    """A stage ended without finishing. `exit_code` is that of its process where it has a meaning here."""

    def __init__(self, message: str, exit_code: int = ExitCode.FAILED):
        super().__init__(message)
        self.exit_code = ExitCode(exit_code) if exit_code in set(ExitCode) else ExitCode.FAILED
