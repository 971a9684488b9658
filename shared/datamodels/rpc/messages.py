"""Convert results of analyses to and from messages with the same fields.

A dataclass and its message have fields of the same names. An array becomes a Tensor, a pair of floats an Interval, and
a nested dataclass a nested message. A field of the dataclass that the message lacks is not sent.
"""

from __future__ import annotations

import dataclasses
import typing
from typing import Any, TypeVar

import numpy as np
from google.protobuf.message import Message

from datamodels.rpc import codec
from datamodels.v1 import query_pb2, types_pb2

T = TypeVar("T")


def fill(message: Message, value: Any) -> Message:
    """Set the fields of a message to those of a dataclass. Returns the message.

    Raises AttributeError if the dataclass lacks a field of the message.
    """
    for field in message.DESCRIPTOR.fields:
        found = getattr(value, field.name)
        match found:
            case np.ndarray():
                getattr(message, field.name).CopyFrom(codec.to_tensor(found))
            case (low, high):
                getattr(message, field.name).CopyFrom(query_pb2.Interval(low=low, high=high))
            case _ if dataclasses.is_dataclass(found):
                fill(getattr(message, field.name), found)
            case _:
                setattr(message, field.name, found)
    return message


def read(message: Message, kind: type[T]) -> T:
    """Build a dataclass from a message. Raises InputError for a malformed tensor."""
    hints = typing.get_type_hints(kind)
    return kind(**{f.name: _value(getattr(message, f.name), f.name, hints[f.name]) for f in message.DESCRIPTOR.fields})


def _value(found: Any, name: str, hint: Any) -> Any:
    if isinstance(found, types_pb2.Tensor):
        return codec.from_tensor(found, name, dtypes=codec.DTYPES, shape=(None,) * len(found.shape))
    if isinstance(found, query_pb2.Interval):
        return found.low, found.high
    return read(found, hint) if isinstance(found, Message) else found
