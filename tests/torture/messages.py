"""Make wrong messages out of right ones: wrong values in any field, and wrong bytes."""

from __future__ import annotations

import json
import math
import random
from typing import Any

from google.protobuf.descriptor import FieldDescriptor as Field
from google.protobuf.message import Message

INTEGERS = [0, 1, -1, 2, 7, 255, 1000, 1001, 10_000_001, 2**31 - 1, -(2**31), 2**31, 2**53 + 1, 2**63 - 1, -(2**63)]
FLOATS = [0.0, -0.0, 0.5, 1.0, -1.0, 1e-300, 1e300, math.nan, math.inf, -math.inf]
TEXTS = [
    "",
    " ",
    "x",
    "\x00",
    "é" * 300,
    "\u202e\x1b[31m",
    "../../etc/passwd",
    "a" * 100_000,
    "[" * 100_000,
    "{}",
    "null",
    '{"estimator": 3}',
    "-1",
    "small-0123456789ab",
]
VALUES: list[Any] = [
    None,
    True,
    False,
    *INTEGERS,
    10**400,
    *FLOATS,
    *TEXTS[:10],
    [],
    {},
    [[]],
    [1, 2],
    {"a": {"b": [None]}},
]
"""For places in JSON documents."""

WHOLE = {Field.TYPE_INT32, Field.TYPE_SINT32, Field.TYPE_SFIXED32, Field.TYPE_ENUM}
SIGNLESS = {Field.TYPE_UINT32, Field.TYPE_UINT64, Field.TYPE_FIXED32, Field.TYPE_FIXED64}


def altered(message: Message, rng: random.Random) -> bytes:
    """Return a copy of a message, encoded, with one to three changes to fields or bytes."""
    changed = type(message)()
    changed.CopyFrom(message)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        change(changed, rng)
    encoded = changed.SerializeToString()
    return damaged(encoded, rng) if rng.random() < 0.15 else encoded


def change(message: Message, rng: random.Random) -> None:
    """Change one field of a message, at any depth."""
    # The name of a run is seldom changed: most calls look for the run first.
    fields = [field for field in message.DESCRIPTOR.fields if field.name != "run" or rng.random() < 0.1]
    if not fields:
        return
    field = rng.choice(fields)
    if field.is_repeated:
        _change_list(getattr(message, field.name), field, rng)
    elif field.type == Field.TYPE_MESSAGE:
        if rng.random() < 0.15:
            message.ClearField(field.name)
        else:
            inner = getattr(message, field.name)
            inner.SetInParent()
            change(inner, rng)
    else:
        setattr(message, field.name, _value(field, getattr(message, field.name), rng))


def _change_list(values: Any, field: Field, rng: random.Random) -> None:
    kind = rng.randrange(4)
    if kind == 0 and len(values):
        del values[rng.randrange(len(values))]
    elif kind == 1 and len(values):
        values.extend(list(values) * rng.choice((1, 1, 100)))
    elif field.type == Field.TYPE_MESSAGE:
        change(values.add(), rng)
    elif len(values) and rng.random() < 0.5:
        at = rng.randrange(len(values))
        values[at] = _value(field, values[at], rng)
    else:
        values.append(_value(field, None, rng))


def _value(field: Field, old: Any, rng: random.Random) -> Any:
    match field.type:
        case Field.TYPE_BOOL:
            return rng.random() < 0.5
        case Field.TYPE_DOUBLE | Field.TYPE_FLOAT:
            return rng.choice(FLOATS)
        case Field.TYPE_STRING:
            if old and old[:1] == "{" and rng.random() < 0.8:
                return altered_json(old, rng)
            return rng.choice([*TEXTS, (old or "")[:-1], (old or "") + "0"])
        case Field.TYPE_BYTES:
            return damaged(old, rng) if old and rng.random() < 0.7 else rng.randbytes(rng.choice((0, 1, 8, 1000)))
    near = [old + 1, old - 1] if isinstance(old, int) else []
    bits = 31 if field.type in WHOLE or field.type in (Field.TYPE_UINT32, Field.TYPE_FIXED32) else 63
    low = 0 if field.type in SIGNLESS else -(2**bits)
    return rng.choice([value for value in [*INTEGERS, *near] if low <= value < 2**bits])


def altered_json(text: str, rng: random.Random) -> str:
    """Return a JSON document with another value, or another key, at one place."""
    try:
        document = json.loads(text)
    except ValueError:
        return text[: rng.randrange(len(text) + 1)]
    places = list(_places(document))
    if not places:
        return rng.choice(TEXTS)
    holder, key = rng.choice(places)
    match rng.randrange(8):
        case 0 if isinstance(holder, dict):
            del holder[key]
        case 1 if isinstance(holder, dict):
            holder[rng.choice(TEXTS[:8])] = rng.choice(VALUES)
        case 2 if isinstance(holder[key], int | float) and not isinstance(holder[key], bool):
            holder[key] = holder[key] * rng.choice((2, -1, 10, 1000, 0.5)) + rng.choice((0, 1, -1))
        case _:
            holder[key] = rng.choice(VALUES)
    return json.dumps(document)


def _places(document: Any):
    pairs = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    for key, value in pairs:
        yield document, key
        yield from _places(value)


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Return bytes with a few of them flipped, cut, repeated, inserted or replaced."""
    if not data:
        return rng.randbytes(rng.choice((1, 3, 20)))
    raw = bytearray(data)
    at = rng.randrange(len(raw))
    length = min(rng.choice((1, 2, 8, 100)), len(raw) - at)
    match rng.randrange(8):
        case 0 | 1:
            raw[at] ^= 1 << rng.randrange(8)
        case 2:
            del raw[at:]
        case 3:
            del raw[at : at + length]
        case 4:
            raw[at:at] = raw[at : at + length] * rng.choice((1, 3))
        case 5:
            raw[at:at] = rng.randbytes(length)
        case 6:
            raw[at : at + length] = rng.choice((b"\x00", b"\xff", b"\x80")) * length
        case _:
            raw[at : at + length] = rng.randbytes(length)
    return bytes(raw)
