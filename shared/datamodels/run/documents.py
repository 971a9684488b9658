"""Read and check documents: values as YAML and JSON have them.

Specs are read as YAML 1.2 and stored as JSON. So numbers follow YAML 1.2, and free-form options may hold only values
that JSON gives back unchanged.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

import yaml

from datamodels.storage import records

MOST_LEVELS = 100
"""How deeply options may be nested."""
SMALLEST, LARGEST = -(2**63), 2**64 - 1
"""Bounds of whole numbers in options: other readers of JSON have no larger ones."""

_TAG = "tag:yaml.org,2002:"
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(
    r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)
_SCHEMA = {
    "null": (re.compile(r"~|null|Null|NULL|"), ["~", "n", "N", ""]),
    "bool": (re.compile(r"true|True|TRUE|false|False|FALSE"), list("tTfF")),
    "int": (_INT, list("-+0123456789")),
    "float": (_FLOAT, list("-+.0123456789")),
}
"""The core schema of YAML 1.2 (section 10.3.2): pattern and first characters of each kind of plain scalar."""


class _Refused(yaml.YAMLError):
    """Valid YAML that a document may not have."""

    def __init__(self, node: yaml.Node, text: str):
        super().__init__(f"line {node.start_mark.line + 1}: {text}")


class _Loader(yaml.SafeLoader):
    """Reads the core schema of YAML 1.2. PyYAML reads 1.1, in which 1e-4 is a text, 0400 is 256, and no is False.

    Refuses duplicate keys, and scalars that the two versions read as different numbers.
    """

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012  # PyYAML adds to it

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            found = self.construct_object(key, deep=True)
            try:
                twice = found in seen
                seen.add(found)
            except TypeError:
                raise _Refused(key, f"the key {found!r} is no text") from None
            if found == "<<" and key.style is None:
                raise _Refused(key, "<< merges mappings in YAML 1.1 only; write the fields out")
            if twice:
                raise _Refused(key, f"{found!r} is given twice")
        return super().construct_mapping(node, deep)

    def read_int(self, node: yaml.ScalarNode) -> int:
        if re.fullmatch(r"[-+]?0[0-9]+", node.value):
            raise _Refused(
                node,
                f"{node.value} is octal in YAML 1.1 and decimal in 1.2; write {int(node.value)}, an octal number as "
                "0o17, or a text in quotes",
            )
        return int(node.value, 0)

    def read_float(self, node: yaml.ScalarNode) -> float:
        text = node.value.lower()
        return float(text.replace(".inf", "inf").replace(".nan", "nan") if text[-1] in "fn" else text)

    def read_text(self, node: yaml.ScalarNode) -> str:
        if node.style is None:
            self.refuse_ambiguous(node)
        return node.value

    def refuse_ambiguous(self, node: yaml.ScalarNode) -> None:
        """Raise an error if YAML 1.1 reads a plain scalar as a number: no one can tell which reading is meant."""
        for tag, pattern in yaml.SafeLoader.yaml_implicit_resolvers.get(node.value[:1], []):
            if tag in (f"{_TAG}int", f"{_TAG}float") and pattern.match(node.value):
                constructor = yaml.SafeLoader.yaml_constructors[tag]
                number = constructor(self, yaml.ScalarNode(tag, node.value))
                raise _Refused(
                    node,
                    f"{node.value} is {number} in YAML 1.1 and a text in 1.2; write {number}, or a text in quotes",
                )


class _Dumper(yaml.SafeDumper):
    """Writes YAML that versions 1.1 and 1.2 read alike: puts texts in quotes that either reads as something else."""

    yaml_implicit_resolvers = {  # noqa: RUF012  # PyYAML adds to it
        first: list(resolvers) for first, resolvers in yaml.SafeDumper.yaml_implicit_resolvers.items()
    }


for _kind, (_pattern, _first) in _SCHEMA.items():
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(f"{_TAG}{_kind}", re.compile(rf"^(?:{_pattern.pattern})$"), _first)
_Loader.add_constructor(f"{_TAG}int", _Loader.read_int)
_Loader.add_constructor(f"{_TAG}float", _Loader.read_float)
_Loader.add_constructor(f"{_TAG}str", _Loader.read_text)


def load(text: str) -> Any:
    """Return the values of a YAML document. Raises ValueError, whose message is one line."""
    try:
        return yaml.load(text, Loader=_Loader)
    except _Refused as error:
        raise ValueError(str(error)) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # PyYAML passes on what Python raises
        raise ValueError(f"is not YAML: {' '.join(str(error).split())}") from None


def dump(document: Any) -> str:
    """Return values as YAML, from which `load` returns them."""
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False)


def plain(options: Any) -> Any:
    """Return a deep copy of values, as they are after a trip through JSON: tuples become lists.

    Raises Unstorable if the trip would change them in another way, or JSON does not have them.
    """
    found = list(_faults(options, (), 0))
    if found:
        raise Unstorable(found)
    return records.plain(options)


class Unstorable(ValueError):
    """Values that JSON cannot store. `faults` has the path to each faulty value, and what is wrong with it."""

    def __init__(self, faults: list[tuple[tuple[str, ...], str]]):
        self.faults = faults
        super().__init__("; ".join(": ".join([".".join(path), text]) for path, text in faults))


def _faults(value: Any, path: tuple[str, ...], level: int) -> Iterator[tuple[tuple[str, ...], str]]:
    if level > MOST_LEVELS:
        yield path[:1], f"is nested too deeply; {MOST_LEVELS} levels are plenty"
    elif isinstance(value, dict):
        for key, below in value.items():
            if isinstance(key, str):
                yield from _faults(below, (*path, key), level + 1)
            else:
                yield path, f"key {key!r:.100} is no text; write {str(key)!r:.100}, and convert it where you use it"
    elif isinstance(value, list | tuple):
        for i, below in enumerate(value):
            yield from _faults(below, (*path, str(i)), level + 1)
    elif fault := _fault(value):
        yield path, fault


def _fault(value: Any) -> str:
    """Return what is wrong with a value that holds no others; empty if nothing is."""
    what = f"{value!r:.100} is a {type(value).__name__}"
    match value:
        case None | bool() | str():
            return ""
        case int():
            fits = SMALLEST <= value <= LARGEST
            return (
                ""
                if fits
                else "is a whole number of more than 64 bits; put it in quotes, and convert it where you use it"
            )
        case float():
            return (
                ""
                if math.isfinite(value)
                else f"{value} is no finite number; leave it out, or write the text '{value}' and convert it"
            )
        case bytes() | bytearray():
            return f"{what}; write a text, or the path of a file"
        case set() | frozenset():
            return f"{what}; write a list"
    return f"{what}; write texts, numbers, booleans, lists and mappings only"
