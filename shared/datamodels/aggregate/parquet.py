"""Write the Parquet file of a part: a column of whole numbers, and one of lists that all have the same length.

Arrow's writer looks at each number to find out where lists begin and end, which takes several times as long as copying
them. Here all lengths are known. Readers see no difference. The format is described at
https://parquet.apache.org/docs/file-format; its headers are in the compact protocol of Thrift.
"""

from __future__ import annotations

import base64
import zlib

import numpy as np
import pyarrow as pa

from datamodels.storage.varint import varint

WORTH = 0.75
"""Numbers are compressed if that leaves at most this much of them. It takes more CPU time than all other steps of a
commit, and saves an eighth of the margins of neural networks in float32. Counts and the like shrink more."""
SAMPLE = 2**16
"""Bytes that are compressed to find out whether it is worth it."""

_MAGIC = b"PAR1"
_CODECS = {"": 0, "zstd": 6}
_TYPES = {"int32": 1, "float32": 4, "float16": 7}  # a half is two bytes of no type
_REQUIRED, _REPEATED = 0, 2
_LIST_TYPE, _HALF_TYPE = 3, 15
_PLAIN, _RLE = 0, 3

Field = tuple[int, bytes]
"""A value as Thrift encodes it: the code of its type, and its bytes."""
_I32, _I64, _BINARY, _LIST, _STRUCT = 5, 6, 8, 9, 12


def encode(index: np.ndarray, rows: np.ndarray, found: pa.Schema, step: int) -> bytes:
    """Return a Parquet file.

    index  int32[r]
    rows   float16 or float32 [r, n]
    found  their schema, `storage.schema.outputs`, with the metadata of the file
    step   rows of a row group; each of its columns is a page with a checksum
    """
    paths = [[found.names[0]], [found.names[1], "list", "element"]]
    pieces: list[bytes | memoryview] = [_MAGIC]
    groups, place = [], len(_MAGIC)
    for first in range(0, max(len(index), 1), step):
        columns, begins = [], place
        for path, values in zip(paths, (index[first : first + step], rows[first : first + step]), strict=True):
            page, described = _page(path, values, place)
            pieces += page
            place += sum(map(len, page))
            columns.append(described)
        count = len(index[first : first + step])
        groups.append(_struct({1: _many(columns), 2: _i64(place - begins), 3: _i64(count), 6: _i64(place - begins)}))
    footer = _footer(found, rows, len(index), groups)
    return b"".join([*pieces, footer, len(footer).to_bytes(4, "little"), _MAGIC])


def _page(path: list[str], values: np.ndarray, place: int) -> tuple[list[bytes | memoryview], Field]:
    """Return the pieces of a column's only page, and its description in the footer. `place` is where it will be."""
    values = np.ascontiguousarray(values)
    levels = _levels(*values.shape) if values.ndim == 2 else b""
    data = values.reshape(-1).view(np.uint8).data
    body: list[bytes | memoryview] = [levels, data]
    size, codec = len(levels) + len(data), ""
    sample = data[:SAMPLE]
    if len(sample) and len(pa.compress(sample, "zstd", asbytes=True)) <= WORTH * len(sample):
        codec, body = "zstd", [pa.compress(b"".join(body), "zstd", asbytes=True)]
    checksum = 0
    for piece in body:
        checksum = zlib.crc32(piece, checksum)
    kept = sum(map(len, body))
    about = _struct({1: _i32(values.size), 2: _i32(_PLAIN), 3: _i32(_RLE), 4: _i32(_RLE)})
    fields = {1: _i32(0), 2: _i32(size), 3: _i32(kept), 4: _i32(checksum - (checksum >> 31 << 32)), 5: about}
    header = _struct(fields)[1]
    chunk = {
        1: _i32(_TYPES[values.dtype.name]),
        2: _many([_i32(_RLE), _i32(_PLAIN)]),
        3: _many([_text(name) for name in path]),
        4: _i32(_CODECS[codec]),
        5: _i64(values.size),
        6: _i64(len(header) + size),
        7: _i64(len(header) + kept),
        9: _i64(place),
    }
    if values.ndim == 1 and values.size:
        bounds = [_binary(bound.tobytes()) for bound in (values.max(), values.min())]
        chunk[12] = _struct({3: _i64(0), 5: bounds[0], 6: bounds[1]})
    return [header, *body], _struct({2: _i64(0), 3: _struct(chunk)})


def _levels(rows: int, n: int) -> bytes:
    """Return the levels of lists of n numbers: first 0 if a number begins a list and else 1, then 1 for each number.

    They are encoded as runs: twice the length of the run, and the level.
    """
    row = b"\x02\x00" + (varint(2 * (n - 1)) + b"\x01" if n > 1 else b"")
    repeats = row * rows
    present = varint(2 * rows * n) + b"\x01" if rows else b""
    return b"".join(len(of).to_bytes(4, "little") + of for of in (repeats, present))


def _footer(found: pa.Schema, rows: np.ndarray, count: int, groups: list[Field]) -> bytes:
    half = rows.dtype == np.float16
    index, lists = found.names
    element = {1: _i32(_TYPES[rows.dtype.name]), 2: _i32(2), 3: _i32(_REQUIRED), 4: _text("element")}
    if half:
        element[10] = _struct({_HALF_TYPE: _struct({})})
    else:
        del element[2]  # its size
    elements = [
        {4: _text("schema"), 5: _i32(2)},
        {1: _i32(_TYPES["int32"]), 3: _i32(_REQUIRED), 4: _text(index)},
        {
            3: _i32(_REQUIRED),
            4: _text(lists),
            5: _i32(1),
            6: _i32(_LIST_TYPE),
            10: _struct({_LIST_TYPE: _struct({})}),
        },
        {3: _i32(_REPEATED), 4: _text("list"), 5: _i32(1)},
        element,
    ]
    # Arrow keeps its own schema, too: Parquet has no lists of one length.
    arrow = base64.b64encode(found.serialize())
    metadata = {b"ARROW:schema": arrow, **(found.metadata or {})}
    return _struct(
        {
            1: _i32(2),
            2: _many([_struct(fields) for fields in elements]),
            3: _i64(count),
            4: _many(groups),
            5: _many([_struct({1: _binary(name), 2: _binary(value)}) for name, value in metadata.items()]),
            6: _text("datamodels"),
            7: _many([_struct({1: _struct({})})] * 2),  # statistics are ordered as numbers are
        }
    )[1]


def _i32(value: int) -> Field:
    return _I32, varint(2 * value if value >= 0 else -2 * value - 1)


def _i64(value: int) -> Field:
    return _I64, _i32(value)[1]


def _binary(value: bytes) -> Field:
    return _BINARY, varint(len(value)) + value


def _text(value: str) -> Field:
    return _binary(value.encode())


def _many(values: list[Field]) -> Field:
    """Return a list of at least one value."""
    kind, count = values[0][0], len(values)
    header = bytes([count << 4 | kind]) if count < 15 else bytes([0xF0 | kind]) + varint(count)
    return _LIST, header + b"".join(encoded for _, encoded in values)


def _struct(fields: dict[int, Field]) -> Field:
    """Return a struct of numbered fields, by ascending number."""
    encoded, last = bytearray(), 0
    for number, (kind, value) in fields.items():
        encoded.append((number - last) << 4 | kind)
        encoded += value
        last = number
    return _STRUCT, bytes(encoded) + b"\x00"
