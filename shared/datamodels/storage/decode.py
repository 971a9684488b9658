"""Turn JSON values from the store into typed values, so that a wrong record is a damaged object and nothing worse."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import functools
import types
import typing
import zlib
from collections.abc import Iterator, Sized
from typing import Any, TypeVar

import numpy as np

from datamodels.errors import CorruptObjectError, DatamodelsError, InputError, SpecError, one_line

T = TypeVar("T")

INTEGERS = range(-(2**63), 2**64)
"""What some field of a message can hold."""


def build(kind: type[T], value: Any) -> T:
    """Return the value of a type that a JSON value describes.

    A dataclass is made from an object with its fields, and a tuple from an array; all else must be of the type already.
    Raises TypeError, which names the value.
    """
    return _build(kind, value, kind.__name__)


def packed_text(text: str | bytes) -> str:
    """Return a text or bytes as a short text for JSON: compressed, in base64."""
    return base64.b64encode(zlib.compress(text.encode() if isinstance(text, str) else text)).decode()


def unpacked_text(text: str) -> bytes:
    """Return the bytes of what `packed_text` returned. Raises ValueError, TypeError, zlib.error."""
    return zlib.decompress(base64.b64decode(text))


def packed(array: np.ndarray | None, dtype: str = "<i4") -> str | None:
    """Return an array as a short text for JSON; None for None."""
    return None if array is None else packed_text(array.astype(dtype).tobytes())


def unpacked_array(text: str, dtype: str = "<i4") -> np.ndarray:
    """Return the array that `packed` made a text of. Raises as `unpacked_text` does."""
    return np.frombuffer(unpacked_text(text), dtype=dtype)


def unpacked_optional(text: str | None, dtype: str = "<i4") -> np.ndarray | None:
    """Return what was given to `packed`, which may be None. Raises as `unpacked_text` does."""
    return None if text is None else unpacked_array(text, dtype)


def check_length(name: str, found: Sized | None, length: int) -> None:
    """Raise ValueError if something has another length; None and what is empty have any."""
    if found is not None and len(found) not in (0, length):
        raise ValueError(f"{name}: has {len(found)} entries, must have {length}")


@contextlib.contextmanager
def decoding(where: str, what: str) -> Iterator[None]:
    """Raise CorruptObjectError in place of any error of the block that the bytes of an object are to blame for.

    where  the object's address
    what   what it should be, such as "a manifest"
    """
    try:
        yield
    except (InputError, SpecError) as error:
        raise _corrupt(where, what, str(error)) from error
    except (DatamodelsError, MemoryError, OSError):
        raise
    except Exception as error:
        raise _corrupt(where, what, one_line(error)) from error


def _corrupt(where: str, what: str, reason: str) -> CorruptObjectError:
    return CorruptObjectError(
        f"{where}: is not {what} as this version of datamodels writes it: {' '.join(reason.split())[:200]}; restore it "
        "from a copy"
    )


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _build(kind: Any, value: Any, where: str) -> Any:
    origin = typing.get_origin(kind)
    if kind is Any:
        return value
    if origin in (types.UnionType, typing.Union):
        kinds = typing.get_args(kind)
        if value is None and type(None) in kinds:
            return None
        (kind,) = (one for one in kinds if one is not type(None))
        return _build(kind, value, where)
    if dataclasses.is_dataclass(kind) and not isinstance(value, typing.cast(type, kind)):
        return _object(kind, value, where)
    if origin is tuple:
        return _tuple(typing.get_args(kind), value, where)
    accepted = (int, float) if kind is float else origin or kind
    right = isinstance(value, accepted) and (not isinstance(value, bool) or kind is bool)
    if not right or (isinstance(value, int) and value not in INTEGERS):
        raise TypeError(f"{where} = {value!r:.100}: must be {getattr(kind, '__name__', kind)}")
    return value


def _object(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise TypeError(f"{where} = {value!r:.100}: must be an object")
    hints = _hints(kind)
    unknown = value.keys() - hints.keys()
    if unknown:
        raise TypeError(f"{where}: has no field {min(unknown)!r:.100}")
    return kind(
        **{
            # Most fields are of their very type, and need no name for an error: that halves the time.
            name: item
            if type(item) is (hint := hints[name]) and (hint is not int or item in INTEGERS)
            else _build(hint, item, f"{where}.{name}")
            for name, item in value.items()
        }
    )


def _tuple(kinds: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise TypeError(f"{where} = {value!r:.100}: must be an array")
    if kinds[1:] == (...,):
        kinds = kinds[:1] * len(value)
    if len(kinds) != len(value):
        raise TypeError(f"{where}: has {len(value)} items, must have {len(kinds)}")
    return tuple(_build(kind, item, f"{where}[{i}]") for i, (kind, item) in enumerate(zip(kinds, value, strict=True)))
