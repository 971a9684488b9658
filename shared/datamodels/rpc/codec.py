"""Convert arrays and outputs to and from messages. `run_codec` converts designs and runs; it imports more packages."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np

from datamodels.errors import InputError, SpecError
from datamodels.outputs import MARGIN, Output
from datamodels.spans import Span
from datamodels.v1 import types_pb2

_DTYPES: dict[types_pb2.Tensor.DType, np.dtype] = {
    types_pb2.Tensor.DTYPE_UINT8: np.dtype("u1"),
    types_pb2.Tensor.DTYPE_INT32: np.dtype("<i4"),
    types_pb2.Tensor.DTYPE_INT64: np.dtype("<i8"),
    types_pb2.Tensor.DTYPE_FLOAT16: np.dtype("<f2"),
    types_pb2.Tensor.DTYPE_FLOAT32: np.dtype("<f4"),
    types_pb2.Tensor.DTYPE_FLOAT64: np.dtype("<f8"),
}
DTYPES = tuple(dtype.name for dtype in _DTYPES.values())
_CODES = {dtype: code for code, dtype in _DTYPES.items()}


def dtype_code(name: str) -> types_pb2.Tensor.DType:
    """Return the code of a dtype in DTYPES."""
    return _CODES[np.dtype(name).newbyteorder("<")]


def dtype_name(code: types_pb2.Tensor.DType, default: str) -> str:
    """Return the name of a dtype; `default` for none. Raises InputError for an unknown code."""
    if not code:
        return default
    if code not in _DTYPES:
        raise InputError(f"dtype: has the unknown code {code}")
    return _DTYPES[code].name


def to_tensor(array: np.ndarray) -> types_pb2.Tensor:
    """Convert an array, whose dtype must be in DTYPES, to a message."""
    return fill_tensor(types_pb2.Tensor(), array)


def fill_tensor(tensor: types_pb2.Tensor, array: np.ndarray) -> types_pb2.Tensor:
    """Make an empty message that of an array. Unlike `to_tensor`, it saves a copy if the message is within another."""
    array = np.asarray(array)
    dtype = array.dtype.newbyteorder("<")
    tensor.dtype, tensor.data = _CODES[dtype], array.astype(dtype, copy=False).tobytes()
    tensor.shape.extend(array.shape)
    return tensor


def from_tensor(
    tensor: types_pb2.Tensor, name: str, *, dtypes: tuple[str, ...], shape: tuple[int | None, ...]
) -> np.ndarray:
    """Return the array of a message, read-only.

    name    of the field, for error messages
    dtypes  accepted dtypes, e.g. ("int32",)
    shape   expected shape; None stands for any length

    Raises InputError if the message has another dtype or shape.
    """
    dtype = _DTYPES.get(tensor.dtype)
    if dtype is None or dtype.name not in dtypes:
        raise InputError(f"{name}: has type {dtype and dtype.name}, must be {' or '.join(dtypes)}")
    found = tuple(tensor.shape)
    if len(found) != len(shape) or any(f < 0 or (s is not None and f != s) for f, s in zip(found, shape, strict=True)):
        wanted = ", ".join("any" if s is None else str(s) for s in shape)
        raise InputError(f"{name}: has shape ({', '.join(map(str, found))}), must be ({wanted})")
    data = tensor.data  # a copy, each time that one asks for it
    if len(data) != math.prod(found) * dtype.itemsize:
        raise InputError(
            f"{name}: has {len(data)} bytes, shape {found} of {dtype.name} takes {math.prod(found) * dtype.itemsize}"
        )
    return np.frombuffer(data, dtype=dtype).reshape(found)


def optional_int32(tensor: types_pb2.Tensor, name: str, length: int | None = None) -> np.ndarray | None:
    """Return int32[length], or None for an empty message. Raises InputError."""
    if tensor == types_pb2.Tensor():
        return None
    return from_tensor(tensor, name, dtypes=("int32",), shape=(length,))


@functools.lru_cache(maxsize=100)
def to_output(output: Output) -> types_pb2.Output:
    return types_pb2.Output(**output.document())


def from_output(message: types_pb2.Output) -> Output:
    """Return the output of a message; a margin for an empty one, which a server of version 0.1.0 sends.

    Raises InputError for values that do not fit each other.
    """
    if message == types_pb2.Output():
        return MARGIN
    names = ("higher_is_better", "threshold", "lowest", "highest")
    optional = {name: getattr(message, name) if message.HasField(name) else None for name in names}
    try:
        return Output(message.name, message.unit, **optional)
    except SpecError as error:
        raise InputError("; ".join(error.faults)) from None


def to_span(span: Span) -> types_pb2.Span:
    return types_pb2.Span(**span._asdict())


def from_span(message: types_pb2.Span) -> Span:
    """Return the span of a message. Raises InputError if it is not in its text."""
    if not 0 <= message.first <= message.last <= len(message.text):
        raise InputError(
            f"span: is letters {message.first} to {message.last} of an excerpt of {len(message.text)} letters"
        )
    return Span(message.text, message.first, message.last)


def from_spans(messages: Sequence[types_pb2.Span], targets: int) -> tuple[Span, ...]:
    """Return the spans of a run's targets. Raises InputError unless there is one for each target, or none at all."""
    if messages and len(messages) != targets:
        raise InputError(f"spans: has {len(messages)} for {targets} targets")
    return tuple(map(from_span, messages))
