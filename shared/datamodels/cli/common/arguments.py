"""Parse the command line, and say what a mistyped command or option may mean."""

from __future__ import annotations

import argparse
import difflib
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any

_OPTION = re.compile(r"--?[A-Za-z]")
"""How an option starts, unlike a negative number."""


class Parser(argparse.ArgumentParser):
    """A parser that takes no shortened options. Parsers of commands below it are of the same class."""

    def __init__(self, *given: Any, **named: Any):
        super().__init__(*given, **named)
        self.allow_abbrev = False

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> tuple[Any, list[str]]:  # type: ignore[override]
        """Parse as the base class does, but complain of unknown options first.

        The base class complains of missing arguments before, although a mistyped option may be why they are missing.
        """
        arguments = list(sys.argv[1:] if args is None else args)
        for word in self._own(arguments):
            option = word.partition("=")[0]
            known = option in self._option_string_actions or (
                word[1] != "-" and word[:2] in self._option_string_actions
            )
            if not known:
                shown = (action for action in self._actions if action.help != argparse.SUPPRESS)
                self.error(f"unknown option {option}{meant(option, (o for a in shown for o in a.option_strings))}")
        return super().parse_known_args(arguments, namespace)

    def _own(self, arguments: Sequence[str]) -> list[str]:
        """Return the words that are options of this parser: those before a command, or before `--`."""
        found = []
        for word in arguments:
            if word == "--" or (self._subparsers is not None and not word.startswith("-")):
                break
            if _OPTION.match(word):
                found.append(word)
        return found

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            names = list(map(str, action.choices))
            hint = meant(str(value), names) or f"; must be one of {', '.join(names)}"
            raise argparse.ArgumentError(action, f"unknown: {value!r}{hint}")


def meant(typed: str, names: Iterable[str]) -> str:
    """Return the question which of some names was meant, or an empty text if none is close."""
    close = difflib.get_close_matches(typed, list(names), n=2, cutoff=0.7)
    return f"; did you mean {' or '.join(close)}?" if close else ""
