"""The page of what `import datamodels` offers."""

from __future__ import annotations

import functools
import inspect
import operator
from collections.abc import Iterator
from typing import Any

import datamodels
from docs.generate.callables import docstring, signature

HEAD = """\
# Python API

`import datamodels` offers these names, for notebooks and programs. They keep working within a minor version; other
modules may change. [Notebooks](../guides/notebook.md) shows how to use them.

"""


def page() -> str:
    return HEAD + "".join(_section(name, getattr(datamodels, name)) for name in datamodels.__all__)


def _section(name: str, thing: Any) -> str:
    if inspect.ismodule(thing):
        return f"## `datamodels.{name}`\n\nA module. {docstring(thing).partition(chr(10) * 2)[0]}\n\n"
    bare = inspect.isclass(thing) and (getattr(thing, "_is_protocol", False) or issubclass(thing, Exception))
    shown = "" if bare else f"    {name}{signature(thing)}\n\n"
    below = "".join(_member(*member) for member in members(thing)) if inspect.isclass(thing) else ""
    return f"## `datamodels.{name}`\n\n{shown}{docstring(thing)}{below}"


def members(cls: type) -> Iterator[tuple[str, Any]]:
    """Yields the public methods and properties that a class and our bases of it define, in their order."""
    ours = (vars(base) for base in reversed(cls.__mro__) if base.__module__.startswith("datamodels."))
    for name, thing in functools.reduce(operator.or_, map(dict, ours)).items():
        if not name.startswith("_") and isinstance(
            thing, property | functools.cached_property | staticmethod | classmethod | type(members)
        ):
            yield name, thing


def _member(name: str, thing: Any) -> str:
    function = getattr(thing, "fget", None) or getattr(thing, "func", None)
    if function is not None:
        return f"### `{name}`\n\n{docstring(function)}"
    function = getattr(thing, "__func__", thing)
    shown = signature(function, 0 if isinstance(thing, staticmethod) else 1)
    return f"### `{name}`\n\n    {name}{shown}\n\n{docstring(function)}"
