"""Convert errors to gRPC statuses and back.

The status of a DatamodelsError has the gRPC code of its class, its message, and a google.rpc.ErrorInfo that names the
class, so that the client raises the same class. Statuses that gRPC itself makes are translated by code.
"""

from __future__ import annotations

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from datamodels import errors
from datamodels.errors import DatamodelsError

DOMAIN = "datamodels"

MAX_MESSAGE_BYTES = 1500
"""Largest message. The trailers hold it twice, percent-encoded and in base64, and peers allow 8 KiB of trailers."""

BY_CODE: dict[grpc.StatusCode, type[DatamodelsError]] = {
    grpc.StatusCode.CANCELLED: errors.UnavailableError,
    grpc.StatusCode.UNKNOWN: DatamodelsError,
    grpc.StatusCode.INVALID_ARGUMENT: errors.InputError,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.DeadlineError,
    grpc.StatusCode.NOT_FOUND: errors.NotFoundError,
    grpc.StatusCode.ALREADY_EXISTS: errors.ConflictError,
    grpc.StatusCode.PERMISSION_DENIED: errors.DeniedError,
    grpc.StatusCode.UNAUTHENTICATED: errors.TokenError,
    # Without an ErrorInfo, gRPC itself sent it, because a message exceeds the size limit.
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.InputError,
    grpc.StatusCode.FAILED_PRECONDITION: errors.NotReadyError,
    grpc.StatusCode.ABORTED: errors.UnavailableError,
    grpc.StatusCode.OUT_OF_RANGE: errors.InputError,
    grpc.StatusCode.UNIMPLEMENTED: errors.ConfigError,
    grpc.StatusCode.INTERNAL: DatamodelsError,
    grpc.StatusCode.UNAVAILABLE: errors.UnavailableError,
    grpc.StatusCode.DATA_LOSS: errors.CorruptObjectError,
}
"""Error class for each code except OK, for statuses that name no class."""


def to_status(error: DatamodelsError) -> grpc.Status:
    """Return the status for an error."""
    message = _cut(str(error))
    detail = any_pb2.Any()
    detail.Pack(error_details_pb2.ErrorInfo(reason=type(error).__name__, domain=DOMAIN))
    code = grpc.StatusCode[error.grpc_code]
    return rpc_status.to_status(status_pb2.Status(code=code.value[0], message=message, details=[detail]))


def _cut(message: str) -> str:
    raw = message.encode("utf-8", "replace")
    if len(raw) <= MAX_MESSAGE_BYTES:
        return raw.decode()
    return raw[: MAX_MESSAGE_BYTES - 3].decode("utf-8", "ignore") + "..."


def to_error(call: grpc.Call, address: str) -> DatamodelsError:
    """Return the error for a failed call."""
    named = _named(call)
    if named is not None:
        return _restored(named, call.details() or "")
    code = call.code()
    return BY_CODE[code](f"{address}: {call.details() or 'no details'} ({code.name})")


def _named(call: grpc.Call) -> type[DatamodelsError] | None:
    """Return the error class that the status names, or None."""
    try:
        status = rpc_status.from_call(call)
    except ValueError:  # the details contradict the status, so no server of this package sent them
        return None
    for detail in status.details if status else ():
        info = error_details_pb2.ErrorInfo()
        if detail.Is(info.DESCRIPTOR) and detail.Unpack(info) and info.domain == DOMAIN:
            found = getattr(errors, info.reason, None)
            if isinstance(found, type) and issubclass(found, DatamodelsError):
                return found
    return None


def _restored(kind: type[DatamodelsError], message: str) -> DatamodelsError:
    return kind(message.split("\n")) if issubclass(kind, errors.SpecError) else kind(message)
