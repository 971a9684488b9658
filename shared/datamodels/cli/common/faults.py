"""Translate errors into the words of the command line: name the option that was typed, not the parameter."""

from __future__ import annotations

import argparse
import re
import sys
import traceback
from collections.abc import Iterator, Sequence
from types import TracebackType

from datamodels import screen
from datamodels.errors import DatamodelsError, InputError

_VALUE = re.compile(r"(?<![\w.])([\w.]+) = (?=\S)")
"""A parameter with its value, as messages give it: `k = 3`."""
_SUBJECTS = re.compile(r"([\w.]+(?: and [\w.]+)*): ")
"""The parameters that a message is about, before the colon."""


def show_trace(kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
    """Print a traceback as Python does, without secrets and without letters that a terminal would obey."""
    text = "".join(traceback.format_exception(kind, error, trace))
    print(screen.printable(screen.redact(text)), end="", file=sys.stderr)


def lines(error: DatamodelsError, options: argparse.Namespace, arguments: Sequence[str]) -> list[str]:
    """Return the lines of the message of an error, for the user.

    options    what the parser made of the command line, with `parser`, which declares the command
    arguments  the words of the command line

    An analysis names its own parameters. `options.set_parameters` says which option gives a parameter of another name.
    """
    said = str(error)
    if not isinstance(error, InputError):  # a SpecError is about fields of a spec
        return said.splitlines()
    names = dict(_spellings(options, arguments))
    said = _VALUE.sub(lambda found: f"{names[found[1]]} " if found[1] in names else found[0], said)
    subjects = _SUBJECTS.match(said)
    if subjects and all(name in names for name in subjects[1].split(" and ")):
        said = " and ".join(names[name] for name in subjects[1].split(" and ")) + said[subjects.end(1) :]
    return said.splitlines()


def _spellings(options: argparse.Namespace, arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield (parameter, how the command line spells it). A parameter that an option declares comes last, and wins."""
    declared = [action for action in options.parser._actions if action.option_strings]
    shown = [action for action in declared if action.help != argparse.SUPPRESS or _is_typed(action, arguments)]
    for action in shown:
        yield action.dest, _typed(action, arguments)
    for action in shown:
        for name in getattr(action, "parameters", ()):
            yield name, _typed(action, arguments)


def _is_typed(action: argparse.Action, arguments: Sequence[str]) -> bool:
    return any(word.partition("=")[0] in action.option_strings for word in arguments)


def _typed(action: argparse.Action, arguments: Sequence[str]) -> str:
    """Return the option as it was typed, or its long form."""
    typed = (word.partition("=")[0] for word in arguments)
    return next((word for word in typed if word in action.option_strings), action.option_strings[-1])
