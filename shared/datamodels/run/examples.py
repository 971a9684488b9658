"""Read the example specs that ship with the package: datamodels/examples/NAME.yaml."""

from __future__ import annotations

import difflib
from importlib import resources

from datamodels.errors import SpecError

FOLDER = resources.files("datamodels") / "examples"


def names() -> list[str]:
    """Return the names of all examples, sorted."""
    return sorted(file.name.removesuffix(".yaml") for file in FOLDER.iterdir() if file.name.endswith(".yaml"))


def text(name: str) -> str:
    """Return an example as YAML. Raises SpecError, which suggests similar names, if none has this name."""
    if name not in names():
        close = similar(name)
        hint = f"did you mean {' or '.join(close)}?" if close else f"the examples are {', '.join(names())}"
        raise SpecError(f"{name}: no such file or example; {hint}")
    return (FOLDER / f"{name}.yaml").read_text(encoding="utf-8")


def similar(name: str) -> list[str]:
    """Return the names of examples that a mistyped name may mean, the most similar first. Case does not count."""
    return difflib.get_close_matches(name.lower(), names())


def title(name: str) -> str:
    """Return the title of an example, its first comment line. Raises SpecError if none has this name."""
    return text(name).splitlines()[0].removeprefix("# ")
