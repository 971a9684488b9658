"""Put large messages together from pieces, without the copies of Protocol Buffers.

A message that is built as an object copies each array into itself, each message into the one around it, and all of it
when it is encoded. Here arrays are copied once, when the pieces are joined.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from google.protobuf.message import Message

from datamodels.rpc import codec
from datamodels.storage.varint import varint
from datamodels.v1 import types_pb2

Pieces = Sequence[bytes | memoryview]


def message(kind: type[Message], fields: Mapping[str, Pieces]) -> list[bytes | memoryview]:
    """Return the pieces of a message, given those of its fields by name, which must be bytes or messages, one each."""
    found: list[bytes | memoryview] = []
    for name, pieces in fields.items():
        found += [varint(kind.DESCRIPTOR.fields_by_name[name].number << 3 | 2) + varint(sum(map(len, pieces))), *pieces]
    return found


def tensor(array: np.ndarray) -> list[bytes | memoryview]:
    """Return the pieces of what `codec.to_tensor` returns."""
    array = np.ascontiguousarray(array)
    about = types_pb2.Tensor(dtype=codec.dtype_code(array.dtype.name), shape=array.shape)
    values = array.astype(array.dtype.newbyteorder("<"), copy=False).reshape(-1).view(np.uint8).data
    return [about.SerializeToString(), *(message(types_pb2.Tensor, {"data": [values]}) if len(values) else [])]
