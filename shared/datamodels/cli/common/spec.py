"""Read the specs that the user names on the command line, and let them use the code that they name."""

from __future__ import annotations

from pathlib import Path

from datamodels.run import specs, trust
from datamodels.run.specs import RunSpec


def load_spec(path: str | Path) -> RunSpec:
    """Read a spec, or an example, and allow what it names: the user has chosen it. Raises SpecError."""
    return given_spec(specs.load(path))


def given_spec(spec: RunSpec) -> RunSpec:
    """Allow what a spec names that the options of a command make up, and return it."""
    trust.trust_spec(spec)
    return spec
