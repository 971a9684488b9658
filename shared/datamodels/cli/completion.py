"""Run `datamodels completion`: print a script by which a shell completes commands, options, choices and file names."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator
from typing import Any

import shtab

from datamodels.cli.parser import parser
from datamodels.run import examples

BASH_SPEC = """
_datamodels_spec() {
  compgen -W %s -- "$1"
  _shtab_compgen_files "$1"
}
"""
ZSH_SPEC = """
_datamodels_spec() {
  _alternative 'examples:example:(%s)' 'files:file:_files'
}
"""


def completion(options: argparse.Namespace) -> None:
    """Print the script for a shell. It is made from the parser, and starts no Python when it completes."""
    print(script(options.shell))


def script(shell: str) -> str:
    """Return the script for bash or zsh."""
    found, ways = parser(), _ways()
    for action in _actions(found):
        if action.metavar in ways:
            action.complete = ways[action.metavar]  # type: ignore[attr-defined]
        elif names := getattr(action, "suggestions", None):
            action.choices = names
    return shtab.complete(found, shell)


def _ways() -> dict[object, dict[str, Any]]:
    """Return how to complete arguments, by the name that help shows for them."""
    names = " ".join(examples.names())
    function = "_datamodels_spec"
    preamble = {"bash": BASH_SPEC % shlex.quote(names), "zsh": ZSH_SPEC % names}
    spec = {"bash": function, "zsh": function, "preamble": preamble}
    return {"FILE": shtab.FILE, "DIR": shtab.DIRECTORY, "SPEC": spec, "EXAMPLE": shtab.cmd(f"echo {names}")}


def _actions(found: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Yield all arguments of a parser and of the commands below it."""
    for action in found._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from _actions(below)
