"""The page of the data sets and trainers that ship with the package."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from typing import Any

from datamodels.run import spellings
from docs.generate.callables import docstring, meanings, options
from docs.generate.markdown import code, sentence, table
from docs.generate.source import modules

HEAD = """\
# Built-in data sets and trainers

A spec names a data set as `dataset.load` and a trainer as `trainer.class`. Their options are `dataset.options` and
`trainer.options`. [Your own trainer](../guides/trainer.md) says how to write others.

"""
PACKAGES = ("datamodels.train.workloads", "datamodels.train.images", "datamodels.train.torch")


def page() -> str:
    loaders = "".join(_section(name, function, 0) for name, function in found() if not inspect.isclass(function))
    trainers = "".join(_section(name, cls, 2) for name, cls in found() if inspect.isclass(cls))
    return f"{HEAD}## Data sets\n\n{loaders}## Trainers\n\n{trainers}"


def found() -> Iterator[tuple[str, Any]]:
    """Yields (reference, function or class) of each data set and each trainer, in order of modules and names."""
    for package in PACKAGES:
        for module, _ in modules(package):
            public = vars(importlib.import_module(module)).items()
            for name, thing in sorted(public, key=lambda pair: pair[0]):
                ours = getattr(thing, "__module__", "") == module and not name.startswith("_")
                if ours and (_loads(thing) or _trains(thing)):
                    yield f"{module}:{name}", thing


def _loads(thing: Any) -> bool:
    return inspect.isfunction(thing) and inspect.signature(thing).return_annotation == "Dataset" and _optional(thing, 1)


def _trains(thing: Any) -> bool:
    """Returns whether a spec can name a class: it trains, and all its options have defaults."""
    return inspect.isclass(thing) and _is_trainer(thing) and _optional(thing, 2)


def _is_trainer(cls: type) -> bool:
    trains = hasattr(cls, "train_many") or (hasattr(cls, "train") and hasattr(cls, "outputs"))
    return trains and not inspect.isabstract(cls) and [*inspect.signature(cls).parameters][:2] == ["dataset", "targets"]


def _optional(thing: Any, skip: int) -> bool:
    parameters = list(inspect.signature(thing).parameters.values())[skip:]
    return all(parameter.default is not parameter.empty for parameter in parameters)


def _section(reference: str, thing: Any, skip: int) -> str:
    """Raises ValueError for an option that no docstring describes, of the function, or of the class and its bases."""
    old = {new: first for first, new in spellings.OPTIONS.get(reference, {}).items()}
    classes = getattr(thing, "__mro__", (thing, object))[:-1]
    said: dict[str, str] = {}
    for described in reversed(classes):
        said |= meanings(described)
    rows = []
    for name, kind, default in options(thing, skip):
        if name not in said:
            raise ValueError(f"{reference}: no docstring says what its option {name} means")
        formerly = f" Old name: {code(old[name])}." if name in old else ""
        rows.append((code(name), code(kind), code(default) or "required", sentence(said[name]) + formerly))
    shown = table(("option", "type", "default", "meaning"), rows) if rows else "It has no options.\n\n"
    bases = [base for base in classes[1:] if inspect.isabstract(base)]
    prose = "".join(docstring(described, items=False) for described in (thing, *bases))
    return f"### `{reference}`\n\n{prose}{shown}"
