"""Arrays, to and from messages. Designs and runs have `run_codec`, which needs more packages than a client has."""

from __future__ import annotations

import math

import numpy as np

from datamodels.errors import InputError
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


def to_tensor(array: np.ndarray) -> types_pb2.Tensor:
    """A message of an array of one of the types above."""
    array = np.asarray(array)
    dtype = array.dtype.newbyteorder("<")
    return types_pb2.Tensor(dtype=_CODES[dtype], shape=array.shape, data=array.astype(dtype, copy=False).tobytes())


def from_tensor(
    tensor: types_pb2.Tensor, name: str, *, dtypes: tuple[str, ...], shape: tuple[int | None, ...]
) -> np.ndarray:
    """The array of a message; read-only, no copy.

    `name` is the field, for messages. `dtypes` are those allowed, e.g. ("int32",). `shape` is what is expected, None
    for any length. Raises InputError where the message is anything else.
    """
    dtype = _DTYPES.get(tensor.dtype)
    if dtype is None or dtype.name not in dtypes:
        raise InputError(f"{name}: has type {dtype and dtype.name}, must be {' or '.join(dtypes)}")
    found = tuple(tensor.shape)
    if len(found) != len(shape) or any(f < 0 or (s is not None and f != s) for f, s in zip(found, shape, strict=True)):
        wanted = ", ".join("any" if s is None else str(s) for s in shape)
        raise InputError(f"{name}: has shape ({', '.join(map(str, found))}), must be ({wanted})")
    if len(tensor.data) != math.prod(found) * dtype.itemsize:
        raise InputError(
            f"{name}: has {len(tensor.data)} bytes, shape {found} of {dtype.name} takes "
            f"{math.prod(found) * dtype.itemsize}"
        )
    return np.frombuffer(tensor.data, dtype=dtype).reshape(found)


def optional_int32(tensor: types_pb2.Tensor, name: str, length: int | None = None) -> np.ndarray | None:
    """int32[length], or None for a message that was left empty."""
    if tensor == types_pb2.Tensor():
        return None
    return from_tensor(tensor, name, dtypes=("int32",), shape=(length,))
