"""Render the page of the command line."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator

from datamodels.cli import parser
from docs.generate.markdown import code, sentence, table

HEAD = """\
# Command line

`datamodels --help` and `datamodels COMMAND --help` say the same. A command ends with one of the [exit
codes](errors.md#exit-codes).

"""
DEFAULT = re.compile(r"[;,]? ?\(?default: ([^()]*(?:\([^()]*\)[^()]*)*?)\)?$")


def page() -> str:
    leaves = [(name, parser) for name, parser in parsers() if not _commands(parser)]
    return HEAD + "".join(_section(name, parser) for name, parser in leaves)


def parsers() -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Yields every command with its parser, the groups of commands included."""
    yield from _below("datamodels", parser.parser())


def _below(name: str, parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    yield name, parser
    for command, below in _commands(parser).items():
        yield from _below(f"{name} {command}", below)


def _commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    actions = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return {name: below for action in actions for name, below in action.choices.items()}


def _section(name: str, parser: argparse.ArgumentParser) -> str:
    shown = [a for a in parser._actions if a.help != argparse.SUPPRESS and not isinstance(a, argparse._HelpAction)]
    shown.sort(key=lambda action: bool(action.option_strings))
    positional = " ".join(_named(action) for action in shown if not action.option_strings)
    usage = f"    {name} [options] {positional}".rstrip() if shown else f"    {name}"
    head = f"## {name}\n\n{sentence(parser.description or '')}\n\n{usage}\n\n"
    return head + (table(("argument", "default", "meaning"), map(_row, shown)) if shown else "")


def _named(action: argparse.Action) -> str:
    name = action.metavar or action.dest
    return {"?": f"[{name}]", "*": f"[{name} ...]", "+": f"{name} [{name} ...]"}.get(action.nargs, name)


def _row(action: argparse.Action) -> tuple[str, str, str]:
    said = (action.help or "") % vars(action)
    value = (
        ""
        if action.nargs == 0
        else action.metavar or ("{" + ",".join(action.choices) + "}" if action.choices else action.dest.upper())
    )
    value = " ".join(value) if isinstance(value, tuple) else value
    names = ", ".join(code(f"{flag} {value}".strip()) for flag in action.option_strings) or code(_named(action))
    stated = DEFAULT.search(said)
    if stated:
        default = stated[1]
    elif action.required and action.nargs not in ("?", "*"):
        default = "required"
    else:
        default = "" if action.nargs == 0 or action.default in (None, "", ()) else code(action.default)
    return names, default, sentence(DEFAULT.sub("", said))
