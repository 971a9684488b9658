"""Read the example specs that ship with the package: datamodels/examples/NAME.yaml."""

from __future__ import annotations

from importlib import resources

from datamodels.errors import SpecError

FOLDER = resources.files("datamodels") / "examples"


def names() -> list[str]:
    """Return the names of all examples, sorted."""
    return sorted(file.name.removesuffix(".yaml") for file in FOLDER.iterdir() if file.name.endswith(".yaml"))


def text(name: str) -> str:
    """Return an example as YAML. Raises SpecError if none has this name."""
    if name not in names():
        raise SpecError(f"{name}: is neither a file nor an example; the examples are {', '.join(names())}")
    return (FOLDER / f"{name}.yaml").read_text(encoding="utf-8")


def title(name: str) -> str:
    """Return the title of an example, its first comment line. Raises SpecError if none has this name."""
    return text(name).splitlines()[0].removeprefix("# ")
