"""Read texts from the source: the modules of a package, and the strings below fields."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import itertools
import textwrap
from collections.abc import Iterator
from pathlib import Path

CORE, SERVICES = "datamodels", "datamodels.services"
"""Our packages."""


def modules(package: str) -> Iterator[tuple[str, str]]:
    """Yields the name and source of each module of a package, itself included, in order of names; imports only it."""
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise ValueError(f"{package}: is not a package")
    for folder in map(Path, found.submodule_search_locations):
        for path in sorted(folder.rglob("*.py")):
            name = ".".join((package, *path.relative_to(folder).with_suffix("").parts)).removesuffix(".__init__")
            yield name, path.read_text(encoding="utf-8")


def texts(cls: type) -> dict[str, str]:
    """Returns the strings below the fields of a class, by field, each on one line."""
    body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0].body
    found = {}
    for field, below in itertools.pairwise(body):
        if isinstance(field, ast.Assign | ast.AnnAssign) and isinstance(below, ast.Expr):
            target = field.target if isinstance(field, ast.AnnAssign) else field.targets[0]
            found[target.id] = one_line(ast.literal_eval(below.value))
    return found


def paragraphs(thing: object) -> list[str]:
    """Returns the paragraphs of a docstring, each on one line."""
    return [one_line(part) for part in (inspect.getdoc(thing) or "").split("\n\n")]


def one_line(text: str) -> str:
    return " ".join(text.split())
