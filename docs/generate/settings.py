"""Render the page of settings."""

from __future__ import annotations

import ast
import dataclasses
import functools
import re
import tempfile
from collections.abc import Iterator
from typing import get_args, get_type_hints

from datamodels import settings
from datamodels.environment import Bytes, Settings
from docs.generate.cli import parsers
from docs.generate.markdown import code, link, table
from docs.generate.source import CORE, SERVICES, modules, paragraphs, texts

HEAD = """\
# Settings

A process reads its settings from environment variables when it starts. A value that cannot be used ends the process
with exit code 2 and a message that names the variable. `true` may be written `1`, and `false` `0`. Units stand beside
defaults.

## Who reads what

"""
COMMANDS = f"{CORE}.cli"
LOAD = re.compile(r"\b(\w+Settings)\.load\(")


def page() -> str:
    """Raises KeyError for a setting without a text."""
    read = readers()
    who = (
        (process, ", ".join(link(_title(group)) for group in groups() if group.__name__ in names))
        for process, names in read.items()
    )
    return HEAD + table(("process", "settings"), who) + "".join(map(_section, groups()))


def groups() -> list[type[Settings]]:
    return [getattr(settings, name) for name in settings.__all__]


@functools.cache
def readers() -> dict[str, set[str]]:
    """Returns the names of the groups that each process loads."""
    sources = {name: text for package in (CORE, SERVICES) for name, text in modules(package)}
    shares: dict[str, list[str]] = {}
    for name in sources:
        if name.startswith(f"{SERVICES}."):
            shares.setdefault(name.removeprefix(f"{SERVICES}.").split(".")[0], []).append(name)
    driver = next(name for name, text in sources.items() if "ClusterSettings.load(" in text)
    shares["driver"] = [driver]
    shares["command `datamodels`"] = [name for name in sources if name.startswith(f"{COMMANDS}.") and name != driver]
    loading = {name: text for name, text in sources.items() if LOAD.search(text) and name != driver}
    return {
        process: set().union(*(_loads(sources[name], loading) for name in names)) for process, names in shares.items()
    }


def _loads(text: str, loading: dict[str, str]) -> Iterator[str]:
    """Yields the groups that a module loads, itself or by a function or class that it imports from another of ours."""
    yield from LOAD.findall(text)
    for node in ast.walk(ast.parse(text)):
        for alias in node.names if isinstance(node, ast.ImportFrom) else ():
            whole = f"{node.module}.{alias.name}"
            if whole in loading:  # a module, of which some functions are used
                used = set(re.findall(rf"\b{alias.asname or alias.name}\.(\w+)", text))
                yield from _loads_of(loading[whole], used)
            elif node.module in loading:
                yield from _loads_of(loading[node.module], {alias.name})


def _loads_of(text: str, names: set[str]) -> Iterator[str]:
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name in names:
            yield from LOAD.findall(ast.get_source_segment(text, node))


def _title(group: type[Settings]) -> str:
    return group.__name__.removesuffix("Settings")


def _section(group: type[Settings]) -> str:
    hints, said, flags = get_type_hints(group, include_extras=True), texts(group), _flags()
    rows = []
    for field in dataclasses.fields(group):
        variable = f"{group.prefix}_{field.name.upper()}"
        meaning = said[field.name] + (f" Flag: {code(flags[variable])}." if variable in flags else "")
        rows.append((code(variable), _default(field.default, hints[field.name]), meaning))
    prose = "\n\n".join(paragraphs(group))
    return f"## {_title(group)}\n\n{prose}\n\n" + table(("variable", "default", "meaning"), rows)


def _default(value: object, hint: type) -> str:
    if isinstance(value, bool):
        return code(str(value).lower())
    shown = f"{value:g}" if isinstance(value, float) else str(value)
    unit = f" {get_args(hint)[1]}" if get_args(hint) else ""
    large = f" ({value // 2**20:,} MiB)" if hint is Bytes else ""
    return code(shown.replace(tempfile.gettempdir(), "/tmp")) + unit + large  # the same page on every machine


def _flags() -> dict[str, str]:
    """Returns the flags whose help names a variable, by variable."""
    found = {}
    for _, parser in parsers():
        for action in parser._actions:
            for variable in re.findall(r"\bDATAMODELS_[A-Z0-9_]+\b", action.help or ""):
                found |= {variable: action.option_strings[-1]} if action.option_strings else {}
    return found
