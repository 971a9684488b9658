"""Render the page of errors and exit codes."""

from __future__ import annotations

import inspect

from datamodels import errors
from datamodels.errors import HTTP_STATUS, DatamodelsError, ExitCode
from docs.generate.markdown import code, table
from docs.generate.source import paragraphs, texts

HEAD = """\
# Errors and exit codes

A message says in one line what was wrong, where, and what to do. Over gRPC an error travels as a status with its gRPC
code, and over HTTP with the status beside it; a process that ends because of it ends with its exit code.

"""


def page() -> str:
    """Raises ValueError for an error without a meaning, or without a word on what to do."""
    kinds = [c for c in vars(errors).values() if inspect.isclass(c) and issubclass(c, DatamodelsError)]
    meanings = texts(ExitCode)
    codes = ((code(int(value)), code(value.name), meanings[value.name]) for value in sorted(ExitCode))
    return (
        HEAD
        + "## Exit codes\n\n"
        + table(("code", "name", "meaning"), codes)
        + "## Errors\n\n"
        + "Each class is a kind of the class in the second column. A client that catches that class catches both.\n\n"
        + table(("error", "a kind of", "gRPC code", "HTTP", "exit code", "meaning", "what to do"), map(_row, kinds))
    )


def _row(kind: type[DatamodelsError]) -> tuple[str, ...]:
    said = paragraphs(kind) if "__doc__" in vars(kind) else []
    if len(said) < 2:
        raise ValueError(
            f"{kind.__name__}: its docstring must say what it means and, in a second paragraph, what to do"
        )
    base = "" if kind is DatamodelsError else code(kind.__base__.__name__)
    status = HTTP_STATUS[kind.grpc_code]
    return code(kind.__name__), base, code(kind.grpc_code), str(status), code(int(kind.exit_code)), said[0], said[1]
