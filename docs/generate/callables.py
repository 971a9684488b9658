"""Signatures and docstrings of functions and classes, as Markdown."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

from docs.generate.source import one_line

_ITEM = re.compile(r"(\S+(?:, \S+)*)  +(\S.*)")
"""A line of a docstring that describes a parameter."""


def signature(function: Callable[..., Any], skip: int = 0) -> str:
    """Returns the parameters and the result of a function, without the first `skip` parameters."""
    found = inspect.signature(function)
    parameters, starred = [], False
    for parameter in list(found.parameters.values())[skip:]:
        if parameter.kind is parameter.KEYWORD_ONLY and not starred:
            parameters.append("*")
        starred |= parameter.kind in (parameter.KEYWORD_ONLY, parameter.VAR_POSITIONAL)
        plain = parameter.replace(annotation=parameter.empty)
        # The repr of a function has its address.
        parameters.append(f"{plain.name}=..." if inspect.isfunction(plain.default) else str(plain))
    return f"({', '.join(parameters)})"


def options(function: Callable[..., Any], skip: int) -> Iterator[tuple[str, str, str]]:
    """Yields name, type and default of each parameter after the first `skip`."""
    for parameter in list(inspect.signature(function).parameters.values())[skip:]:
        default = "" if parameter.default is parameter.empty else repr(parameter.default)
        yield parameter.name, str(parameter.annotation), default


def docstring(thing: object, *, items: bool = True) -> str:
    """Returns a docstring: paragraphs, and lists of parameters as lists.

    items  whether to show these lists, and the paragraphs that end with a colon before them
    """
    parts = []
    for text in paragraphs(thing):
        found = listed(text)
        if not found and (items or not text.endswith(":")):
            parts.append(one_line(text))
        elif found and items:
            parts.append("\n".join(f"- `{name}`: {said}" for name, said in found.items()))
    return "".join(f"{part}\n\n" for part in parts)


def meanings(thing: object) -> dict[str, str]:
    """Returns what a docstring says of each parameter that it lists, by name."""
    return {
        name: said for text in paragraphs(thing) for names, said in listed(text).items() for name in names.split(", ")
    }


def paragraphs(thing: object) -> list[str]:
    """Returns the paragraphs of the docstring of a function or class itself, with their line breaks."""
    own = vars(thing).get("__doc__") if inspect.isclass(thing) else inspect.getdoc(thing)
    return inspect.cleandoc(own).split("\n\n") if own else []


def listed(text: str) -> dict[str, str]:
    """Returns the texts of the parameters that a paragraph lists; nothing if it is no list."""
    lines = text.splitlines()
    if lines[0].startswith(" ") or not all(_ITEM.fullmatch(line) or line.startswith("  ") for line in lines):
        return {}
    items: dict[str, str] = {}
    for line in lines:
        found = _ITEM.fullmatch(line)
        if found:
            items[found[1]] = found[2]
        else:
            items[list(items)[-1]] += f" {line.strip()}"
    return items
