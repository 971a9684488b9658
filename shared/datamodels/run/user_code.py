"""Say what code that a spec names has raised, and where in the user's own files."""

from __future__ import annotations

import os
import re
import sysconfig
import textwrap
import traceback
from collections.abc import Sequence
from pathlib import Path

from datamodels import environment, extras
from datamodels.errors import Terminated, one_line

OURS = str(Path(__file__).parents[1]) + os.sep
"""The folder of this package."""
PYTHON = tuple({sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib")})
"""The folders of the standard library."""
INSTALLED = re.compile(rf"^.*{os.sep}(site|dist)-packages{os.sep}")
"""The folder of installed packages, at the beginning of a path."""
SHOWN = 120
"""Most letters of an error about an environment variable."""
COMPILED = (".pyx", ".pxd", ".pxi")
"""Endings of sources of compiled modules. Their paths are relative to nothing that is here."""


def why(error: BaseException) -> str:
    """Say in one line what was raised, where, and what to install if a package is missing."""
    advice = extras.advice(error) if isinstance(error, ModuleNotFoundError) else ""
    place = where(error)
    return one_line(error) + (f" ({place})" if place else "") + (f"; needs {advice}" if advice else "")


ANYTHING = (Exception, SystemExit, KeyboardInterrupt)
"""What a user's code may raise. After catching it, call `pass_on`."""


def pass_on(error: BaseException) -> None:
    """Raise an error again if it is no fault of the user's code: it is a Ctrl-C or SIGTERM for the command.

    Only code that says so raises KeyboardInterrupt by itself.
    """
    if isinstance(error, Terminated):
        raise error
    if isinstance(error, KeyboardInterrupt):
        frames = traceback.extract_tb(error.__traceback__)
        if not frames or not (frames[-1].line or "").startswith("raise"):
            raise error


def of_environment(error: BaseException) -> str:
    """Say that a package could not be imported because of an environment variable; empty if nothing speaks for it."""
    frames = traceback.extract_tb(error.__traceback__)
    installed = [frame.filename for frame in frames if INSTALLED.search(frame.filename)]
    importing = any(frame.filename.startswith("<frozen importlib") for frame in frames)
    if not installed or not importing or isinstance(error, ModuleNotFoundError):
        return ""
    names = environment.blamed(str(error))
    if not names:
        return ""
    package = INSTALLED.sub("", installed[-1]).split(os.sep)[0].removesuffix(".py")
    variables = " and ".join(names)
    return (
        f"the package {package} cannot be imported, likely because of the environment variable {variables}: "
        f"{textwrap.shorten(one_line(error), SHOWN, placeholder=' ...')}; correct or unset it"
    )


def where(error: BaseException) -> str:
    """Return the last place in the user's code that an error passed, as "mine.py:12 in train"; empty if there is none.

    Code of installed packages counts only if no other is in the traceback: what the user can change is the call. If
    that is of a network of PyTorch, the place is the layer that failed.
    """
    if isinstance(error, SyntaxError) and error.filename:
        return f"{_shown(error.filename)}:{error.lineno}"
    stack = traceback.extract_tb(error.__traceback__)
    return place([(frame.filename, frame.lineno or 0, frame.name) for frame in stack])


def place(frames: Sequence[tuple[str, int, str]]) -> str:
    """Return what `where` returns, from the frames of a stack, the newest last: (file, line, function) each."""
    places = [frame for frame in frames if not _is_internal(frame[0])]
    written = [frame for frame in places if not INSTALLED.search(frame[0]) and not frame[0].endswith(COMPILED)]
    layers = [frame for frame in places if frame[2] == "forward"]
    for file, line, function in written[-1:] or layers[-1:] or places[:1]:
        return f"{_shown(file)}:{line} in {function}"
    return ""


def trace(error: BaseException) -> str:
    """Return the whole traceback, for logs."""
    return "".join(traceback.format_exception(error))


def _is_internal(filename: str) -> bool:
    """Return whether a file is part of this package or of Python, or no file at all."""
    return filename.startswith((OURS, "<")) or (filename.startswith(PYTHON) and not INSTALLED.search(filename))


def _shown(filename: str) -> str:
    """Return a path from the current folder, or from the folder of installed packages, if it is below one."""
    return INSTALLED.sub("", filename.removeprefix(os.getcwd() + os.sep))
