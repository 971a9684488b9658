"""`datamodels completion`: scripts by which shells complete commands, options, choices and file names."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import shtab

from datamodels.cli.parser import parser

PATHS = {"FILE": shtab.FILE, "SPEC": shtab.FILE, "DIR": shtab.DIRECTORY}
"""How to complete arguments by the name that help shows for them."""


def completion(options: argparse.Namespace) -> None:
    """Prints the script for a shell. It is made from the parser, and starts no Python when it completes."""
    print(script(options.shell))


def script(shell: str) -> str:
    """Returns the script for bash or zsh."""
    found = parser()
    for action in _actions(found):
        if action.metavar in PATHS:
            action.complete = PATHS[action.metavar]  # type: ignore[attr-defined]
        elif names := getattr(action, "suggestions", None):
            action.choices = names
    return shtab.complete(found, shell)


def _actions(found: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Yields all arguments of a parser and of the commands below it."""
    for action in found._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from _actions(below)
