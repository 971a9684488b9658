"""Check the values of a trainer's options."""

from __future__ import annotations

from collections.abc import Mapping

from datamodels.errors import SpecError


def check(values: Mapping[str, object], rules: Mapping[str, tuple[bool, str]]) -> None:
    """Check options against rules: for each name whether its value keeps the rule, and the rule in words.

    Raises SpecError with one line per fault.
    """
    faults = [
        f"trainer.options.{name} = {values[name]!r}: must be {rule}" for name, (good, rule) in rules.items() if not good
    ]
    if faults:
        raise SpecError(faults)


def check_counts(**values: int) -> None:
    """Check options that are counts of at least 1. Raises SpecError with one line per fault."""
    check(values, {name: (value >= 1, "at least 1") for name, value in values.items()})
