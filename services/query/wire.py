"""Put large messages together from pieces, without the copies of Protocol Buffers.

A message that is built as an object copies each array into itself, each message into the one around it, and all of it
when it is encoded. Here arrays are copied once, when the pieces are joined.
"""

from __future__ import annotations

import functools
import threading
import weakref
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence

import numpy as np
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from datamodels.query.cache import Cache
from datamodels.query.weights import Fitted, Rows
from datamodels.rpc import codec
from datamodels.storage.varint import varint
from datamodels.v1 import query_pb2, types_pb2

from .long import provenance_of

Pieces = Sequence[bytes | memoryview]

KEPT_BYTES = 64 * 2**20
"""Most bytes of messages that are kept, beside the fits in memory."""
ROW_BYTES = 36
"""Bytes of a target in a message, beside its weights."""
ANSWERS_BYTES = 4 * 2**20
"""Most bytes of small answers that are kept for each fit in memory: some thousands."""
ANSWER_BYTES = 300
"""Bytes that a kept answer takes, beside its own."""


def message(kind: type[Message], fields: Mapping[str, Pieces]) -> list[bytes | memoryview]:
    """Return the pieces of a message, given those of its fields by name, which must be bytes or messages, one each."""
    found: list[bytes | memoryview] = []
    for name, pieces in fields.items():
        found += [_tag(kind.DESCRIPTOR, name) + varint(sum(map(len, pieces))), *pieces]
    return found


def tensor(array: np.ndarray) -> list[bytes | memoryview]:
    """Return the pieces of what `codec.to_tensor` returns."""
    array = np.ascontiguousarray(array)
    about = _about(array.dtype.name, array.shape)
    if not array.size:
        return [about]
    values = array.astype(array.dtype.newbyteorder("<"), copy=False).data.cast("B")
    return [about + _tag(types_pb2.Tensor.DESCRIPTOR, "data") + varint(len(values)), values]


def weights(fitted: Fitted, chunks: Iterable[Rows]) -> Iterator[bytes]:
    """Yield encoded messages of type GetWeightsResponse, one for each chunk of a fit."""
    solution = fitted.solution
    provenance = [provenance_of(fitted).SerializeToString()]
    for rows in chunks:
        arrays = {
            "targets": rows.targets,
            "indptr": rows.indptr,
            "indices": rows.columns,
            "weights": rows.weights,
            "intercept": solution.intercept[rows.chosen],
            "lambda": solution.lambda_[rows.chosen],
            "gap": solution.gap[rows.chosen],
        }
        if rows.measured is not None:
            arrays["measured"] = rows.measured
        found = message(query_pb2.SparseWeights, {name: tensor(array) for name, array in arrays.items()})
        yield b"".join(message(query_pb2.GetWeightsResponse, {"provenance": provenance, "weights": found}))


class Wholes:
    """Answers with all weights of a fit. Keeps the messages of the last one, up to `most` bytes, for further calls.

    To make them takes as much CPU time as to send them: each is new memory of the system.
    """

    def __init__(self, most: int = KEPT_BYTES):
        self._most = most
        self._making = threading.Lock()
        self._kept: weakref.WeakKeyDictionary[Fitted, list[bytes]] = weakref.WeakKeyDictionary()

    def messages(self, fitted: Fitted) -> Iterable[bytes]:
        """Return the encoded messages of type GetWeightsResponse."""
        kept = self._kept.get(fitted)
        if kept is not None:
            return kept
        made = weights(fitted, fitted.chunks(fitted.targets(None), 0))
        solution = fitted.solution
        weight_bytes = 8 if solution.measured is None else 10
        if weight_bytes * len(solution.weights) + ROW_BYTES * solution.n > self._most:
            return made
        with self._making:  # once, not in each of many calls
            kept = self._kept.get(fitted)
            if kept is None:
                kept = list(made)
                self._kept.clear()
                self._kept[fitted] = kept
        return kept


class Answers:
    """Encoded answers to small questions, of which some are asked again and again. Keeps the last ones of each fit.

    most  bytes that are kept for a fit
    """

    def __init__(self, most: int = ANSWERS_BYTES):
        self._most = most
        self._lock = threading.Lock()
        self._kept: weakref.WeakKeyDictionary[Fitted, Cache[Hashable, bytes]] = weakref.WeakKeyDictionary()

    def get(self, fitted: Fitted, asked: Hashable, make: Callable[[], Message]) -> bytes:
        """Return the encoded answer to what was asked of a fit; `make` makes it if it is not kept."""
        with self._lock:
            kept = self._kept.get(fitted)
            if kept is None:
                kept = self._kept[fitted] = Cache(self._most)
            found = kept.get(asked)
        if found is None:
            found = make().SerializeToString()
            with self._lock:
                kept.put(asked, found, len(found) + ANSWER_BYTES)
        return found


@functools.cache
def _tag(kind: Descriptor, name: str) -> bytes:
    """Return what precedes the length of a field."""
    return varint(kind.fields_by_name[name].number << 3 | 2)


@functools.lru_cache(maxsize=1000)
def _about(dtype: str, shape: tuple[int, ...]) -> bytes:
    """Return a Tensor without its values."""
    return types_pb2.Tensor(dtype=codec.dtype_code(dtype), shape=shape).SerializeToString()
