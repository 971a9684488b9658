"""Define every error that this package raises on purpose.

::

    DatamodelsError
    ├── ConfigError
    │   ├── SpecError
    │   ├── SettingsError
    │   └── ClusterError
    ├── InputError
    │   ├── MaskError
    │   ├── OutputsError
    │   └── PageTokenError
    ├── NotFoundError
    │   ├── RunNotFoundError
    │   └── ObjectNotFoundError
    ├── TargetRangeError
    ├── ConflictError
    ├── NotReadyError
    ├── RunInUseError
    ├── StoreError
    │   ├── StoreUnavailableError
    │   ├── StoreFullError
    │   ├── StoreUnsafeError
    │   ├── SupersededError
    │   └── CorruptObjectError
    ├── UnavailableError
    │   └── BusyError
    ├── DeadlineError
    ├── AccessError
    │   ├── TokenError
    │   └── DeniedError
    ├── PortInUseError
    └── StageError

A message says what was wrong, where, and what to do, in one line. Each class knows the gRPC code that it travels as,
from which its status of HTTP follows, and the code that a process ends with because of it; `rpc.interceptors`, the
explorer and `cli` read them from here. The first paragraph of a class's docstring says what the error means, the second
what to do about it; `make reference` collects them in docs/reference/errors.md.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence

from datamodels.screen import redact

HTTP_STATUS = {
    "INVALID_ARGUMENT": 400,
    "OUT_OF_RANGE": 404,
    "FAILED_PRECONDITION": 409,
    "ALREADY_EXISTS": 409,
    "ABORTED": 409,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "RESOURCE_EXHAUSTED": 429,
    "INTERNAL": 500,
    "DATA_LOSS": 500,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
"""The status of HTTP for each gRPC code of an error."""


class ExitCode(enum.IntEnum):
    """How processes end. Job failure policies and the local runner act on these numbers."""

    DONE = 0
    """The process did what was asked for. A service ends with it after SIGTERM, SIGINT or the end of its standard
    input."""
    FAILED = 1
    """The process failed; the message says why."""
    CONFIG = 2
    """What was asked for cannot be run; trying again changes nothing."""
    TRANSIENT = 75
    """Something outside of the process failed (EX_TEMPFAIL); trying again may help."""
    TERMINATED = 143
    """SIGTERM stopped the process. Every finished part of its work was committed."""
    INTERRUPTED = 130
    """SIGINT, usually Ctrl-C, stopped the process. Every finished part of its work was committed."""


class Terminated(SystemExit):
    """SIGTERM asks a command to end. It may be raised inside a user's code, whose fault it is not."""


def one_line(error: BaseException) -> str:
    """Return the type and the message, if there is one, of any error, without line breaks and secrets.

    XGBoost ends its messages with a trace of addresses, which is left out.
    """
    message = " ".join(str(error).split()).partition(" Stack trace: [bt] ")[0]
    return redact(": ".join(filter(None, (type(error).__name__, message))))


class DatamodelsError(Exception):
    """Base of all errors that are raised on purpose.

    Read the message; if it does not help, report it as a bug.
    """

    grpc_code = "INTERNAL"
    exit_code = ExitCode.FAILED

    @property
    def http_status(self) -> int:
        """The status with which a service that speaks HTTP answers."""
        return HTTP_STATUS[self.grpc_code]

    def __init__(self, *given: object):
        super().__init__(*(redact(part) if isinstance(part, str) else part for part in given))


class ConfigError(DatamodelsError):
    """A spec, setting or option is wrong, so the command cannot run.

    Correct what the message names. Trying again changes nothing.
    """

    grpc_code = "INVALID_ARGUMENT"
    exit_code = ExitCode.CONFIG


class SpecError(ConfigError):
    """A RunSpec cannot be run.

    Correct the fields that the message names, one on each line.

    `faults` holds one line per faulty field: the field, its value, and what is allowed.
    """

    def __init__(self, faults: Sequence[str] | str):
        self.faults = tuple(map(redact, (faults,) if isinstance(faults, str) else faults))
        super().__init__("\n".join(self.faults))


class SettingsError(ConfigError):
    """An environment variable or an option has a wrong value, or one that does not work here.

    Change the variable or the option that the message names.
    """


class ClusterError(ConfigError):
    """The Kubernetes cluster refuses a request: a quota, missing rights, a faulty object.

    Ask whoever runs the cluster, or change the chart's values that the message names.
    """

    grpc_code = "FAILED_PRECONDITION"


class InputError(DatamodelsError):
    """A request is malformed.

    Correct the request.
    """

    grpc_code = "INVALID_ARGUMENT"
    exit_code = ExitCode.CONFIG


class MaskError(InputError):
    """A subset has the wrong length, or columns that are out of range.

    Send masks with one bit for each column of the run.
    """


class OutputsError(InputError):
    """Outputs of models have the wrong shape or type, are not finite, or are too large for float32.

    Correct the `outputs` method of the trainer.
    """


