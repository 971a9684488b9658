"""Spell numbers and examples, so that messages, output and the report all spell them alike."""

from __future__ import annotations

from collections.abc import Sequence


def count(number: int, noun: str) -> str:
    """Spell a number of things: "1 epoch", "2,000 epochs"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def example(index: int, label: object = None) -> str:
    """Name a training example, or another column: "#397 (9)". A label of None or below 0 is not shown."""
    return f"#{index}{_shown(label)}"


def target(index: int, label: object = None) -> str:
    """Name a target: "target 17 (0)". A label of None or below 0 is not shown."""
    return f"target {index}{_shown(label)}"


def label(number: int | None, names: Sequence[str]) -> str:
    """Name a class: its name, or its number if it has none. Empty for None and for a number below 0."""
    if number is None or number < 0:
        return ""
    return names[number] if number < len(names) else str(number)


def _shown(label: object) -> str:
    return "" if label in (None, "") or (isinstance(label, int) and label < 0) else f" ({label})"
