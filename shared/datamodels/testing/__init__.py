"""Help to test against this package: docs/guides/testing.md.

committed, fitted  runs with outputs, and with weights, that no model was trained for
linear             a data set and trainers whose datamodels are known
server             the query service in this process, over given weights
stores             the tests that every object store must pass; this module alone needs pytest and Hypothesis
reference          a slow, plain LASSO to compare solvers with
"""

from __future__ import annotations

import importlib
from types import ModuleType

__all__ = ["committed", "fitted", "linear", "reference", "server", "stores"]


def __dir__() -> list[str]:
    return list(__all__)


def __getattr__(name: str) -> ModuleType:
    """Import a module of this package when it is first used."""
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
