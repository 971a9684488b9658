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


def docstring(thing: object) -> str:
    """Returns a docstring: paragraphs, and lists of parameters as lists."""
    text = inspect.getdoc(thing)
    return "\n\n".join(map(_paragraph, text.split("\n\n"))) + "\n\n" if text else ""


def _paragraph(text: str) -> str:
    lines = text.splitlines()
    if lines[0].startswith(" ") or not all(_ITEM.fullmatch(line) or line.startswith("  ") for line in lines):
        return one_line(text)
    items: list[str] = []
    for line in lines:
        found = _ITEM.fullmatch(line)
        if found:
            items.append(f"- `{found[1]}`: {found[2]}")
        else:
            items[-1] += f" {line.strip()}"
    return "\n".join(items)