class PageTokenError(InputError):
    """This service did not issue the page token for this list.

    Send the token that came with the previous page, or none for the first page.
    """


class NotFoundError(DatamodelsError):
    """A requested thing does not exist.

    Check its name.
    """

    grpc_code = "NOT_FOUND"
    exit_code = ExitCode.CONFIG


class RunNotFoundError(NotFoundError):
    """The store has no such run.

    Check the name with `datamodels status`, and that the store is the right one.
    """


class ObjectNotFoundError(NotFoundError):
    """The store lacks an object that should be there.

    Check the run with `datamodels verify RUN`, and restore the object from a backup.
    """

    exit_code = ExitCode.FAILED


class TargetRangeError(DatamodelsError):
    """A target's index is not in 0 to n - 1.

    `datamodels query targets RUN` lists the targets.
    """

    grpc_code = "OUT_OF_RANGE"
    exit_code = ExitCode.CONFIG


class ConflictError(DatamodelsError):
    """A different object, run or data set already exists under this name.

    Choose another name, or restore what the message names.
    """

    grpc_code = "ALREADY_EXISTS"
    exit_code = ExitCode.CONFIG


class NotReadyError(DatamodelsError):
    """The preceding stage has not yet committed what is needed.

    Wait for that stage, or run it.
    """

    grpc_code = "FAILED_PRECONDITION"


class RunInUseError(DatamodelsError):
    """Something may be working on the run, so it is not changed.

    Stop what works on it, or wait until it has ended. `--force` changes the run all the same.
    """

    grpc_code = "FAILED_PRECONDITION"


class StoreError(DatamodelsError):
    """The object store failed.

    The message says how; check the store.
    """

    grpc_code = "INTERNAL"


class StoreUnavailableError(StoreError):
    """The object store does not answer.

    Try again; if it lasts, check the store and the network.
    """

    grpc_code = "UNAVAILABLE"
    exit_code = ExitCode.TRANSIENT


class StoreFullError(StoreError):
    """There is no space left, in the object store or on the local disk.

    Free some space and try again. Nothing that was committed is lost.
    """

    grpc_code = "RESOURCE_EXHAUSTED"
    exit_code = ExitCode.TRANSIENT


class StoreUnsafeError(StoreError):
    """The object store ignores conditional writes, so commits could be lost.

    Use a store that honours `If-None-Match: *`.
    """

    grpc_code = "FAILED_PRECONDITION"
    exit_code = ExitCode.CONFIG


class SupersededError(StoreError):
    """An object was removed by `datamodels vacuum`, `prune` or `delete` after this read had begun.

    Start again. It then reads what replaced the object, or says that the run is gone.
    """

    grpc_code = "ABORTED"
    exit_code = ExitCode.TRANSIENT


class CorruptObjectError(StoreError):
    """An object differs from what its writer recorded.

    Restore it from a backup. Do not delete it: the manifest that lists it would become unreadable. Without a backup of
    outputs, `datamodels repair RUN --damaged` has their models trained again.
    """

    grpc_code = "DATA_LOSS"


class UnavailableError(DatamodelsError):
    """A service cannot be reached, or ended the call.

    Try again; if it lasts, check that the service runs at this address.
    """

    grpc_code = "UNAVAILABLE"
    exit_code = ExitCode.TRANSIENT


class BusyError(UnavailableError):
    """A service has no memory for the call at the moment.

    Wait and try again; if it lasts, give the service more memory, or send less at a time.
    """

    grpc_code = "RESOURCE_EXHAUSTED"


class DeadlineError(DatamodelsError):
    """A call exceeded its deadline or the server's time limit.

    Ask for less, or raise the deadline.
    """

    grpc_code = "DEADLINE_EXCEEDED"
    exit_code = ExitCode.TRANSIENT


class AccessError(DatamodelsError):
    """The caller may not do this.

    Ask for the rights that the message names.
    """

    grpc_code = "PERMISSION_DENIED"
    exit_code = ExitCode.CONFIG


class TokenError(AccessError):
    """A call has no token, or its token is not accepted.

    Try again with a newer token.
    """

    grpc_code = "UNAUTHENTICATED"
    exit_code = ExitCode.TRANSIENT


class DeniedError(AccessError):
    """The token is valid, but for another run or account.

    Use a token of the run that the call is about.
    """


class PortInUseError(DatamodelsError):
    """Another process listens on the port.

    Stop it, or choose another port.
    """

    grpc_code = "UNAVAILABLE"
    exit_code = ExitCode.CONFIG


class StageError(DatamodelsError):
    """A stage of a run ended without finishing.

    Do what the message says. The same command, started again, continues from what is committed.

    `exit_code` is the exit code of the stage's process if that is a member of `ExitCode`, else `ExitCode.FAILED`.
    """

    def __init__(self, message: str, exit_code: int = ExitCode.FAILED):
        super().__init__(message)
        self.exit_code = ExitCode(exit_code) if exit_code in set(ExitCode) else ExitCode.FAILED
